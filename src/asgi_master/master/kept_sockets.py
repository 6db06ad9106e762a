"""Sockets that systemd holds for us: those it listens on itself, and our own, kept over a crash or a restart.

The accept queue lives in the socket. While systemd has a duplicate (`FDSTORE=1`), connections that come between two
masters wait there, and the next master, which gets it back, serves them.
"""

import logging
import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from asgi_master.master.notifier import Notifier
from asgi_master.master.systemd_words import kept_name, passed_descriptors
from asgi_master.master.upgrade_state import StateSection
from asgi_master.settings.bind import KEPT_PREFIX

log = logging.getLogger("asgi_master")

_WAY_IS_MADE_WITHIN = 2.0
"""Seconds."""

File = tuple[int, int] | None
"""Device and inode of a Unix socket's file; `None` for other sockets."""


class KeptSockets:
    """What systemd passed to this process, and the way to give it something to keep.

    Nobody passes a descriptor twice: those that are not our own stay open here, for the bind that a later reload or a
    rollback brings (again). Listeners have duplicates.
    """

    def __init__(self, notifier: Notifier, environ: Mapping[str, str], pid: int) -> None:
        """Take what was passed; with an empty environment, none of this exists."""
        self._notifier = notifier
        self._returned: dict[str, list[int]] = {}
        """Our own, by name, until a bind takes them back."""
        self._outdated: set[str] = set()
        """Names under which systemd has more than what was taken back."""
        self._passed: dict[str, list[int]] = {}
        """Those of socket units, by name."""
        self._numbered: set[int] = set()
        """Those that a bind named by their number."""
        for fd, name in passed_descriptors(environ, pid):
            try:
                os.set_inheritable(fd, False)
            except OSError as error:
                log.warning("systemd passed descriptor %d (%s), but: %s", fd, name, error.strerror)
                continue
            group = self._returned if name.startswith(KEPT_PREFIX) else self._passed
            group.setdefault(name, []).append(fd)
        self._makes_way_until = 0.0
        self._unserved = {fd for fds in self._passed.values() for fd in fds}
        """Until all binds are open."""

    @property
    def is_kept(self) -> bool:
        """Whether what is given to `keep` outlives this process."""
        return self._notifier.is_heard

    def activated(self, name: str) -> list[int]:
        """The descriptors that a socket unit passed under this name."""
        fds = self._passed.get(name, [])
        self._unserved.difference_update(fds)
        return fds

    def kept(self, bind: str, file: File) -> list[socket.socket]:
        """Take back the listeners that an earlier master gave away for this bind."""
        found = []
        for fd in self._returned.pop(kept_name(bind, file), []):
            sock = _listening(fd)
            if sock is not None:
                found.append(sock)
        return found

    def use(self, fd: int) -> None:
        """A bind names this descriptor by its number."""
        self._numbered.add(fd)
        self._unserved.discard(fd)
        self._returned = {
            name: [other for other in fds if other != fd] for name, fds in self._returned.items()
        }

    def make_way(self, binds: Iterable[str], ports: Collection[int]) -> None:
        """Drop what was kept for other binds than these on one of the ports: it would be in the way of them."""
        names = {kept_name(bind, None) for bind in binds}
        for name in [name for name in self._returned if name not in names]:
            if any(_port(fd) in ports for fd in self._returned[name]):
                self._drop(name)
                self._makes_way_until = time.monotonic() + _WAY_IS_MADE_WITHIN

    @property
    def makes_way(self) -> bool:
        """Whether an address that is in use may be free in a moment: systemd closes what it was told to in its time."""
        return time.monotonic() < self._makes_way_until

    def outdate(self, bind: str, file: File) -> None:
        """Not all that is kept for this bind is still right: what is given to `keep` replaces it."""
        self._outdated.add(kept_name(bind, file))

    def keep(self, bind: str, sockets: Iterable[socket.socket], file: File) -> None:
        """Have systemd hold the listeners of this bind."""
        name = kept_name(bind, file)
        if name in self._outdated:
            self._outdated.remove(name)
            self._remove(name)
        # They are ours for good: systemd shall not look whether they hang up.
        words: dict[str, str | int] = {"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}
        self._notifier.tell(words, [sock.fileno() for sock in sockets])

    def let_go(self, bind: str, file: File) -> None:
        """The bind is given up."""
        self._remove(kept_name(bind, file))

    def settle(self) -> None:
        """All binds are open: drop what was kept for others, and say which sockets nobody serves."""
        for name in list(self._returned):
            self._drop(name)
        for name, fds in self._passed.items():
            if not self._unserved.isdisjoint(fds):
                # systemd has it too, so clients connect to it whatever we do.
                log.warning(
                    "systemd passed the socket %s, which nobody serves: --bind systemd:%s does", name, name
                )
        self._unserved.clear()

    def export_state(self) -> StateSection:
        """What was passed, for the program that replaces this one."""
        fds = self._numbered.union(*self._passed.values())
        return StateSection(
            {"names": self._passed, "numbers": sorted(self._numbered)}, {str(fd): fd for fd in fds}
        )

    def import_state(self, values: Mapping[str, Any]) -> None:
        """Hold what was passed to the program before this one."""
        self._passed = dict(values.get("names", {}))
        self._numbered = set(values.get("numbers", ()))

    def _drop(self, name: str) -> None:
        self._remove(name)
        for fd in self._returned.pop(name):
            os.close(fd)

    def _remove(self, name: str) -> None:
        self._notifier.tell({"FDSTOREREMOVE": 1, "FDNAME": name})


def _port(fd: int) -> int | None:
    """The TCP port that a descriptor is bound to."""
    sock = socket.socket(fileno=fd)
    try:
        return int(sock.getsockname()[1]) if sock.family in (socket.AF_INET, socket.AF_INET6) else None
    except OSError:
        return None
    finally:
        sock.detach()


def _listening(fd: int) -> socket.socket | None:
    """The socket, if it is one that can be listened on."""
    try:
        sock = socket.socket(fileno=fd)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return sock
        sock.close()
    except OSError:
        os.close(fd)
    return None
