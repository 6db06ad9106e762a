"""What a peer may have of frames that cost us work and it nothing, before the connection ends (RFC 9113 §10.5).

Allowances are token buckets: a stock, and so many more a second. A peer that is served needs more of them: one that
downloads opens windows, one that has many responses loses interest in some. So what was sent to it adds to them, and
what it takes to receive that is a multiple of what it may then send.
"""

from typing import Final

from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113 §5.4.1

_RESETS: Final = 200
_RESETS_A_SECOND: Final = 30.0
_CHORES: Final = 1000
_CHORES_A_SECOND: Final = 100.0

_PARTS_A_RESET: Final = 8
"""Parts of frames that were sent for each further reset; a small response has four, its headers and payloads."""
_BYTES_A_CHORE: Final = 1024
"""Bytes that were sent for each further chore, beside one for each part: some open a window after each small read."""


class TokenBucket:
    """So many at once, so many a second, and what is earned beside. Time is in seconds on a monotonic clock."""

    __slots__ = ("_earnings_spent", "_filled_at", "_rate", "_size", "_tokens")

    def __init__(self, size: int, rate: float) -> None:
        self._size = size
        self._rate = rate
        self._tokens = float(size)
        self._filled_at = 0.0  # it is full, whenever the first is taken
        self._earnings_spent = 0

    def take(self, now: float, earned: int) -> bool:
        """Take one; false if there is none. `earned` is how many more there are than with time, since the beginning."""
        tokens = min(self._size, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if tokens >= 1:
            self._tokens = tokens - 1
            return True
        self._tokens = tokens
        if self._earnings_spent < earned:
            self._earnings_spent += 1
            return True
        return False


class FloodGuard:
    """Counts what one connection's peer sends, and what is sent to it."""

    __slots__ = ("_chores", "_resets", "bytes_sent", "parts_sent", "resets")

    def __init__(self) -> None:
        self._resets = TokenBucket(_RESETS, _RESETS_A_SECOND)
        self._chores = TokenBucket(_CHORES, _CHORES_A_SECOND)
        self.resets = 0
        """Streams that ended before their time, by the peer or because of it."""
        self.parts_sent = 0
        """Headers and payloads of the frames that carry responses."""
        self.bytes_sent = 0

    def reset(self, now: float) -> None:
        """A stream ended before its time. Raises `ConnectionError` if too many do."""
        self.resets += 1
        if not self._resets.take(now, self.parts_sent // _PARTS_A_RESET):
            raise ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")

    def chore(self, now: float) -> None:
        """A frame came that asks for work and carries nothing. Raises `ConnectionError` if too many do."""
        if not self._chores.take(now, self.parts_sent + self.bytes_sent // _BYTES_A_CHORE):
            raise ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")
