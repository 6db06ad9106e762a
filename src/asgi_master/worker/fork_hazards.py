"""Finds what an import left in this process that does not survive a fork: threads, connections and more.

docs/explanation/fork-safety.md lists the kinds and the reasons.
"""

import contextlib
import os
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asgi_master.worker.import_trace import ImportTrace, descriptors, thread_ids
from asgi_master.worker.native_threads import NativeThread, native_threads

_SETTLED_WITHIN = 0.5
"""Seconds for threads to end if they were asked to, and for new ones to sleep: a running one cannot be identified."""
_PAUSE = 0.01

_MAX_SHOWN = 12

_ANONYMOUS = {
    "anon_inode:[eventpoll]": "an epoll instance, as event loops have one",
    "anon_inode:[io_uring]": "an io_uring instance",
    "anon_inode:[signalfd]": "a signalfd",
    "anon_inode:[timerfd]": "a timerfd",
    "anon_inode:inotify": "an inotify instance, as watchers of files have one",
    "anon_inode:[fanotify]": "a fanotify instance",
    "anon_inode:[userfaultfd]": "a userfaultfd",
}
_ACCELERATOR = re.compile(r"/dev/(nvidia|kfd|dri/|accel)")
_MADE_TO_BE_SHARED = re.compile(r"/dev/shm/|/memfd:|/.*/pymp-")  # noqa: S108 -- nothing is written there
"""Shared memory: created before a fork, it is meant for both sides."""


class ForkHazards:
    """Compares this process before the import (on entry) and after it."""

    def __enter__(self) -> Self:
        self._children = set(_children())
        self._trace = ImportTrace()
        self._before = self._trace.present
        self._trace.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._trace.__exit__(kind, error, frames)

    def found(self) -> list[str]:
        """The hazards, with their origin if known; equal ones are counted."""
        known = Counter([*self._threads(), *self._descriptors(), *self._processes(), *_timers()])
        lines = [line if count == 1 else f"{count} times {line}" for line, count in known.items()]
        more = len(lines) - _MAX_SHOWN
        return [*lines[:_MAX_SHOWN], f"{more} more"] if more > 0 else lines

    def _threads(self) -> Iterator[str]:
        of_python = {
            thread.native_id: thread
            for thread in threading.enumerate()
            if thread is not threading.main_thread() and not isinstance(thread, threading._DummyThread)  # noqa: SLF001 -- native ones that called Python
        }
        for thread in of_python.values():
            key = f"thread {thread.native_id}"
            if key not in self._before:
                yield self._with_origin(f"thread {thread.name!r}", key, _location(thread.ident))
        for native in self._native(set(of_python)):
            library = next((Path(path).name for path in native.libraries), "")
            text = f"a thread of {library}" if library else "a thread of native code"
            yield self._with_origin(text, f"thread {native.thread}")

    def _native(self, known: set[int | None]) -> list[NativeThread]:
        """The threads that are unknown to Python and do not handle forks."""
        deadline = time.monotonic() + _SETTLED_WITHIN
        while True:
            threads = [
                thread
                for thread in thread_ids()
                if thread not in known
                and thread != threading.main_thread().native_id
                and f"thread {thread}" not in self._before
            ]
            harmful = [native for native in native_threads(threads) if not native.survives_fork]
            if all(native.libraries for native in harmful) or time.monotonic() >= deadline:
                return harmful
            time.sleep(_PAUSE)

    def _descriptors(self) -> Iterator[str]:
        for fd, target in sorted(descriptors().items()):
            key = f"fd {fd} {target}"
            if key not in self._before and (text := describe(fd, target)):
                yield self._with_origin(text, key)

    def _processes(self) -> Iterator[str]:
        for pid in _children():
            if pid not in self._children and pid != _resource_tracker():
                yield f"a child process ({_command(pid)})"

    def _with_origin(self, text: str, key: str, location: str = "") -> str:
        origin = ", ".join(filter(None, (self._trace.origin(key), location)))
        return f"{text} ({origin})" if origin else text


def describe(fd: int, target: str) -> str:
    """The hazard of sharing this descriptor, whose link in /proc is `target`; empty if there is none.

    Files that every process only appends to, or reads from the beginning, can be shared, and so can listeners and
    memory made for sharing.
    """
    if target in _ANONYMOUS:
        return _ANONYMOUS[target]
    if target.startswith("socket:"):
        return _describe_socket(fd)
    if _ACCELERATOR.match(target):
        return f"{target}, which a fork does not inherit"
    if target.startswith("/") and not _MADE_TO_BE_SHARED.match(target):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return _describe_file(fd, target)
    return ""


def _describe_socket(fd: int) -> str:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return ""
    try:
        peer = sock.getpeername()
        if sock.family == socket.AF_UNIX:
            if sock.type == socket.SOCK_DGRAM and not sock.getsockname():
                # It cannot be answered: it only sends whole messages, such as those to syslog.
                return ""
            name = peer.decode(errors="replace") if isinstance(peer, bytes) else peer
            return f"a connection to {name}" if name else "a connected Unix socket"
        return f"a connection to {_address(peer)}"
    except OSError:
        return ""
    finally:
        sock.detach()


def _address(peer: Any) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2 and isinstance(peer[0], str):
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
    return str(peer)


def _describe_file(fd: int, path: str) -> str:
    """Raises `OSError`, `ValueError` or `KeyError` unless it is an ordinary open file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return ""
    words = dict(
        line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines() if ":" in line
    )
    flags, position = int(words["flags"], 8), int(words["pos"])
    access = flags & os.O_ACCMODE
    if access == os.O_RDWR and not flags & os.O_APPEND:
        return f"{path}, open to read and write"
    if access == os.O_RDONLY and 0 < position < status.st_size:
        return f"{path}, read in part"
    return ""


def _timers() -> Iterator[str]:
    if any(signal.getitimer(signal.ITIMER_REAL)):
        yield "an alarm, which a fork does not inherit"


def _children() -> Iterator[int]:
    """The child processes of this one; see proc_tid_children(5)."""
    for thread in thread_ids():
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{thread}/children").read_text().split():
                if not _is_dead(pid):
                    yield int(pid)


def _is_dead(pid: str) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return str(pid)


def _resource_tracker() -> int | None:
    """The resource tracker of `multiprocessing`, which forked processes share by design."""
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(tracker, "_resource_tracker", None), "_pid", None)


def _location(thread: int | None) -> str:
    """The function of the application that a Python thread runs; empty if there is none."""
    frame = sys._current_frames().get(thread or 0)  # noqa: SLF001 -- there is no other way
    location = ""
    while frame is not None:
        if frame.f_code.co_filename != threading.__file__:
            location = f"{frame.f_code.co_filename}, line {frame.f_code.co_firstlineno}"
        frame = frame.f_back
    return location
