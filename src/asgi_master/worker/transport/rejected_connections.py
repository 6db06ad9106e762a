"""Log of rejected connections, limited in rate: a peer must not be able to fill the log."""

import logging
from enum import Enum, auto

from asgi_master.telemetry.rate_limit import RateLimit

log = logging.getLogger("asgi_master")


class Rejection(Enum):
    """Why a connection is rejected. Each kind has its own limit, so that one does not silence the other."""

    PEER = auto()
    """The peer may not connect, or its PROXY header is wrong."""
    CERTIFICATE = auto()
    """TLS rejected the client's certificate."""


class RejectedConnectionLog:
    """The rejected connections of one worker."""

    __slots__ = ("_limit",)

    def __init__(self) -> None:
        self._limit = RateLimit()

    def log(self, kind: Rejection, peer: str, reason: str, now: float) -> None:
        """Log a connection rejected at loop time `now`: a warning once a minute, with a count, else a debug line."""
        times = self._limit.count(kind, now)
        more = f" (and {times - 1} more connections since the last such line)" if times > 1 else ""
        level = logging.WARNING if times else logging.DEBUG
        log.log(level, "refused a connection from %s: %s%s", peer, reason, more)
