"""How many streams all connections of a worker may have at once, and how they share them.

SETTINGS_MAX_CONCURRENT_STREAMS bounds one connection. Many connections of that many streams would be so many tasks that
one pass of the garbage collector over them takes as long as many requests.
"""

import sys


class StreamQuota:
    """The streams of one worker.

    Up to `most` of them, connections may have what SETTINGS allow. Beyond, one with a fair share or more has none in
    addition, so that a connection with few streams is served however many others hold. Beyond twice as many, each may
    have but one.
    """

    __slots__ = ("connections", "most", "refused", "running")

    def __init__(self, most: int) -> None:
        """`most` is 0 for any number."""
        self.most = most or sys.maxsize
        self.connections = 0
        """Connections that speak HTTP/2."""
        self.running = 0
        """Streams whose application has not returned."""
        self.refused = 0
        """Streams that were refused, since whoever reports them has set this to 0."""

    @property
    def has_room(self) -> bool:
        """Whether so few run that connections may be told to have more than their share."""
        return self.running < self.most - self.most // 4

    @property
    def share(self) -> int:
        """Streams that each connection may have in any case; at least 1."""
        if self.running >= 2 * self.most:
            return 1  # connections that came one after the other have had larger shares
        return max(1, self.most // max(1, self.connections))
