"""One shared page of numbers per worker: written by the worker, read by the master and its siblings.

Rules:
  - Each field has one writer. Words are 8 bytes, aligned, and stored whole, so readers see old or new, never half.
  - A reader trusts a row only while it is fresh: a dead or stuck worker's numbers stay behind.
  - A worker could write anything anywhere in the rows. So words are clamped when they are read (`_clamped`), and what
    only the master may change is elsewhere: the rows that are taken are in its memory and, for the workers, in the
    *roster*, a second file that they can only read.
  - Counts only grow: the master keeps the highest that it read of each worker, and those of workers that have ended.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from asgi_master.ipc.counters import (
    BUCKET_COUNT,
    DURATION_BOUNDS,
    FIRST_BUCKET,
    GROWING,
    MAX_COUNT,
    MAX_NS,
    TIMES,
    WORDS,
    Field,
    Stats,
)
from asgi_master.ipc.memory import for_reading, shared_file

_WORDS = 64  # 512 bytes a row: no two workers share a cache line
_ROWS = 1024
_BYTES = _ROWS * _WORDS * 8
_ROSTER_BYTES = _ROWS * 8
_BUCKETS = range(FIRST_BUCKET, FIRST_BUCKET + BUCKET_COUNT)
_USED = max(WORDS.values()) + 1

assert _USED <= _WORDS


class RowState(IntEnum):
    """State of the worker of a row, for siblings that share the accepting with it."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    STANDBY = 4
    """A spare that could accept, and does not."""


_STATES = frozenset(RowState)
# Plain numbers: with members of enumerations, arithmetic takes ten times as long, for each connection that is accepted.
_STATE, _HEARTBEAT_NS, _CONNECTIONS = (
    int(word) for word in (Field.STATE, Field.HEARTBEAT_NS, Field.CONNECTIONS)
)
_READY = int(RowState.READY)
_NOTHING = memoryview(bytes(_WORDS * 8)).cast("q")
_MOST = [MAX_NS if word in TIMES else MAX_COUNT for word in range(_USED)]
"""Of each word of a row."""


def _clamped(word: int, value: int) -> int:
    """The value clamped to its possible range. `word` is its index in a row."""
    if word == Field.STATE:
        return value if value in _STATES else RowState.FREE
    return min(max(0, value), _MOST[word])


class Row:
    """The numbers of one worker."""

    __slots__ = ("_base", "_words", "index")

    def __init__(self, words: "memoryview[int]", index: int) -> None:
        self.index = index
        self._words = words
        self._base = index * _WORDS

    def __getitem__(self, field: Field) -> int:
        return _clamped(field, self._words[self._base + field])

    def __setitem__(self, field: Field, value: int) -> None:
        self._words[self._base + field] = value

    def stir(self, connections: int, now_ns: int) -> None:
        """Write how many connections there are, and that the loop turns: each time that one is accepted."""
        words, base = self._words, self._base
        words[base + _CONNECTIONS] = connections
        words[base + _HEARTBEAT_NS] = now_ns

    def heartbeat(self, now: float) -> float | None:
        """When the worker's loop last turned, in seconds on the clock of `now`, and not after it.

        `None` if it never did.
        """
        stamp = self[Field.HEARTBEAT_NS]
        return min(stamp / 1e9, now) if stamp else None

    def progress(self, now: float) -> float:
        """When the worker was last seen to get on, on the clock of `now`, and not after it; 0 if it never was."""
        return min(self[Field.PROGRESS_NS] / 1e9, now)

    def read(self) -> Stats:
        """The worker's numbers."""
        return Stats.of_words(self._counted())

    def growing(self) -> list[int]:
        """The counts, in the order of `GROWING`."""
        words = self._counted()
        return [words[word] for word in GROWING]

    def _counted(self) -> list[int]:
        words = self._words[self._base : self._base + _USED].tolist()
        if min(words) >= 0 and max(words) <= MAX_COUNT:  # almost always, and no bound is lower
            return words
        return [min(max(0, word), most) for word, most in zip(words, _MOST, strict=True)]

    def write(self, stats: Stats) -> None:
        """Publish the worker's own numbers."""
        words, base = self._words, self._base
        for word, value in stats.words():
            words[base + word] = value

    def clear(self) -> None:
        """Forget all numbers."""
        self._words[self._base : self._base + _WORDS] = _NOTHING


