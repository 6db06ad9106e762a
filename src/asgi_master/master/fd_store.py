"""Sockets that systemd holds: those of socket units, and our own, stored (`FDSTORE=1`) over a crash or a restart.

The accept queue lives in the socket. While systemd has a duplicate, connections that arrive between two masters wait
there, and the next master, which gets it back, serves them.
"""

import logging
import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from asgi_master.master.sd_notify import Notifier
from asgi_master.master.sd_protocol import passed_descriptors, stored_name
from asgi_master.master.upgrade_state import StateSection
from asgi_master.settings.bind import KEPT_PREFIX

log = logging.getLogger("asgi_master")

_RELEASE_TIMEOUT = 2.0
"""Seconds that systemd may take to close a removed descriptor."""

File = tuple[int, int] | None
"""Device and inode of a Unix socket's file; `None` for other sockets."""


class FdStore:
    """The descriptors that systemd passed to this process, and the store that it keeps for the next one.

    systemd passes a descriptor once: those of socket units stay open here, for the bind of a later reload or rollback.
    Listeners have duplicates.
    """

    def __init__(self, notifier: Notifier, environ: Mapping[str, str], pid: int) -> None:
        """Take what was passed according to `environ`, if its `LISTEN_PID` is `pid`."""
        self._notifier = notifier
        self._restored: dict[str, list[int]] = {}
        """Our own, by name, until a bind restores them."""
        self._outdated: set[str] = set()
        """Names under which systemd has more than what was restored."""
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
            group = self._restored if name.startswith(KEPT_PREFIX) else self._passed
            group.setdefault(name, []).append(fd)
        self._releasing_until = 0.0
        self._unserved = {fd for fds in self._passed.values() for fd in fds}
        """Until all binds are open."""

    @property
    def is_available(self) -> bool:
        """Whether what is stored survives this process."""
        return self._notifier.is_enabled

    def activated(self, name: str) -> list[int]:
        """The descriptors that a socket unit passed under this name."""
        fds = self._passed.get(name, [])
        self._unserved.difference_update(fds)
        return fds

    def restore(self, bind: str, file: File) -> list[socket.socket]:
        """The listeners that an earlier master stored for this bind; the caller owns them."""
        found = []
        for fd in self._restored.pop(stored_name(bind, file), []):
            sock = _listening(fd)
            if sock is not None:
                found.append(sock)
        return found

    def use(self, fd: int) -> None:
        """A bind names this descriptor by its number."""
        self._numbered.add(fd)
        self._unserved.discard(fd)
        self._restored = {
            name: [other for other in fds if other != fd] for name, fds in self._restored.items()
        }

    def release_conflicting(self, binds: Iterable[str], ports: Collection[int]) -> None:
        """Remove what is stored for other binds than these and has one of the ports: binding them would fail."""
        names = {stored_name(bind, None) for bind in binds}
        for name in [name for name in self._restored if name not in names]:
            if any(_port(fd) in ports for fd in self._restored[name]):
                self._drop(name)
                self._releasing_until = time.monotonic() + _RELEASE_TIMEOUT

    @property
    def is_releasing(self) -> bool:
        """Whether an address in use may soon be free: systemd closes removed descriptors asynchronously."""
        return time.monotonic() < self._releasing_until

    def outdate(self, bind: str, file: File) -> None:
        """Part of what is stored for this bind is wrong: the next `store` replaces all of it."""
        self._outdated.add(stored_name(bind, file))

    def store(self, bind: str, sockets: Iterable[socket.socket], file: File) -> None:
        """Have systemd store the listeners of this bind."""
        name = stored_name(bind, file)
        if name in self._outdated:
            self._outdated.remove(name)
            self._remove(name)
        # FDPOLL=0: systemd must not remove them on a hang-up.
        words: dict[str, str | int] = {"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}
        self._notifier.send(words, [sock.fileno() for sock in sockets])

    def remove(self, bind: str, file: File) -> None:
        """Have systemd remove the listeners of this bind."""
        self._remove(stored_name(bind, file))

    def discard_unused(self) -> None:
        """All binds are open: remove what is stored for others, and warn of passed sockets that are not served."""
        for name in list(self._restored):
            self._drop(name)
        for name, fds in self._passed.items():
            if not self._unserved.isdisjoint(fds):
                # systemd has it open, so clients can connect and wait.
                log.warning(
                    "systemd passed the socket %s, which is not served: add --bind systemd:%s", name, name
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
        for fd in self._restored.pop(name):
            os.close(fd)

    def _remove(self, name: str) -> None:
        self._notifier.send({"FDSTOREREMOVE": 1, "FDNAME": name})


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
    """The socket, if it listens."""
    try:
        sock = socket.socket(fileno=fd)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return sock
        sock.close()
    except OSError:
        os.close(fd)
    return None
