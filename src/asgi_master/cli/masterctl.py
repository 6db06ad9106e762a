"""Entry point of `asgi-masterctl`: reads the commands that are repeated without Typer, which takes most of the time.

These are the health check of a container, `list` and `status`. Everything else is left to Typer: other commands, help
and errors.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

_CHECKS = {("health",): False, ("health", "--live"): True}
_SELECTION: dict[str, Callable[[str], Any]] = {"--pid": int, "--socket": str, "--name": str}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the program's) and return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = _health_check(words) or _view(words)
    if command is not None:
        return command()
    from asgi_master.cli.ctl import main as main_of_all  # noqa: PLC0415 -- Typer

    return main_of_all(arguments)


def _health_check(words: Sequence[str]) -> Callable[[], int] | None:
    """The health check of `--admin-bind`, if the words ask for it and the environment has the address."""
    live = _CHECKS.get(tuple(words))
    if live is None:
        return None
    from asgi_master.cli.health import ADMIN_VARIABLE, LIVE, READY, TIMEOUT, check_admin  # noqa: PLC0415

    address = os.environ.get(ADMIN_VARIABLE, "")
    return partial(check_admin, address, LIVE if live else READY, TIMEOUT) if address else None


def _view(words: Sequence[str]) -> Callable[[], int] | None:
    """`list` or `status`, if the words are those of one of them and need no explanation."""
    name, rest = (words[0], words[1:]) if words else ("", [])
    if name not in {"list", "status"}:
        return None
    as_json = "--json" in rest
    selection = _selection(iter([word for word in rest if word != "--json"]))
    if selection is None or (name == "list" and selection):
        return None
    from asgi_master.cli.ctl_commands import (  # noqa: PLC0415 -- only for these
        Selection,
        exit_status,
        list_masters,
        show_status,
    )

    if name == "list":
        return partial(exit_status, partial(list_masters, as_json=as_json))
    return partial(exit_status, partial(show_status, Selection(**selection), as_json=as_json))


def _selection(words: Iterator[str]) -> dict[str, Any] | None:
    """The options that select a master; `None` if the words are not such options, each with its value."""
    found: dict[str, Any] = {}
    for word in words:
        flag, equals, value = word.partition("=")
        if not equals:
            value = next(words, "-")
        convert = _SELECTION.get(flag)
        if convert is None or (not equals and value.startswith("-")):
            return None
        if convert is int and not (value.isascii() and value.isdigit()):
            return None
        found[flag.removeprefix("--")] = convert(value)
    return found
