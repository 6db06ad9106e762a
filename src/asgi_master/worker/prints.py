"""What the application prints comes out line by line, whatever standard output is.

Python keeps some 8 KB of it back where that is no terminal, and lets it out at an orderly end: what was printed before
a kill would be lost, and what was printed before a fork come out twice.
"""

import contextlib
import io
import sys


def line_by_line() -> None:
    """Write each line of standard output as it ends. To be called before the application is imported."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.reconfigure(line_buffering=True)


def flush() -> None:
    """Let out what was printed without the end of a line. To be called before each fork."""
    for stream in (sys.stdout, sys.stderr):
        # None where there was no descriptor, anything where the application put something of its own.
        with contextlib.suppress(Exception):
            stream.flush()
