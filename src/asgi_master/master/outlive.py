"""Go on after a fault of ours: it must not take the service down, nor fill the disk."""

import logging
import time
from collections.abc import Callable

from asgi_master.telemetry.seldom import Seldom

log = logging.getLogger("asgi_master")

_PERIOD = 60.0


class Outlive:
    """Call it to do something that may fail. Each order has a deadline behind it, so nothing depends on its success."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seldom = Seldom(_PERIOD)

    def __call__(self, work: Callable[..., object], *arguments: object) -> None:
        """Do it. What fails is logged with its traceback, the same at the same place once a minute."""
        try:
            work(*arguments)
        except Exception as error:
            name = getattr(work, "__qualname__", work)
            times = self._seldom.count((type(error), _place(error)), self._clock())
            if times == 1:
                log.exception("%s%r failed; the master goes on", name, arguments)
            elif times:
                log.exception("%s%r failed, for the %dth time in a while", name, arguments, times)


def _place(error: BaseException) -> tuple[str, int]:
    """Where it was raised."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return ("", 0) if frames is None else (frames.tb_frame.f_code.co_filename, frames.tb_lineno)
