"""A cache for what usually repeats, that costs little where it does not."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

_RENEWAL = 4
"""How many times its size a full cache is missed before it starts anew."""


class BoundedCache(dict[K, V]):
    """A dictionary that takes new entries while it holds fewer than `size`.

    A full one keeps its entries and takes no others: if keys do not repeat, nothing is gained by an exchange. After
    many misses it is emptied, as what repeats may be something else now.
    """

    __slots__ = ("_misses", "_size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._misses = 0

    def offer(self, key: K, value: V) -> bool:
        """Take an entry that was not found; false if it is not taken."""
        if len(self) >= self._size:
            self._misses += 1
            if self._misses < self._size * _RENEWAL:
                return False
            self._misses = 0
            self.clear()
        self[key] = value
        return True
