"""The watcher behind `--reload`: reports changes of source files to the master through a pipe.

The master starts it as `python -m asgi_master.reloader FD [--include GLOB]... [--exclude GLOB]... DIR...`: a separate
process, because watchfiles brings threads and native code. It writes one line to FD per batch of changes, a JSON list
of the first paths, and ends when FD has no reader or its parent dies. The master decides what to do on a change.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePath

from asgi_master.errors import ExitCode
from asgi_master.ipc.prctl import signal_when_parent_dies
from asgi_master.telemetry.text import one_line

DEFAULT_INCLUDES = ("*.py",)

_QUIET_MS = 20
"""Changes are reported once there were no others for this long, or after `_LONGEST_MS`: editors write several files."""
_LONGEST_MS = 200
_MOST_NAMES = 20
"""Paths in a line, each shorter than the system allows: a line fits a pipe."""
_LOOK_UP_PERIOD_MS = 1000
"""Interval of the check for a reader while nothing changes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until the pipe has no reader; returns the exit status."""
    parser = argparse.ArgumentParser(prog="asgi_master.reloader")
    parser.add_argument("fd", type=int)
    parser.add_argument("--include", action="append", metavar="GLOB")
    parser.add_argument("--exclude", action="append", metavar="GLOB", default=[])
    parser.add_argument("directories", nargs="+")
    options = parser.parse_args(arguments)
    # The master stops this process. Python's default handler would print a traceback on an interrupt from the terminal.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    signal_when_parent_dies(signal.SIGTERM)
    for directory in options.directories:
        if not Path(directory).is_dir():
            return _fail(f"--reload cannot watch {directory}: there is no such directory")
    try:
        watch(options.fd, options.directories, tuple(options.include or DEFAULT_INCLUDES), options.exclude)
    except ModuleNotFoundError:
        return _fail('--reload needs watchfiles: pip install "asgi-master[reload]"')
    except (OSError, RuntimeError) as error:
        # For example, the kernel's limit on watches.
        return _fail(f"--reload cannot watch: {error}")
    return ExitCode.OK


def watch(fd: int, directories: Sequence[str], includes: Sequence[str], excludes: Sequence[str]) -> None:
    """Write a line to `fd` for each batch of changes below `directories`, until it has no reader."""
    import watchfiles  # noqa: PLC0415 -- optional: only development needs it

    ignored = watchfiles.DefaultFilter()  # .git, __pycache__, editors' backup files

    def matters(change: watchfiles.Change, path: str) -> bool:
        return ignored(change, path) and is_included(path, includes) and not is_included(path, excludes)

    for changes in watchfiles.watch(
        *directories,
        watch_filter=matters,
        debounce=_LONGEST_MS,
        step=_QUIET_MS,
        rust_timeout=_LOOK_UP_PERIOD_MS,
        yield_on_timeout=True,
    ):
        if not _is_read(fd):
            return
        if changes:
            with contextlib.suppress(BrokenPipeError):
                os.write(fd, line_of(path for _, path in changes))


def line_of(paths: Iterable[str]) -> bytes:
    """The line for a batch."""
    return json.dumps(sorted(set(paths))[:_MOST_NAMES]).encode() + b"\n"


def is_included(path: str, includes: Sequence[str]) -> bool:
    """Whether a pattern matches the file's name or, if it has a slash, the end of its path."""
    pure = PurePath(path)
    return any(pure.match(glob) if "/" in glob else fnmatch(pure.name, glob) for glob in includes)


def _is_read(fd: int) -> bool:
    """Whether the other end of the pipe is open."""
    poll = select.poll()
    poll.register(fd, 0)
    return not poll.poll(0)


def _fail(sentence: str) -> int:
    sys.stderr.write(f"asgi-master: {one_line(sentence)}\n")
    return ExitCode.USAGE


if __name__ == "__main__":
    sys.exit(main())
