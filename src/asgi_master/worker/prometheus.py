"""Maintains the files of prometheus_client's multiprocess mode: live gauges of a dead process must not count.

The library expects the server to report dead processes. Only the names of its files are used here.
"""

import contextlib
import os
from pathlib import Path

_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def forget_process(pid: int) -> None:
    """Remove the files with the live gauges of a dead process, if the application uses such files."""
    directory = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    if not directory:
        return
    with contextlib.suppress(OSError):
        for file in Path(directory).glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)


def forget_this_process() -> None:
    """As `forget_process`; for the end of a worker."""
    forget_process(os.getpid())
