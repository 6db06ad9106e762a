"""What of a response waits for the peer's windows, and what comes behind it."""

from collections import deque


class WaitingBody:
    """Pieces of one response's body. None is copied: a frame takes a view of a part."""

    __slots__ = ("_pieces", "has_paused", "is_last", "resets", "trailers")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.is_last = False
        """Whether the response ends with it, or with its trailers."""
        self.trailers: bytes | None = None
        """The field block that ends the response, if DATA does not."""
        self.resets = False
        """Whether RST_STREAM follows, as the rest of the request is of no use (RFC 9113 §8.1)."""
        self.has_paused = False
        """Whether so much waited that who writes should pause."""

    def append(self, data: bytes) -> None:
        """Add a piece, which is not empty."""
        self._pieces.append(data)

    def take(self, size: int) -> list[bytes | memoryview]:
        """Take out the next bytes, `size` of them if there are as many."""
        pieces = self._pieces
        taken: list[bytes | memoryview] = []
        while pieces and size:
            piece = pieces[0]
            if len(piece) > size:
                view = memoryview(piece)
                pieces[0] = view[size:]
                taken.append(view[:size])
                break
            size -= len(piece)
            taken.append(pieces.popleft())
        return taken
