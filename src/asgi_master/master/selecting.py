"""The selector of the master's loop: it retries a registration that the kernel refused.

The kernel refuses one when memory is short or the user has no watches left (`fs.epoll.max_user_watches`). Its caller
could only try again, so each `select` does.
"""

import contextlib
import errno
import math
import select
import selectors
from collections.abc import Mapping
from typing import Any

_NEVER = frozenset({errno.EBADF, errno.EINVAL, errno.ELOOP})
"""Errors of the caller."""
_RETRY = 0.25
"""Seconds that `select` waits at most while something could not be registered."""


class PatientSelector(selectors.BaseSelector):
    """As `selectors.EpollSelector`."""

    def __init__(self) -> None:
        """Raises `OSError`."""
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._unwatched: set[int] = set()
        """Of the keys' descriptors those that could not be registered, or not for the events that are wanted."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `BaseSelector`. Raises `OSError` for what can never be watched."""
        fd = _descriptor(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        try:
            self._watch(key)
        except BaseException:
            del self._keys[fd]
            raise
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        key = self._keys.pop(self._number_of(fileobj))
        self._unwatched.discard(key.fd)
        self._forget(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        old = self._keys[self._number_of(fileobj)]
        key = self._keys[old.fd] = old._replace(events=events, data=data)
        if events != old.events or old.fd in self._unwatched:
            self._watch(key)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `BaseSelector`. Raises `OSError`."""
        for fd in list(self._unwatched):
            self._watch(self._keys[fd])
        if self._unwatched:
            timeout = _RETRY if timeout is None else min(timeout, _RETRY)
        # In milliseconds, rounded up: to be early is a turn for nothing.
        wait = None if timeout is None else math.ceil(max(0.0, timeout) * 1e3) * 1e-3
        ready = []
        for fd, event in self._epoll.poll(wait, max(1, len(self._keys))):
            key = self._keys.get(fd)
            if key is None:
                # Unregistered, but the kernel has it still: it would report it again and again.
                self._forget(fd)
                continue
            # Errors and hang-ups are reported whatever events were registered.
            seen = (selectors.EVENT_READ if event & ~select.EPOLLOUT else 0) | (
                selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
            )
            if seen & key.events:
                ready.append((key, seen & key.events))
        return ready

    def close(self) -> None:
        """See `BaseSelector`."""
        self._epoll.close()
        self._keys.clear()
        self._unwatched.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """The keys by their descriptors."""
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        return self._keys[self._number_of(fileobj)]

    def _watch(self, key: selectors.SelectorKey) -> None:
        wanted = (select.EPOLLIN if key.events & selectors.EVENT_READ else 0) | (
            select.EPOLLOUT if key.events & selectors.EVENT_WRITE else 0
        )
        self._unwatched.add(key.fd)
        try:
            try:
                self._epoll.register(key.fd, wanted)
            except FileExistsError:
                self._epoll.modify(key.fd, wanted)
        except OSError as error:
            if error.errno in _NEVER:
                self._unwatched.discard(key.fd)
                raise
        else:
            self._unwatched.discard(key.fd)

    def _forget(self, fd: int) -> None:
        # What was closed, the kernel has forgotten by itself.
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def _number_of(self, fileobj: Any) -> int:
        """The descriptor that it was registered under, also if it is closed by now."""
        try:
            return _descriptor(fileobj)
        except ValueError:
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key.fd
            raise KeyError(f"{fileobj!r} is not registered") from None


def _descriptor(fileobj: Any) -> int:
    fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    if fd < 0:
        raise ValueError(f"{fileobj!r} is closed")
    return fd
