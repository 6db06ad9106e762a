"""`asgi-masterctl`: the client of the control interface."""

import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from asgi_master import __version__
from asgi_master.cli import health as health_of
from asgi_master.cli.ctl_exit import Exit
from asgi_master.cli.ctl_view import show_masters, show_stacks, show_status
from asgi_master.cli.rates import Sample
from asgi_master.control.client import Found, NoAnswerError, Reply, TookTooLongError, ask, find
from asgi_master.control.socket_paths import AUTO, OFF
from asgi_master.records import record
from asgi_master.telemetry.text import one_line

T = TypeVar("T")

_PROGRAM = "asgi-masterctl"
_ANSWER_TIMEOUT = 10.0
_RATE_PERIOD = 0.5
"""Seconds between the two samples that give requests a second and CPU."""
_SOCKET_VARIABLE = "ASGI_MASTER_CONTROL_SOCKET"


class _CommandError(Exception):
    def __init__(self, status: Exit, message: str) -> None:
        super().__init__(message)
        self.status = status


@record
class _Chosen:
    """The master to ask: the socket, and the pid of its process if known."""

    path: Path
    pid: int | None


_Pid = Annotated[int | None, typer.Option(metavar="PID", help="The master with this process id.")]
_Socket = Annotated[str | None, typer.Option(metavar="PATH", help="The master behind this control socket.")]
_Name = Annotated[str | None, typer.Option(metavar="NAME", help="The master of this name or application.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
_Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is over.")]
_Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=0.1, help="With --wait: no longer than this.")
]
_All = Annotated[bool, typer.Option("--all", help="The frames of asgi-master itself, too.")]
_Slot = Annotated[int, typer.Argument(metavar="SLOT", min=0)]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Inspect and control the asgi-master processes on this machine.",
)


@dataclass(slots=True)
class _Selection:
    """The options before the command that select a master."""

    pid: int | None = None
    socket: str | None = None
    name: str | None = None


