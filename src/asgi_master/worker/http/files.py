"""A file that an application sends as a body: judged before anything leaves, and read without a wait for a disk.

Rules of this file:
  - The descriptor is ours, also that of a file which the application has open: it is closed in every way out.
  - The loop reads only what the page cache has. What must come from a disk, or over a network, is fetched by a thread.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

from asgi_master.asgi.http_extensions import FileBody

PIECE: Final = 64 * 1024
"""Bytes that are read and sent at once; a part of a file that is no longer is sent together with the head."""

_FLAGS: Final = (
    os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
)  # which opens a FIFO at once, to be refused


class BodyFile:
    """A regular file while it is sent, from `offset` on. Both that and sizes are in bytes."""

    __slots__ = ("_name", "_probe", "available", "fd", "offset")

    def __init__(self, fd: int, name: object, offset: int, length: int) -> None:
        """`length` is that of the whole file."""
        self.fd = fd
        self.offset = offset
        self.available = max(0, length - offset)
        self._name = name
        self._probe = bytearray(1)

    async def fetch(self, size: int) -> None:
        """Return once the next `size` bytes can be read without waiting, as far as can be known."""
        try:
            # The last byte stands for all of them: the kernel reads ahead, and drops what is oldest.
            os.preadv(self.fd, [self._probe], self.offset + size - 1, os.RWF_NOWAIT)
        except OSError:  # it is not there, or the filesystem cannot tell
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, os.pread, self.fd, size, self.offset)

    async def read(self, size: int) -> bytes:
        """The next bytes, at most so many, and at least one."""
        await self.fetch(size)
        data = os.pread(self.fd, size, self.offset)
        self.advance(len(data))
        return data

    def advance(self, sent: int) -> None:
        """So many more bytes were sent. Raises `RuntimeError` for none: the file ends before its part does."""
        if not sent:
            raise RuntimeError(f"{self._name!r} became shorter while it was sent")
        self.offset += sent


@contextlib.contextmanager
def opened(body: FileBody) -> Iterator[BodyFile]:
    """Open the file that the application names. Raises `OSError`, and `ValueError` for what is no regular file."""
    file = body.file
    is_path = isinstance(file, str)
    fd = os.open(file, _FLAGS) if is_path else os.dup(_descriptor(file))
    try:
        length = _length(fd, file)
        part = BodyFile(fd, file, _position(file, fd) if body.offset is None else body.offset, length)
        yield part
        if body.offset is None:
            _move(file, fd, part.offset)
    finally:
        os.close(fd)


def _descriptor(file: Any) -> int:
    return file if isinstance(file, int) else file.fileno()


def _length(fd: int, name: object) -> int:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{name!r} is no regular file")  # which alone has a length
    return status.st_size


def _position(file: Any, fd: int) -> int:
    """Of an open file: its own idea of it, if it reads ahead."""
    return file.tell() if hasattr(file, "tell") else os.lseek(fd, 0, os.SEEK_CUR)


def _move(file: Any, fd: int, position: int) -> None:
    """Leave the file behind what was sent, as reading it would."""
    if hasattr(file, "seek"):
        file.seek(position)
    else:
        os.lseek(fd, position, os.SEEK_SET)
