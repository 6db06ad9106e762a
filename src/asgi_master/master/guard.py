"""Continue after a failure, of the system or of our own code: it must neither end the service nor fill the disk."""

import logging
from collections.abc import Callable

from asgi_master.telemetry.failure_log import FailureLog

GOES_ON = "the master goes on"


class Guard:
    """Call it to do something that may fail. Each order has a deadline behind it, so nothing depends on its success."""

    def __init__(self, failures: FailureLog | None = None) -> None:
        self.failures = failures or FailureLog()
        """Counts and logs the failures."""

    def __call__(self, work: Callable[..., object], *arguments: object) -> None:
        """Call `work`. A failure is logged, see `FailureLog`."""
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 -- it is logged
            about = ", ".join(type(argument).__name__ for argument in arguments)
            what = f"{getattr(work, '__qualname__', repr(work))}({about})"
            self.failures.failed(what, error, GOES_ON, logging.ERROR)