_before = _Selection()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the program's) and return the exit status."""
    try:
        result = app(args=arguments, prog_name=_PROGRAM, standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK
    except _CommandError as error:
        print(f"{_PROGRAM}: {one_line(str(error))}", file=sys.stderr)  # noqa: T201 -- its way to speak
        return error.status
    return result if isinstance(result, int) else Exit.OK


@app.callback(invoke_without_command=True)
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    # Options before the command mean the same as after it.
    _before.pid, _before.socket, _before.name = pid, socket, name
    if version:
        _print(f"{_PROGRAM} {__version__}")
        raise typer.Exit


@app.command("list")
def list_masters(*, as_json: _Json = False) -> None:
    """List the running masters."""
    masters = find(os.environ, os.geteuid())
    if as_json:
        _print(
            json.dumps(
                [{"pid": m.pid, "socket": os.fspath(m.path), "status": m.status} for m in masters], indent=2
            )
        )
    elif masters:
        _show(show_masters, masters)
    else:
        raise _CommandError(Exit.NO_MASTER, "no running master found")


@app.command()
def status(*, as_json: _Json = False, pid: _Pid = None, socket: _Socket = None, name: _Name = None) -> None:
    """Show the master, its workers and the last reload."""
    chosen = _choose(pid, socket, name)
    reply = _request(chosen, "GET", "/status")
    if as_json:
        _print(json.dumps(reply.body, indent=2))
        return
    pids = [reply.pid, *(worker.get("pid") for worker in reply.body.get("workers", []))]
    before = Sample.take(reply.body, pids)
    time.sleep(_RATE_PERIOD)
    reply = _request(chosen, "GET", "/status")
    _show(partial(show_status, rates=Sample.take(reply.body, pids).since(before)), reply.body)


@app.command()
def health(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Whether the master lives, not whether it is ready.")
    ] = False,
    admin: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ask the master's --admin-bind, at this address.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1)] = health_of.TIMEOUT,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Exit with 0 if requests may be sent here: for the health checks of containers."""
    question = health_of.LIVE if live else health_of.READY
    named = any(word is not None for word in (pid, socket, name, *astuple(_before)))
    address = admin or ("" if named else os.environ.get(health_of.ADMIN_VARIABLE, ""))
    if address:
        raise typer.Exit(health_of.check_admin(address, question, timeout))
    try:
        chosen = _choose(pid, socket, name)
        reply = ask(chosen.path, "GET", f"/{question}", timeout=timeout, expected_pid=chosen.pid)
    except NoAnswerError as error:
        raise _CommandError(Exit.NO_MASTER, str(error)) from None
    except TookTooLongError as error:
        raise _CommandError(Exit.TIMED_OUT, str(error)) from None
    raise typer.Exit(health_of.report(health_of.Health(reply.is_done, reply.body.get("text") or reply.error)))


@app.command()
def reload(
    *,
    wait: _Wait = False,
    timeout: _Timeout = None,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Read settings and code again and replace the workers one by one; broken code changes nothing."""
    _send_command(_choose(pid, socket, name), "/reload", "reloading", wait=wait, timeout=timeout)


@app.command()
def rollback(
    *,
    wait: _Wait = False,
    timeout: _Timeout = None,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Return to the code before the last reload, while that is held; a reload under way is called off."""
    _send_command(_choose(pid, socket, name), "/rollback", "rolling back", wait=wait, timeout=timeout)


@app.command()
def scale(
    workers: Annotated[int, typer.Argument(metavar="WORKERS", min=1)],
    *,
    wait: _Wait = False,
    timeout: _Timeout = None,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Change the number of workers, until the next reload."""
    chosen = _choose(pid, socket, name)
    if wait:
        _request(chosen, "POST", "/scale", {"workers": workers, "wait": True}, timeout=timeout)
        _print(f"{workers} workers are ready" if workers > 1 else "1 worker is ready")
    else:
        _request(chosen, "POST", "/scale", {"workers": workers})
        _print(f"scaling to {workers}")


@app.command()
def drain(slot: _Slot, *, pid: _Pid = None, socket: _Socket = None, name: _Name = None) -> None:
    """Replace the worker of a slot: its successor is ready before it leaves."""
    _request(_choose(pid, socket, name), "POST", "/drain", {"slot": slot})
    _print(f"replacing the worker of slot {slot}")


@app.command()
def stacks(
    slot: Annotated[int | None, typer.Argument(metavar="[SLOT]", min=0, show_default=False)] = None,
    *,
    everything: _All = False,
    as_json: _Json = False,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Show what one slot's workers, or all, are doing: the tasks of their loops, the stacks of their threads."""
    reply = _request(_choose(pid, socket, name), "POST", "/stacks", {} if slot is None else {"slot": slot})
    if as_json:
        _print(json.dumps(reply.body, indent=2))
    else:
        _show(partial(show_stacks, everything=everything), reply.body)


@app.command()
def stop(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Cancel requests in flight.")] = False,
    wait: _Wait = False,
    timeout: _Timeout = None,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Stop the master and its workers; requests in flight may finish."""
    chosen = _choose(pid, socket, name)
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
        raise _CommandError(Exit.TIMED_OUT, f"still stopping after {timeout:g} s")
    _print("stopped")


def _send_command(chosen: _Chosen, target: str, accepted: str, *, wait: bool, timeout: float | None) -> None:
    """Send a request; with `wait`, print its outcome, and without, that it was `accepted`."""
    if wait:
        _print(
            one_line(
                _request(chosen, "POST", target, {"wait": True}, timeout=timeout).body.get("message", "")
            )
        )
    else:
        _request(chosen, "POST", target)
        _print(accepted)


def _hold(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise _CommandError(Exit.FAILED, f"cannot wait for process {pid}: {error.strerror}") from None


def _choose(pid: int | None, socket: str | None, name: str | None) -> _Chosen:
    """The one master that the options select."""
    pid = _before.pid if pid is None else pid
    socket = _before.socket if socket is None else socket
    name = _before.name if name is None else name
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
        raise _CommandError(
            Exit.USAGE, f"several masters run: select one by --pid, --name or --socket; running: {names}"
        )
    which = "" if pid is None and name is None else " of that pid or name"
    raise _CommandError(Exit.NO_MASTER, f"no running master{which} found")


def _behind(chosen: _Chosen, name: str | None) -> _Chosen:
    """The master behind the given socket, if it has the given name too."""
    if name is None:
        return chosen
    reply = _request(chosen, "GET", "/status")
    if not _fits(Found(chosen.path, reply.pid, reply.body), None, name):
        raise _CommandError(Exit.NO_MASTER, f"{chosen.path}: the master there has another name than {name}")
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
        raise _CommandError(Exit.NO_MASTER, str(error)) from None
    except TookTooLongError as error:
        raise _CommandError(Exit.TIMED_OUT, str(error)) from None
    if not reply.is_done:
        _fail(reply)
    return reply


def _show(view: Callable[[T], None], what: T) -> None:
    try:
        view(what)
    except (KeyError, TypeError):
        message = "the master has another version than this program; --json shows its reply"
        raise _CommandError(Exit.FAILED, message) from None


def _fail(reply: Reply) -> NoReturn:
    raise _CommandError(Exit.FAILED, reply.error)


def _print(text: str) -> None:
    print(text)  # noqa: T201 -- the output of the command
