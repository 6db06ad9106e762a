"""The commands of `asgi-masterctl`, after the command line is read. Typer is not imported here."""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from asgi_master.cli.ctl_exit import Exit
from asgi_master.control.client import Found, NoAnswerError, Reply, TookTooLongError, ask, find
from asgi_master.control.socket_paths import AUTO, OFF
from asgi_master.records import record
from asgi_master.telemetry.text import one_line

T = TypeVar("T")

PROGRAM = "asgi-masterctl"
_ANSWER_TIMEOUT = 10.0
_LIVE_TIMEOUT = 3.0
_RATE_PERIOD = 0.5
"""Seconds between the two samples that give requests a second and CPU."""
_SOCKET_VARIABLE = "ASGI_MASTER_CONTROL_SOCKET"


class CommandError(Exception):
    """A command failed: the exit status, and one line."""

    def __init__(self, status: Exit, message: str) -> None:
        super().__init__(message)
        self.status = status


@record
class Selection:
    """The options that select a master."""

    pid: int | None = None
    socket: str | None = None
    name: str | None = None

    def or_else(self, other: "Selection") -> "Selection":
        """Those options, and the `other`'s where they are not given."""
        return Selection(
            other.pid if self.pid is None else self.pid,
            other.socket if self.socket is None else self.socket,
            other.name if self.name is None else self.name,
        )


@record
class _Chosen:
    """The master to ask: the socket, and the pid of its process if known."""

    path: Path
    pid: int | None


def exit_status(command: Callable[[], object]) -> int:
    """Execute a command; returns the exit status, after printing the error if it failed."""
    try:
        result = command()
    except CommandError as error:
        print(f"{PROGRAM}: {one_line(str(error))}", file=sys.stderr)  # noqa: T201 -- its way to speak
        return error.status
    return result if isinstance(result, int) else Exit.OK


def list_masters(*, as_json: bool = False) -> None:
    """List the running masters."""
    masters = find(os.environ, os.geteuid())
    if as_json:
        _print(
            json.dumps(
                [{"pid": m.pid, "socket": os.fspath(m.path), "status": m.status} for m in masters], indent=2
            )
        )
    elif masters:
        from asgi_master.cli.ctl_view import show_masters  # noqa: PLC0415 -- Rich, only for tables

        _show(show_masters, masters)
    else:
        raise CommandError(Exit.NO_MASTER, "no running master found")


def show_status(selection: Selection, *, as_json: bool = False) -> None:
    """Show the master, its workers and the last reload."""
    chosen = _choose(selection)
    reply = _request(chosen, "GET", "/status")
    if as_json:
        _print(json.dumps(reply.body, indent=2))
        return
    from asgi_master.cli.rates import Sample  # noqa: PLC0415 -- only for tables

    pids = [reply.pid, *(worker.get("pid") for worker in reply.body.get("workers", []))]
    before = Sample.take(reply.body, pids)
    from asgi_master.cli.ctl_view import show_status as show  # noqa: PLC0415 -- Rich, in the time between the samples

    time.sleep(max(0.0, before.at + _RATE_PERIOD - time.monotonic()))
    reply = _request(chosen, "GET", "/status")
    _show(partial(show, rates=Sample.take(reply.body, pids).since(before)), reply.body)


def check_health(selection: Selection, admin: str | None, *, live: bool, timeout: float) -> Exit:
    """Check whether requests may be sent to the master, or with `live` whether it lives."""
    from asgi_master.cli import health  # noqa: PLC0415 -- http.client, only for an address

    question = health.LIVE if live else health.READY
    named = any(word is not None for word in astuple(selection))
    address = admin or ("" if named else os.environ.get(health.ADMIN_VARIABLE, ""))
    if address:
        return health.check_admin(address, question, timeout)
    try:
        chosen = _choose(selection)
        reply = ask(chosen.path, "GET", f"/{question}", timeout=timeout, expected_pid=chosen.pid)
    except NoAnswerError as error:
        raise CommandError(Exit.NO_MASTER, str(error)) from None
    except TookTooLongError as error:
        raise CommandError(Exit.TIMED_OUT, str(error)) from None
    return health.report(health.Health(reply.is_done, reply.body.get("text") or reply.error))


def change_code(
    selection: Selection, target: str, accepted: str, *, wait: bool, timeout: float | None
) -> None:
    """Request a reload or rollback; with `wait` print its outcome, without that it was `accepted`."""
    chosen = _choose(selection)
    if wait:
        reply = _request(chosen, "POST", target, {"wait": True}, timeout=timeout)
        _print(one_line(reply.body.get("message", "")))
    else:
        _request(chosen, "POST", target)
        _print(accepted)


def scale(selection: Selection, workers: int, *, wait: bool, timeout: float | None) -> None:
    """Change the number of workers, until the next reload."""
    chosen = _choose(selection)
    if wait:
        _request(chosen, "POST", "/scale", {"workers": workers, "wait": True}, timeout=timeout)
        _print(f"{workers} workers are ready" if workers > 1 else "1 worker is ready")
    else:
        _request(chosen, "POST", "/scale", {"workers": workers})
        _print(f"scaling to {workers}")