class Scoreboard:
    """All rows, in one anonymous shared file; workers use rows from 1.

    The roster's first word is the highest row that is taken; the others say whether the row of that index is.
    """

    CAPACITY = _ROWS - 1

    def __init__(self, fd: int, roster_fd: int, *, is_ours: bool = False) -> None:
        """`is_ours`: whether this is the master, which alone can write to the roster. The descriptors are owned."""
        self.fd = fd
        self.roster_fd = roster_fd
        self._map = mmap.mmap(fd, _BYTES)
        self._words = memoryview(self._map).cast("q")
        access = mmap.PROT_READ | mmap.PROT_WRITE if is_ours else mmap.PROT_READ
        self._roster_map = mmap.mmap(roster_fd, _ROSTER_BYTES, prot=access)
        self._roster = memoryview(self._roster_map).cast("q")
        # The master does not read in the roster either: where it is the workers' own user, they can open it anew.
        self._taken: dict[int, list[int]] = {}
        """By row: the highest counts that were read."""
        self._gone = [0] * len(GROWING)
        """The same, of all whose rows were freed."""

    @classmethod
    def create(cls) -> "Scoreboard":
        """A new one, all rows free. Raises `OSError`."""
        board = shared_file("asgi-master-scoreboard", _BYTES)
        return cls(board, shared_file("asgi-master-roster", _ROSTER_BYTES), is_ours=True)

    @classmethod
    def restore(cls, fd: int, roster_fd: int, gone: Sequence[int], layout: Mapping[str, Any]) -> "Scoreboard":
        """Go on, as the master, with that of another one; `gone` are its `counts_of_gone`. Rows are to be claimed.

        `layout` is that of the other one, which may know fewer counters.
        """
        board = cls(fd, roster_fd, is_ours=True)
        known = {*layout["fields"].values(), *_BUCKETS}
        counted = dict(zip((word for word in GROWING if word in known), gone, strict=True))
        board._gone = [counted.get(word, 0) for word in GROWING]
        return board

    @property
    def counts_of_gone(self) -> list[int]:
        """The counts of the workers that have ended, in the order of `GROWING`."""
        return self._gone

    def roster_for_reading(self) -> int:
        """A descriptor of the roster for workers; the caller owns it. Raises `OSError`."""
        try:
            return for_reading(self.roster_fd)
        except FileNotFoundError:  # where there is no /proc
            return os.dup(self.roster_fd)

    def close(self) -> None:
        """Let go of the mappings and their descriptors."""
        for words, mapped, fd in (
            (self._words, self._map, self.fd),
            (self._roster, self._roster_map, self.roster_fd),
        ):
            words.release()
            mapped.close()
            os.close(fd)

    def row(self, index: int) -> Row:
        """The row with this index (from 1)."""
        return Row(self._words, index)

    def allocate(self) -> Row:
        """A free row, the lowest, marked as booting. Master only. Raises `RuntimeError` if all are taken."""
        for index in range(1, _ROWS):
            if index not in self._taken:
                row = self.claim(index)
                row.clear()
                row[Field.STATE] = RowState.BOOTING
                return row
        raise RuntimeError(f"more than {self.CAPACITY} workers at once")

    def claim(self, index: int) -> Row:
        """The row with this index, which is taken from now on, as it is. Master only."""
        self._taken[index] = [0] * len(GROWING)
        self._write_roster(index)
        return self.row(index)

    def release(self, row: Row) -> None:
        """Free the row of a worker that is gone; its counters are kept. Master only."""
        counted = self._read_growing(row.index)
        del self._taken[row.index]
        self._gone = [min(MAX_NS, sum(pair)) for pair in zip(self._gone, counted, strict=True)]
        self._write_roster(row.index)
        row.clear()

    def totals(self) -> Stats:
        """The counts of all workers that ever were; gauges are 0. Master only."""
        rows = [self._gone, *map(self._read_growing, self._taken)]
        words = [0] * _WORDS
        for word, values in zip(GROWING, zip(*rows, strict=True), strict=True):
            words[word] = min(MAX_NS, sum(values))
        return Stats.of_words(words)

    def _read_growing(self, index: int) -> list[int]:
        """The counts of the worker of a row, never less than before."""
        seen = self._taken[index]
        seen[:] = map(max, seen, self.row(index).growing())
        return seen

    def _write_roster(self, index: int) -> None:
        self._roster[index] = index in self._taken
        self._roster[0] = max(self._taken, default=0)

    def least_connections(self, *, apart_from: int, fresh_after_ns: int) -> int | None:
        """The fewest connections any other ready worker with a fresh heartbeat has; `None` if there is none."""
        words, roster = self._words, self._roster
        least: int | None = None
        for index in range(1, min(roster[0], self.CAPACITY) + 1):
            base = index * _WORDS
            if (
                index != apart_from
                and roster[index]
                and words[base + _STATE] == _READY
                and words[base + _HEARTBEAT_NS] > fresh_after_ns
                and (least is None or words[base + _CONNECTIONS] < least)
            ):
                least = words[base + _CONNECTIONS]
        return None if least is None else _clamped(Field.CONNECTIONS, least)


def layout() -> dict[str, Any]:
    """How this version lays a scoreboard out: JSON, for a version that is to go on with it."""
    return {
        "words": {"row": _WORDS, "roster": _ROWS},
        "rows": _ROWS,
        "buckets": [FIRST_BUCKET, *DURATION_BOUNDS],
        "states": {state.name: state.value for state in RowState},
        "fields": {name: word for name, word in WORDS.items() if word not in _BUCKETS},
    }


def understands(theirs: Mapping[str, Any]) -> bool:
    """Whether this version can use a scoreboard of that layout: fields may be added, but not renumbered."""
    ours = layout()
    return all(theirs[key] == ours[key] for key in ("words", "rows", "buckets")) and all(
        theirs[key].items() <= ours[key].items() for key in ("states", "fields")
    )
