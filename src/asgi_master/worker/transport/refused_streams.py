"""Log of streams of HTTP/2 that were refused since the worker runs too many, limited in rate."""

import logging

from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.telemetry.rate_limit import RateLimit

log = logging.getLogger("asgi_master")


class RefusedStreamLog:
    """The refused streams of one worker."""

    __slots__ = ("_limit", "_refused")

    def __init__(self) -> None:
        self._limit = RateLimit()
        self._refused = 0  # since the last line

    def log(self, quota: StreamQuota, now: float) -> None:
        """Log those that `quota` counts, at loop time `now`: a warning once a minute."""
        self._refused += quota.refused
        quota.refused = 0
        if self._limit.count("refused", now):
            log.warning(
                "refused %d HTTP/2 stream(s): the worker runs %d, of %d connection(s) (http2-max-streams)",
                self._refused,
                quota.running,
                quota.connections,
            )
            self._refused = 0
