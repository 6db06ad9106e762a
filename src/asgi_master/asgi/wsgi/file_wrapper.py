"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling")."""

from collections.abc import Callable, Iterator
from typing import Any


class FileWrapper:
    """A file as an iterable of the bytes from its present position on; `close` is that of the file, if it has one."""

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        """`block_size` is how many bytes each piece has, where the pieces are read one by one."""
        self.filelike = filelike
        self.block_size = block_size
        close: Callable[[], None] | None = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        while data := self.filelike.read(self.block_size):
            yield data
