"""Go on after a fault, of the system's or ours: it must not take the service down, nor fill the disk."""

import logging
from collections.abc import Callable

from asgi_master.telemetry.setbacks import Setbacks

_GOES_ON = "the master goes on"


class Outlive:
    """Call it to do something that may fail. Each order has a deadline behind it, so nothing depends on its success."""

    def __init__(self, setbacks: Setbacks | None = None) -> None:
        """`setbacks` counts what failed."""
        self._setbacks = setbacks or Setbacks()

    def __call__(self, work: Callable[..., object], *arguments: object) -> None:
        """Do it. What fails is told as `Setbacks` tell."""
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 -- it is told
            about = ", ".join(type(argument).__name__ for argument in arguments)
            what = f"{getattr(work, '__qualname__', repr(work))}({about})"
            self._setbacks.note(what, error, _GOES_ON, logging.ERROR)
