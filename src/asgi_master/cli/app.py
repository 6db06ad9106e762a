"""`asgi-master [OPTIONS] APP`: from a command line to an exit status.

Signal handlers are installed before the imports, which take most of the start: the kernel drops SIGTERM for the first
process of a container unless it has a handler (pid_namespaces(7)). So this module imports little at its top.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NoReturn

from asgi_master import __version__
from asgi_master.errors import AsgiMasterError, ExitCode, SettingsError, converting_os_errors

if TYPE_CHECKING:
    from asgi_master.cli.command_line import CommandLine
    from asgi_master.master.early_zygote import EarlyZygote
    from asgi_master.settings.resolve import Resolved

_PROGRAM = "asgi-master"
_DEV = "dev"
_ONLY_PRINT = {"--help", "-h", "--help-all", "--version", "--check-config", "--print-config"}
"""Options that need no zygote. With any other command line one is started before the rest is read (ADR 8)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the program's) and return the exit status."""
    with _exiting_on_signals():
        return _run(arguments)


@contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Exit at once on a stop signal, until the master installs its own handlers."""
    before = {
        signum: signal.signal(signum, _exit_now) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _exit_now(_signum: int, _frame: object) -> NoReturn:
    # No process has been started that would not end by itself. An exception might get lost: Python's import machinery
    # swallows those raised while it compiles or calls back.
    os._exit(ExitCode.OK)


def _run(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    match words:
        # Loading all options takes ten times as long as these answers.
        case ["--version"]:
            return _print_version()
        case ["--help" | "-h"]:
            return _print_help()
    try:
        with ExitStack() as held:
            # Nothing that is imported from here on delays the zygote.
            early_zygote = None if _ONLY_PRINT.intersection(words) else _start_zygote(held)
            if words[:1] == [_DEV]:
                words = _for_development(words[1:])
            from asgi_master.cli.fast_parser import parse_fast  # noqa: PLC0415 -- after the handlers

            return _execute(parse_fast(words) or _parse_with_typer(words), early_zygote, held)
    except SettingsError as error:
        return _report_errors(error.errors, error.exit_code, words)
    except AsgiMasterError as error:
        return _report_errors([str(error)], error.exit_code, words)
    except (OSError, MemoryError) as error:
        # A running master survives these. At a start, they are reported.
        from asgi_master.telemetry.failure_log import describe  # noqa: PLC0415 -- as in `main`

        what = f"the operating system reports: {describe(error)}"
        return _report_errors([what], ExitCode.FAILURE, words)


def _for_development(words: Sequence[str]) -> list[str]:
    """The command line that `dev` stands for. Raises `SettingsError`."""
    from asgi_master.cli.dev import announce, expand  # noqa: PLC0415 -- development alone needs it

    development = expand(words, os.environ)
    announce(development)
    if development.opens:
        from asgi_master.cli.open_browser import open_when_served  # noqa: PLC0415

        open_when_served(development.opens)
    return development.words


def _start_zygote(held: ExitStack) -> "EarlyZygote":
    with converting_os_errors("cannot start"):
        from asgi_master.master.early_zygote import EarlyZygote  # noqa: PLC0415 -- as in `main`

        return held.enter_context(EarlyZygote(os.environ))


def _parse_with_typer(words: Sequence[str]) -> "CommandLine":
    from asgi_master.cli.typer_parser import parse_with_typer  # noqa: PLC0415 -- half of a master's memory

    return parse_with_typer(words)


def _execute(command_line: "CommandLine", early_zygote: "EarlyZygote | None", held: ExitStack) -> int:
    if command_line.help or command_line.help_all:
        return _print_help(everything=command_line.help_all)
    if command_line.version:
        return _print_version()
    if command_line.check:
        return _rehearse(command_line, early_zygote or _start_zygote(held))
    if command_line.print_config or command_line.check_config:
        with converting_os_errors("cannot read the settings"):
            return _show_settings(command_line)
    early_zygote = early_zygote or _start_zygote(held)
    with converting_os_errors("cannot start"):
        with _no_collections():
            from asgi_master.master.main import run  # noqa: PLC0415 -- what the first zygote is ahead of

        read = _reader(command_line)
    return run(lambda: read().settings, early_zygote)


@contextmanager
def _no_collections() -> Iterator[None]:
    """For imports: collections find next to nothing then, and take a tenth of the time. Later ones pass over them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _show_settings(command_line: "CommandLine") -> int:
    from asgi_master.settings.directory import working_directory  # noqa: PLC0415 -- as in `main`
    from asgi_master.settings.resolve import to_toml  # noqa: PLC0415

    resolved = _reader(command_line)()
    if command_line.print_config:
        print(to_toml(resolved), end="")  # noqa: T201 -- the output of the command
        return ExitCode.OK
    from asgi_master.master.preconditions import refusals  # noqa: PLC0415 -- as in `main`
    from asgi_master.master.privileges import exposures  # noqa: PLC0415 -- as in `main`

    directory = working_directory(os.environ) / resolved.settings.application.chdir
    if errors := refusals(resolved.settings, directory):
        raise SettingsError(errors)
    for line in exposures(resolved.settings, directory):
        print(f"{_PROGRAM}: warning: {line}", file=sys.stderr)  # noqa: T201 -- there is no log
    print("Configuration OK.")  # noqa: T201 -- the output of the command
    return ExitCode.OK


def _rehearse(command_line: "CommandLine", early_zygote: "EarlyZygote") -> int:
    from asgi_master.master.rehearsal import rehearse  # noqa: PLC0415 -- what the first zygote is ahead of

    read = _reader(command_line)
    app = read().settings.application.app
    status = rehearse(lambda: read().settings, early_zygote)
    if status is not ExitCode.OK:
        what = "would not start" if status is ExitCode.BOOT_FAILED else "was stopped before the check ended"
        return _report_errors([f"{app} {what}"], status, sys.argv[1:])
    print(f"{app} would start.")  # noqa: T201 -- the output of the command
    return ExitCode.OK


def _reader(command_line: "CommandLine") -> "Callable[[], Resolved]":
    """A function that reads the settings: for the start and for each reload."""
    from asgi_master.settings.directory import working_directory  # noqa: PLC0415 -- as in `main`
    from asgi_master.settings.resolve import resolve  # noqa: PLC0415

    directory = working_directory(os.environ)
    return lambda: resolve(command_line.flags, os.environ, directory, config=command_line.config)


def _print_version() -> int:
    print(f"{_PROGRAM} {__version__}")  # noqa: T201 -- the output of the command
    return ExitCode.OK


def _print_help(*, everything: bool = False) -> int:
    from asgi_master.cli.help import all_pages, first_page  # noqa: PLC0415 -- as in `main`

    print(all_pages() if everything else first_page(), end="")  # noqa: T201 -- the output of the command
    return ExitCode.OK


def _report_errors(lines: Sequence[str], status: ExitCode, words: Sequence[str]) -> int:
    from asgi_master.cli.error_report import report_errors  # noqa: PLC0415 -- only where something is wrong

    report_errors(_PROGRAM, lines, words, os.environ)
    return status
