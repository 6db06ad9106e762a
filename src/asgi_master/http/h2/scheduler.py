"""Which response sends its next piece: by urgency, and among equals in turn or one after the other (RFC 9218 §10).

Streams of one urgency that are not incremental go one after the other, by their numbers; those that are incremental
take turns. Where there are both, the two groups take turns.

A client that never gave a priority knows nothing of RFC 9218, and does not mean that its second response is to wait
for the whole of its first: its streams all take turns. One that gave some, on the same connection, means the default
where it gave none.
"""

from bisect import insort
from collections import deque
from operator import attrgetter

from asgi_master.http.h2.engine import EngineStream
from asgi_master.http.h2.priority import DEFAULT_URGENCY

_LEVELS = 8
"""Urgencies, 0 the most urgent (RFC 9218 §4.1)."""

_by_id = attrgetter("stream_id")


class _Level:
    """The streams of one urgency."""

    __slots__ = ("ordered", "prefers_turns", "turns")

    def __init__(self) -> None:
        self.ordered: list[EngineStream] = []
        self.turns: deque[EngineStream] = deque()
        self.prefers_turns = False  # whether the next piece is one of `turns`, if there are both


class Scheduler:
    """The streams that have something to send and whose own windows let it through."""

    __slots__ = ("_levels", "is_aware", "places")

    def __init__(self) -> None:
        self._levels: list[_Level | None] = [None] * _LEVELS  # most connections need one at most
        self.places: dict[EngineStream, tuple[_Level, bool]] = {}
        """Those streams, each with its level, and whether it takes turns there."""
        self.is_aware = False
        """Whether the client has given a priority."""

    def add(self, stream: EngineStream) -> None:
        """Have the stream take part; it did not."""
        request = stream.request
        urgency, takes_turns = request.urgency, request.is_incremental
        if urgency != DEFAULT_URGENCY or takes_turns:
            self.is_aware = True
        elif not self.is_aware:
            takes_turns = True
        level = self._levels[urgency]
        if level is None:
            level = self._levels[urgency] = _Level()
        if takes_turns:
            level.turns.append(stream)
        else:
            insort(level.ordered, stream, key=_by_id)
        self.places[stream] = level, takes_turns

    def remove(self, stream: EngineStream) -> None:
        """Have the stream take part no more, if it did."""
        place = self.places.pop(stream, None)
        if place is not None:
            level, takes_turns = place
            if takes_turns:
                level.turns.remove(stream)
            else:
                level.ordered.remove(stream)

    def next(self) -> EngineStream:
        """The stream whose turn it is; there must be one. It still takes part, behind those it takes turns with."""
        for level in filter(None, self._levels):
            ordered, turns = level.ordered, level.turns
            if turns and (level.prefers_turns or not ordered):
                level.prefers_turns = False
                stream = turns[0]
                turns.rotate(-1)
                return stream
            if ordered:
                level.prefers_turns = True
                return ordered[0]
        raise AssertionError("no stream takes part")
