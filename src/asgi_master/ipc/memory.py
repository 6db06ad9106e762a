"""Sealed files in memory for other processes: of fixed size, and of fixed content unless they are for writing.

A process that shrinks a file that others have mapped kills them by SIGBUS. So all such files are made here.
"""

import fcntl
import os

_SIZE_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_FOR_THE_OWNER = 0o600
"""Made with more, it could be opened again under /proc by another user who holds a descriptor that only reads."""


def shared_file(name: str, size: int) -> int:
    """A file of `size` zero bytes for all to write to; the caller owns the descriptor. Raises `OSError`."""
    return _sealed_file(name, size, b"", _SIZE_SEALS)


def frozen_file(name: str, content: bytes) -> int:
    """A file that cannot be changed; the caller owns the descriptor. Raises `OSError`."""
    return _sealed_file(name, len(content), content, _SIZE_SEALS | fcntl.F_SEAL_WRITE)


def growing_file(name: str) -> int:
    """An empty file for children to write to, which nobody maps; the caller owns the descriptor. Raises `OSError`."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    return fd


def content_of(fd: int) -> bytes:
    """The content of the file, whatever its offset. Raises `OSError`."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


def for_reading(fd: int) -> int:
    """Another descriptor of the file that does not write; the caller owns it. Raises `OSError`."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def _sealed_file(name: str, size: int, content: bytes, seals: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, _FOR_THE_OWNER)
        os.ftruncate(fd, size)
        written = 0
        while written < len(content):
            written += os.pwrite(fd, content[written:], written)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(fd)
        raise
    return fd
