"""The command line of `asgi-masterctl`, read by Typer: arguments to a command of `ctl_commands`."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from asgi_master import __version__
from asgi_master.cli import ctl_commands as commands
from asgi_master.cli.ctl_commands import Selection
from asgi_master.cli.ctl_exit import Exit
from asgi_master.cli.health import TIMEOUT

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

_before = Selection()
"""The options before the command mean the same as after it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the program's) and return the exit status."""
    try:
        return commands.exit_status(
            partial(app, args=arguments, prog_name=commands.PROGRAM, standalone_mode=True)
        )
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.OK


@app.callback(invoke_without_command=True)
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    global _before  # noqa: PLW0603 -- Typer calls this before the command, and hands nothing on
    _before = Selection(pid, socket, name)
    if version:
        print(f"{commands.PROGRAM} {__version__}")  # noqa: T201 -- the output of the command
        raise typer.Exit


@app.command("list")
def list_masters(*, as_json: _Json = False) -> None:
    """List the running masters."""
    commands.list_masters(as_json=as_json)


@app.command()
def status(*, as_json: _Json = False, pid: _Pid = None, socket: _Socket = None, name: _Name = None) -> None:
    """Show the master, its workers and the last reload."""
    commands.show_status(_selection(pid, socket, name), as_json=as_json)


@app.command()
def health(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Whether the master lives, not whether it is ready.")
    ] = False,
    admin: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ask the master's --admin-bind, at this address.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1)] = TIMEOUT,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Exit with 0 if requests may be sent here: for the health checks of containers."""
    selection = _selection(pid, socket, name)
    raise typer.Exit(commands.check_health(selection, admin, live=live, timeout=timeout))


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
    selection = _selection(pid, socket, name)
    commands.change_code(selection, "/reload", "reloading", wait=wait, timeout=timeout)


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
    selection = _selection(pid, socket, name)
    commands.change_code(selection, "/rollback", "rolling back", wait=wait, timeout=timeout)


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
    commands.scale(_selection(pid, socket, name), workers, wait=wait, timeout=timeout)


@app.command()
def drain(slot: _Slot, *, pid: _Pid = None, socket: _Socket = None, name: _Name = None) -> None:
    """Replace the worker of a slot: its successor is ready before it leaves."""
    commands.drain(_selection(pid, socket, name), slot)


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
    commands.show_stacks(_selection(pid, socket, name), slot, everything=everything, as_json=as_json)


@app.command()
def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print it once and exit.")] = False,
    as_json: _Json = False,
    pid: _Pid = None,
    socket: _Socket = None,
    name: _Name = None,
) -> None:
    """Show the fleet live: load, latency, memory, what requests wait for; with keys to reload, drain and more."""
    commands.show_top(_selection(pid, socket, name), once=once, as_json=as_json)


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
    commands.stop(_selection(pid, socket, name), quick=quick, wait=wait, timeout=timeout)


def _selection(pid: int | None, socket: str | None, name: str | None) -> Selection:
    return Selection(pid, socket, name).or_else(_before)
