"""Tells the log of refused connections, seldom: what anybody can cause must not fill it."""

import logging

log = logging.getLogger("asgi_master")

_TELL_EVERY = 60.0
"""Seconds between two warnings."""


class Refusals:
    """The refused connections of one worker."""

    __slots__ = ("_next", "_untold")

    def __init__(self) -> None:
        self._next = 0.0
        self._untold = 0

    def tell(self, who: str, reason: str, now: float) -> None:
        """A connection of `who` was refused at loop time `now`: a warning, or only counted if there was one lately."""
        if now < self._next:
            self._untold += 1
            log.debug("refused a connection from %s: %s", who, reason)
            return
        more = f" (and {self._untold} more connections since the last such line)" if self._untold else ""
        log.warning("refused a connection from %s: %s%s", who, reason, more)
        self._next = now + _TELL_EVERY
        self._untold = 0