def drain(selection: Selection, slot: int) -> None:
    """Replace the worker of a slot."""
    _request(_choose(selection), "POST", "/drain", {"slot": slot})
    _print(f"replacing the worker of slot {slot}")


def show_stacks(selection: Selection, slot: int | None, *, everything: bool, as_json: bool) -> None:
    """Show the tasks and stacks of one slot's workers, or of all."""
    reply = _request(_choose(selection), "POST", "/stacks", {} if slot is None else {"slot": slot})
    if as_json:
        _print(json.dumps(reply.body, indent=2))
        return
    from asgi_master.cli.ctl_view import show_stacks as show  # noqa: PLC0415 -- Rich, only for tables

    _show(partial(show, everything=everything), reply.body)


def show_top(selection: Selection, *, once: bool, as_json: bool) -> None:
    """Show the fleet live until the user quits; without a terminal, or if `once`, as it is now."""
    chosen = _choose(selection)
    from asgi_master.cli.top.fetcher import STATUS  # noqa: PLC0415 -- only for this command

    document = _request(chosen, "GET", STATUS).body
    if as_json:
        _print(json.dumps(document, indent=2))
    elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        from asgi_master.cli.top.once import show  # noqa: PLC0415 -- Rich

        stacks = None
        if any(worker["in_flight"] for worker in document["status"]["workers"]):
            stacks = _request(chosen, "POST", "/stacks").body
        _show(partial(show, stacks=stacks), document)
    else:
        from asgi_master.cli.top.screen import run  # noqa: PLC0415 -- Rich

        run(lambda *request: ask(chosen.path, *request, timeout=_LIVE_TIMEOUT, expected_pid=chosen.pid))


def stop(selection: Selection, *, quick: bool, wait: bool, timeout: float | None) -> None:
    """Stop the master and its workers."""
    chosen = _choose(selection)
    master = None
    if wait:
        # The pidfd is opened before the request, so that the pid cannot be reused by another process.
        pid = _request(chosen, "GET", "/status").pid
        chosen, master = _Chosen(chosen.path, pid), _hold(pid)
    _request(chosen, "POST", "/stop", {"quick": quick})
    if master is None:
        _print("stopping")
        return
    if not select.select([master], [], [], timeout)[0]:
        raise CommandError(Exit.TIMED_OUT, f"still stopping after {timeout:g} s")
    _print("stopped")


def _hold(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise CommandError(Exit.FAILED, f"cannot wait for process {pid}: {error.strerror}") from None


def _choose(selection: Selection) -> _Chosen:
    """The one master that the options select."""
    pid, socket, name = astuple(selection)
    given = socket if socket is not None else os.environ.get(_SOCKET_VARIABLE, "")
    if socket is not None or (pid is None and name is None and given not in {"", AUTO, OFF}):
        return _behind(_Chosen(Path(given), pid), name)
    running = find(os.environ, os.geteuid())
    fitting = [master for master in running if _fits(master, pid, name)]
    if len(fitting) == 1:
        (master,) = fitting
        # Another process may listen there by the time of the request. Of a master that did not answer nothing more is
        # known.
        return _Chosen(master.path, master.pid if master.status is not None else None)
    if fitting:
        names = ", ".join(f"{master.pid} ({master.name or 'silent'})" for master in fitting)
        raise CommandError(
            Exit.USAGE, f"several masters run: select one by --pid, --name or --socket; running: {names}"
        )
    which = "" if pid is None and name is None else " of that pid or name"
    raise CommandError(Exit.NO_MASTER, f"no running master{which} found")


def _behind(chosen: _Chosen, name: str | None) -> _Chosen:
    """The master behind the given socket, if it has the given name too."""
    if name is None:
        return chosen
    reply = _request(chosen, "GET", "/status")
    if not _fits(Found(chosen.path, reply.pid, reply.body), None, name):
        raise CommandError(Exit.NO_MASTER, f"{chosen.path}: the master there has another name than {name}")
    return _Chosen(chosen.path, reply.pid)


def _fits(master: Found, pid: int | None, name: str | None) -> bool:
    if pid is not None and master.pid != pid:
        return False
    app_name = (master.status or {}).get("app")
    return name is None or name in {master.name, app_name}


def _request(
    chosen: _Chosen,
    method: str,
    target: str,
    body: dict[str, Any] | None = None,
    *,
    timeout: float | None = _ANSWER_TIMEOUT,
) -> Reply:
    """The reply of a master that executed the command; otherwise exits."""
    try:
        reply = ask(chosen.path, method, target, body, timeout=timeout, expected_pid=chosen.pid)
    except NoAnswerError as error:
        raise CommandError(Exit.NO_MASTER, str(error)) from None
    except TookTooLongError as error:
        raise CommandError(Exit.TIMED_OUT, str(error)) from None
    if not reply.is_done:
        _fail(reply)
    return reply


def _show(view: Callable[[T], None], what: T) -> None:
    try:
        view(what)
    except (KeyError, TypeError):
        message = "the master has another version than this program; --json shows its reply"
        raise CommandError(Exit.FAILED, message) from None


def _fail(reply: Reply) -> NoReturn:
    raise CommandError(Exit.FAILED, reply.error)


def _print(text: str) -> None:
    print(text)  # noqa: T201 -- the output of the command
