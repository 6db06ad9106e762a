"""Rings of samples: the last so many of them, one for each period, in a fixed amount of memory."""

import base64
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Self

from asgi_master.history.compact import UNKNOWN, decode, encode
from asgi_master.history.samples import FIELDS

_WIDTH = len(FIELDS)
_UNITS = [entry.unit for entry in FIELDS.values()]
_PLACES = {name: place for place, name in enumerate(FIELDS)}
_NOTHING = array("H", [UNKNOWN]) * _WIDTH


class Ring:
    """The last `length` samples. A sample has a number, its *tick*; ticks that were left out are unknown."""

    __slots__ = ("_codes", "_length", "newest")

    def __init__(self, length: int) -> None:
        self._length = length
        self._codes = _NOTHING * length
        self.newest = -1
        """The highest tick that was put; -1 before the first."""

    def put(self, tick: int, values: Sequence[float | None]) -> None:
        """Add a sample: its values in the order of `FIELDS`. A tick that is not newer than the newest is ignored."""
        if tick <= self.newest:
            return
        for skipped in range(max(self.newest + 1, tick - self._length + 1), tick):
            self._write(skipped, _NOTHING)
        self._write(tick, array("H", map(encode, values, _UNITS)))
        self.newest = tick

    def _write(self, tick: int, codes: "array[int]") -> None:
        start = tick % self._length * _WIDTH
        self._codes[start : start + _WIDTH] = codes

    def read(self, field: str, end: int) -> list[float | None]:
        """The values of one field, oldest first, the last of them at the tick `end`; unknown ones are `None`."""
        place, unit = _PLACES[field], _UNITS[_PLACES[field]]
        oldest = self.newest - self._length
        return [
            decode(self._codes[tick % self._length * _WIDTH + place], unit)
            if max(oldest, -1) < tick <= self.newest
            else None
            for tick in range(end - self._length + 1, end + 1)
        ]

    def last(self) -> dict[str, float | None]:
        """The newest sample, by field."""
        start = self.newest % self._length * _WIDTH
        codes = self._codes[start : start + _WIDTH]
        return dict(zip(FIELDS, map(decode, codes, _UNITS), strict=True))

    def dump(self) -> dict[str, Any]:
        """All of it as data."""
        return {"newest": self.newest, "codes": base64.b64encode(self._codes.tobytes()).decode()}

    @classmethod
    def load(cls, length: int, data: Mapping[str, Any]) -> Self:
        """From the result of `dump`. Raises `ValueError` if it is not of that length and of these fields."""
        ring = cls(length)
        newest, codes = data.get("newest"), data.get("codes")
        if not isinstance(newest, int) or not isinstance(codes, str):
            raise ValueError("not a ring")  # noqa: TRY004 -- of data, as `codec`
        stored = base64.b64decode(codes, validate=True)
        if len(stored) != len(ring._codes) * ring._codes.itemsize:
            raise ValueError("a ring of another size")
        ring._codes = array("H", stored)
        ring.newest = newest
        return ring
