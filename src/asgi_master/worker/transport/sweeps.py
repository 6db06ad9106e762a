"""When the time-outs of each connection are looked at: a wheel of one bucket a second.

A connection that waits for nothing but a time-out that is far away rests until then, and costs nothing meanwhile. As
soon as it is used it is woken: its other time-outs are then looked at each second, until it rests again.
"""

from typing import Generic, Protocol, TypeVar

_LONGEST_REST = 3600.0
"""Seconds, also where no time-out ends a rest."""


class Swept(Protocol):
    """A connection, as far as it matters here."""

    rests_until: int
    """The bucket that it is in, a whole second of the loop's time; 0 if it is looked at in the next second."""


T = TypeVar("T", bound=Swept)


class Sweeps(Generic[T]):
    """The wheel of one worker."""

    __slots__ = ("_buckets", "_soon")

    def __init__(self) -> None:
        self._soon: set[T] = set()
        self._buckets: dict[int, set[T]] = {}

    def add(self, connection: T) -> None:
        """A new connection."""
        connection.rests_until = 0
        self._soon.add(connection)

    def wake(self, connection: T) -> None:
        """Look at a connection that rests in the next second."""
        self.discard(connection)
        self.add(connection)

    def discard(self, connection: T) -> None:
        """The connection is gone."""
        if connection.rests_until:
            self._buckets[connection.rests_until].discard(connection)
        else:
            self._soon.discard(connection)

    def take(self, now: float) -> list[T]:
        """Those that are to be looked at in the second that begins at loop time `now`."""
        taken = list(self._soon)
        for second in [second for second in self._buckets if second <= now]:
            for connection in self._buckets.pop(second):
                connection.rests_until = 0
                self._soon.add(connection)
                taken.append(connection)
        return taken

    def rest(self, connection: T, until: float, now: float) -> None:
        """Let the connection rest until that loop time, if it is more than a second away."""
        until = min(until, now + _LONGEST_REST)
        if until > now + 1 and not connection.rests_until:
            self._soon.discard(connection)
            # Rounded up, so that the time-out is over by then.
            connection.rests_until = second = int(until) + 1
            self._buckets.setdefault(second, set()).add(connection)
