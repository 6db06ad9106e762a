"""One shared page of numbers per worker: written by the worker, read by the master and its siblings.

Rules:
  - Each field has one writer. Words are 8 bytes, aligned, and stored whole, so readers see old or new, never half.
  - A reader trusts a row only while it is fresh: a dead or stuck worker's numbers stay behind.
"""

import mmap
import os
from enum import IntEnum

_WORDS = 32  # 256 bytes a row: no two workers share a cache line
_ROWS = 1024
_BYTES = _ROWS * _WORDS * 8


class RowState(IntEnum):
    """What a row's worker is doing, as far as accepting goes."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


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

    def clear(self) -> None:
        """Free the row (the master, once the worker is gone)."""
        for field in Field:
            self[field] = 0


class Scoreboard:
    """All rows, in one anonymous shared file. Row 0 is the header; workers use rows from 1."""

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
