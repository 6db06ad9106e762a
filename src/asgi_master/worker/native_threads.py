"""Identifies native threads by the libraries on their stacks.

The kernel reports the stack pointer of a sleeping thread. The stack contains return addresses and, near its end, where
the thread started, that of the library's first function. If the kernel does not report it, the library is unknown.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from asgi_master.records import record

_MAX_STACK = 64 * 1024
"""Number of bytes of a stack that are read, counted from its end."""

_WORD = 8

_COMMON_LIBRARIES = re.compile(r"/(ld-linux|ld-musl|ld64|libc|libc-\d|libpthread|libpython)[^/]*\.so|^\[|^$")
"""Libraries on the stack of every thread."""

_SURVIVES_FORK = re.compile(r"openblas[^/]*(/[^/]*)?$", re.IGNORECASE)
"""OpenBLAS ends its threads before a fork and starts them again on demand (`pthread_atfork`).

A build on OpenMP has threads of that library instead, which does not.
"""


@record
class Region:
    """A region of the address space."""

    start: int
    end: int
    path: str
    is_code: bool


@record
class NativeThread:
    """A thread, and its libraries."""

    thread: int
    libraries: tuple[str, ...] = ()
    """Paths of the libraries on its stack, the one that started it first; empty if unknown."""

    @property
    def survives_fork(self) -> bool:
        """Whether the library of the thread handles forks."""
        return bool(self.libraries) and all(_SURVIVES_FORK.search(path) for path in self.libraries)


def native_threads(threads: Iterable[int]) -> list[NativeThread]:
    """The given threads of this process, with their libraries."""
    regions = list(_regions())
    seen = []
    for thread in threads:
        stack = _stack(thread, regions)
        seen.append(NativeThread(thread, libraries_on(stack, regions) if stack is not None else ()))
    return seen


def libraries_on(stack: bytes, regions: Iterable[Region]) -> tuple[str, ...]:
    """The libraries whose code the words of a stack point to, from its end, without those that all threads use."""
    code = [region for region in regions if region.is_code and not _is_common(region.path)]
    if not code:
        return ()
    lowest, highest = min(region.start for region in code), max(region.end for region in code)
    found: dict[str, None] = {}
    for offset in range(len(stack) - _WORD, -1, -_WORD):
        word = int.from_bytes(stack[offset : offset + _WORD], sys.byteorder)
        if lowest <= word < highest:
            found.update(dict.fromkeys(region.path for region in code if region.start <= word < region.end))
    return tuple(found)


def _is_common(path: str) -> bool:
    return bool(_COMMON_LIBRARIES.search(path)) or path == os.path.realpath(sys.executable)


def _regions() -> Iterator[Region]:
    """See proc_pid_maps(5)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
            span, rights, *rest = line.split(None, 5)
            start, end = (int(text, 16) for text in span.split("-"))
            yield Region(start, end, rest[3] if len(rest) > 3 else "", "x" in rights)


def _stack(thread: int, regions: list[Region]) -> bytes | None:
    """The stack of a sleeping thread; `None` for a running one, or if the kernel does not report it."""
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        # The last two words are the stack pointer and the program counter; see proc_pid_syscall(5).
        top = int(Path(f"/proc/self/task/{thread}/syscall").read_text().split()[-2], 16)
        end = next(region.end for region in regions if region.start <= top < region.end)
        begin = max(top, end - _MAX_STACK)
        begin -= begin % _WORD
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(memory, end - begin, begin)
        finally:
            os.close(memory)
    return None
