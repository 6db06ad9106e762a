"""Line buffering for the application's standard output.

Unless it is a terminal, Python buffers about 8 KB and flushes them at an orderly exit: output before a kill would be
lost, and output before a fork printed twice.
"""

import contextlib
import io
import sys


def line_by_line() -> None:
    """Flush standard output at the end of each line. To be called before the application is imported."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.reconfigure(line_buffering=True)


def flush() -> None:
    """Flush an incomplete line. To be called before each fork."""
    for stream in (sys.stdout, sys.stderr):
        # `None` without a descriptor, and anything if the application replaced it.
        with contextlib.suppress(Exception):
            stream.flush()
