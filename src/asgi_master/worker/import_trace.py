"""Attributes threads and descriptors to the module whose import created them: both are counted before and after."""

import contextlib
import importlib
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_bootstrap: Any = importlib._bootstrap  # noqa: SLF001 -- see `ImportTrace`
_LOAD = "_load_unlocked"
_FILE = "<frozen importlib._bootstrap>"


class ImportTrace:
    """Traces the imports of the main thread while it is entered.

    The import system has no hook for this, so its function that loads one module is replaced meanwhile; if this Python
    has no such function, no origin is known.
    """

    def __init__(self) -> None:
        self.present = _present()
        """The threads and descriptors found so far: `thread ID` and `fd N TARGET`."""
        self._origins: dict[str, str] = {}
        self._counts = _counts()
        self._running: list[str] = []
        self._load: Callable[[Any], Any] | None = getattr(_bootstrap, _LOAD, None)

    def __enter__(self) -> Self:
        if self._load is not None:
            setattr(_bootstrap, _LOAD, self._traced(self._load))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._load is not None:
            setattr(_bootstrap, _LOAD, self._load)

    def origin(self, what: str) -> str:
        """The module whose import created it; empty if unknown."""
        return self._origins.get(what, "")

    def _traced(self, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
        importing = threading.get_ident()

        def load_unlocked(spec: Any) -> Any:
            if threading.get_ident() != importing:
                return load(spec)
            self._attribute_new()
            self._running.append(spec.name)
            try:
                return load(spec)
            finally:
                self._attribute_new()
                self._running.pop()

        # Python omits the import system's own frames from tracebacks and from the stack level of warnings. This is one
        # of them.
        load_unlocked.__code__ = load_unlocked.__code__.replace(co_filename=_FILE)
        return load_unlocked

    def _attribute_new(self) -> None:
        counts = _counts()
        if counts == self._counts:
            return
        self._counts = counts
        present = _present()
        if self._running:
            self._origins.update(dict.fromkeys(present - self.present, self._running[-1]))
        self.present = present


def _counts() -> tuple[int, int]:
    """Values that change when a thread or a descriptor is added, at the cost of three system calls."""
    try:
        threads = os.stat("/proc/self/task").st_nlink  # noqa: PTH116 -- twice for each module
        lowest_free = os.dup(0)
    except OSError:
        return 0, 0
    os.close(lowest_free)
    return threads, lowest_free


def _present() -> set[str]:
    return {f"thread {thread}" for thread in thread_ids()} | {
        f"fd {fd} {target}" for fd, target in descriptors().items()
    }


def thread_ids() -> list[int]:
    """The threads of this process, native ones included; empty without /proc."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208 -- names are wanted
    return []


def descriptors() -> dict[int, str]:
    """The link in /proc of each open descriptor; empty without /proc."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 -- names are wanted
            with contextlib.suppress(OSError):  # the descriptor of the listing, closed by now
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 -- it need not be a path
    return found
