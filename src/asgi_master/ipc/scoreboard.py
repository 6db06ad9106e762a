"""One shared page of numbers per worker: written by the worker, read by the master and its siblings.

Rules:
  - Each field has one writer. Words are 8 bytes, aligned, and stored whole, so readers see old or new, never half.
  - A reader trusts a row only while it is fresh: a dead or stuck worker's numbers stay behind.
  - Counters only grow, whoever dies: the master adds those of a row that it frees to its own row, the header.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

_WORDS = 64  # 512 bytes a row: no two workers share a cache line
_ROWS = 1024
_BYTES = _ROWS * _WORDS * 8


class RowState(IntEnum):
    """What a row's worker is doing, as far as accepting goes."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    STANDBY = 4
    """A spare that could accept, and does not."""


class Field(IntEnum):
    """The words of a row. Totals only grow while the row belongs to one worker."""

    STATE = 0
    PID = 1
    SLOT = 2
    GENERATION = 3
    HEARTBEAT_NS = 4
    """`CLOCK_MONOTONIC` of the last turn of the worker's loop timer."""
    CONNECTIONS = 5
    WEBSOCKETS = 6
    IN_FLIGHT = 7
    ACCEPTED = 8
    REQUESTS = 9
    RESPONSES_1XX = 10
    RESPONSES_2XX = 11
    RESPONSES_3XX = 12
    RESPONSES_4XX = 13
    RESPONSES_5XX = 14
    APPLICATION_ERRORS = 15
    LOOP_LAG_NS = 16
    """How late the last heartbeat was."""
    RESPONSE_TIME_NS = 17
    """Of all responses in the buckets, together."""
    STREAMS = 18
    """Responses that came in pieces and are complete; they are in no bucket."""
    STREAM_TIME_NS = 19
    WEBSOCKETS_ENDED = 20
    WEBSOCKET_TIME_NS = 21
    LATE_ERRORS = 22
    """Of the application errors, those after a response (or WebSocket) had begun that is not counted as 5xx."""
    TLS_FAILURES = 23
    """TLS handshakes that failed, or took too long."""


COUNTERS = (
    Field.ACCEPTED,
    Field.REQUESTS,
    Field.RESPONSES_1XX,
    Field.RESPONSES_2XX,
    Field.RESPONSES_3XX,
    Field.RESPONSES_4XX,
    Field.RESPONSES_5XX,
    Field.APPLICATION_ERRORS,
    Field.RESPONSE_TIME_NS,
    Field.STREAMS,
    Field.STREAM_TIME_NS,
    Field.WEBSOCKETS_ENDED,
    Field.WEBSOCKET_TIME_NS,
    Field.LATE_ERRORS,
    Field.TLS_FAILURES,
)
"""The totals among the fields."""

DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the buckets that responses are counted in by their duration, in seconds; a last one follows."""

_BUCKETS = 32
"""The word of the first bucket."""
BUCKET_COUNT = len(DURATION_BOUNDS) + 1

assert max(Field) < _BUCKETS <= _WORDS - BUCKET_COUNT
_GROWING = (*COUNTERS, *range(_BUCKETS, _BUCKETS + BUCKET_COUNT))
_NOTHING = memoryview(bytes(_WORDS * 8)).cast("q")


class Row:
    """The numbers of one worker."""

    __slots__ = ("_base", "_words", "index")

    def __init__(self, words: "memoryview[int]", index: int) -> None:
        self.index = index
        self._words = words
        self._base = index * _WORDS

    def __getitem__(self, field: Field) -> int:
        return self._words[self._base + field]

    def __setitem__(self, field: Field, value: int) -> None:
        self._words[self._base + field] = value

    @property
    def buckets(self) -> list[int]:
        """How many responses ended within each of `DURATION_BOUNDS` but not the one before; the last is the rest."""
        first = self._base + _BUCKETS
        return self._words[first : first + BUCKET_COUNT].tolist()

    def write_buckets(self, counts: Sequence[int]) -> None:
        """The worker's own counts, `BUCKET_COUNT` of them."""
        words, first = self._words, self._base + _BUCKETS
        for index, count in enumerate(counts):
            words[first + index] = count

    def clear(self) -> None:
        """Free the row (the master, once the worker is gone), its counters kept in the header."""
        words, base = self._words, self._base
        for word in _GROWING:
            words[word] += words[base + word]
        words[base : base + _WORDS] = _NOTHING


class Scoreboard:
    """All rows, in one anonymous shared file. Row 0 is the header, the master's own; workers use rows from 1.

    The header's first word is the highest row in use so far; its counters are those of the workers that are gone.
    """

    CAPACITY = _ROWS - 1

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _BYTES)
        self._words = memoryview(self._map).cast("q")

    @classmethod
    def create(cls) -> "Scoreboard":
        """A new one, all rows free."""
        fd = os.memfd_create("asgi-master-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(fd, _BYTES)
        return cls(fd)

    def close(self) -> None:
        """Let go of the mapping and its descriptor."""
        self._words.release()
        self._map.close()
        os.close(self.fd)

    def row(self, index: int) -> Row:
        """The row with this index (from 1)."""
        return Row(self._words, index)

    def allocate(self) -> Row:
        """A free row, the lowest, marked as booting. Master only. Raises `RuntimeError` if all are taken."""
        for index in range(1, _ROWS):
            row = self.row(index)
            if row[Field.STATE] == RowState.FREE:
                row[Field.STATE] = RowState.BOOTING
                self._words[0] = max(self._words[0], index)
                return row
        raise RuntimeError(f"more than {self.CAPACITY} workers at once")

    def totals(self) -> tuple[dict[Field, int], list[int]]:
        """The counters and the buckets of all workers that ever were."""
        words = self._words
        bases = range(0, (words[0] + 1) * _WORDS, _WORDS)
        counters = {field: sum(words[base + field] for base in bases) for field in COUNTERS}
        buckets = [
            sum(words[base + word] for base in bases) for word in range(_BUCKETS, _BUCKETS + BUCKET_COUNT)
        ]
        return counters, buckets

    def least_connections(self, *, apart_from: int, fresh_after_ns: int) -> int | None:
        """The fewest connections any other ready worker with a fresh heartbeat has; `None` if there is none."""
        words = self._words
        least: int | None = None
        for index in range(1, words[0] + 1):
            base = index * _WORDS
            if (
                index != apart_from
                and words[base + Field.STATE] == RowState.READY
                and words[base + Field.HEARTBEAT_NS] > fresh_after_ns
                and (least is None or words[base + Field.CONNECTIONS] < least)
            ):
                least = words[base + Field.CONNECTIONS]
        return least


def layout() -> dict[str, Any]:
    """How this version lays a scoreboard out: JSON, for a version that is to go on with it."""
    return {
        "words": _WORDS,
        "rows": _ROWS,
        "buckets": [_BUCKETS, *DURATION_BOUNDS],
        "states": {state.name: state.value for state in RowState},
        "fields": {field.name: field.value for field in Field},
    }


def understands(theirs: Mapping[str, Any]) -> bool:
    """Whether this version can go on with a scoreboard of that layout: it may know more fields, but no other ones."""
    ours = layout()
    return all(theirs[key] == ours[key] for key in ("words", "rows", "buckets")) and all(
        theirs[key].items() <= ours[key].items() for key in ("states", "fields")
    )
