"""The files of prometheus_client's multiprocess mode: a live gauge of a process that is dead must not count any more.

The library leaves it to the server to say which process died. Its name for the files is all that is used of it.
"""

import contextlib
import os
from pathlib import Path

_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def forget_process(pid: int) -> None:
    """Remove what a dead process kept its live gauges in, if the application keeps such files."""
    directory = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "")
    if not directory:
        return
    with contextlib.suppress(OSError):
        for file in Path(directory).glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)


def forget_this_process() -> None:
    """As `forget_process`; for the end of a worker."""
    forget_process(os.getpid())
