"""The stick table: which place serves a session, for all workers, in one shared file.

A *place* is where the sessions of one worker are: a number that its successor inherits if it dies, and that is never
another worker's.

Rules:
  - An entry is one word, stored whole: 35 bits of the session's key, 16 of the place, and 12 that say when it was used.
  - A set has eight entries. A new one takes the place of the one that was unused for longest.
  - Every worker writes. If two write one entry at once, one is lost, and with it where one session is.
  - A worker could write anything: it can send sessions to wrong workers, and nothing else.
"""

import mmap
import os
import time

from asgi_master.ipc.memory import shared_file

_SETS = 1 << 14
_WAYS = 8
_BYTES = _SETS * _WAYS * 8
_STAMPS = 1 << 12
_STAMP_SECONDS = 60
"""Of one step of the clock, which comes round after less than three days."""
MOST_PLACES = 1 << 16
"""Places are less than this, and at least 1."""


class StickTable:
    """For about 130,000 sessions."""

    def __init__(self, fd: int) -> None:
        """The table in the file behind the descriptor, which is owned."""
        self.fd = fd
        self._map = mmap.mmap(fd, _BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> "StickTable":
        """A new one, empty. Raises `OSError`."""
        return cls(shared_file("asgi-master-sessions", _BYTES))

    def find(self, key: int) -> int | None:
        """The place of the session with this key, which has 63 bits; `None` if it is not known."""
        base, tag = (key % _SETS) * _WAYS, key >> 28
        for word in self._words[base : base + _WAYS].tolist():
            if word >> 28 == tag and word & 0xFFFFFFF:
                return (word >> 12) & 0xFFFF or None
        return None

    def store(self, key: int, place: int, now: float | None = None) -> None:
        """Note where a session is, and that it was used. `now` is on the monotonic clock."""
        stamp = int((time.monotonic() if now is None else now) / _STAMP_SECONDS) % _STAMPS
        words, base, tag = self._words, (key % _SETS) * _WAYS, key >> 28
        entry = tag << 28 | place << 12 | stamp
        oldest, oldest_age = base, -1
        for index, word in enumerate(words[base : base + _WAYS].tolist(), base):
            if word >> 28 == tag and word & 0xFFFFFFF:
                if word != entry:
                    words[index] = entry
                return
            age = (stamp - word) % _STAMPS if word else _STAMPS
            if age > oldest_age:
                oldest, oldest_age = index, age
        words[oldest] = entry

    def close(self) -> None:
        """Let go of the mapping and its descriptor."""
        self._words.release()
        self._map.close()
        os.close(self.fd)
