"""The listening sockets: bound once by the master, held by it for ever, inherited by every generation.

The accept queue lives in the socket, so as long as the master holds it no connection is lost while workers change.
"""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from asgi_master.errors import BindError
from asgi_master.master.fd_store import FdStore
from asgi_master.master.open_listener import Listener, is_ours, open_bind, place_of
from asgi_master.master.reopening import listen_again, replace_socket
from asgi_master.master.sd_notify import Notifier
from asgi_master.master.upgrade_state import StateSection
from asgi_master.settings.bind import TcpAddress, for_slot, is_per_slot, parse_bind, speaks_tls
from asgi_master.settings.model import SocketSettings


class Listeners:
    """All listening sockets, by the bind that asked for them."""

    def __init__(self, fd_store: FdStore | None = None) -> None:
        """Without a service manager there is nothing in `fd_store`."""
        self._fd_store = fd_store if fd_store is not None else FdStore(Notifier({}), {}, 0)
        self._by_bind: dict[str, list[Listener]] = {}
        self.slots = 0
        """Number of slots that have addresses of their own, where a bind has `{slot}`."""
        self.urls: dict[int, str] = {}
        """Where clients connected to each that was ever open, by the socket's inode: others may hold it open still."""

    def open(self, settings: SocketSettings) -> list[Listener]:
        """Open what `settings.bind` asks for and is not open yet; returns the new ones.

        Raises `BindError`, with nothing of this call left open.
        """
        wanted = self._wanted(settings)
        missing = [bind for bind in wanted if bind not in self._by_bind]
        self._fd_store.release_conflicting(map(place_of, missing), _ports(missing))
        opened: dict[str, list[Listener]] = {}
        try:
            for bind in missing:
                self._refuse_to_change_tls(bind)
                opened[bind] = open_bind(bind, settings, self._fd_store)
                for listener in opened[bind]:
                    listener.slot = wanted[bind]
        except BindError:
            for listener in _flatten(opened.values()):
                listener.abandon()
            raise
        self._by_bind |= opened
        self._note(_flatten(opened.values()))
        for bind, listeners in opened.items():
            if is_ours(bind):
                for listener in listeners:
                    self._fd_store.store(place_of(bind), [listener.sock], listener.file_identity)
        return _flatten(opened.values())

    def _wanted(self, settings: SocketSettings) -> dict[str, int | None]:
        """The binds that are asked for, those of each slot included, with their slots."""
        wanted: dict[str, int | None] = {}
        for bind in settings.bind:
            if is_per_slot(bind):
                wanted |= {for_slot(bind, slot): slot for slot in range(self.slots)}
            else:
                wanted[bind] = None
        return wanted

    def _refuse_to_change_tls(self, bind: str) -> None:
        """Workers of both generations would accept from the one socket, one with TLS and one without."""
        for other in self._by_bind:
            if place_of(other) == place_of(bind) and getattr(parse_bind(bind), "port", None) != 0:
                raise BindError(
                    f"cannot bind {bind}: {other} is in use; whether TLS is spoken there changes with a restart"
                )

    def of(self, settings: SocketSettings) -> list[Listener]:
        """The sockets `settings.bind` asks for, as far as they are open."""
        return _flatten(self._by_bind.get(bind, []) for bind in self._wanted(settings))

    def keep_only(self, settings: SocketSettings) -> list[Listener]:
        """Let go of what `settings.bind` no longer asks for; returns it, to be closed by the caller."""
        wanted = self._wanted(settings)
        gone = [bind for bind in self._by_bind if bind not in wanted]
        removed = []
        for bind in gone:
            for listener in self._by_bind.pop(bind):
                removed.append(listener)
                if is_ours(bind):
                    self._fd_store.remove(place_of(bind), listener.file_identity)
        return removed

    def mend(self, listener: Listener, settings: SocketSettings) -> socket.socket | None:
        """Have one that does not listen any more do so again.

        Returns the socket that it had, for the caller to close, if it needs another one. Raises `BindError`.
        """
        if listen_again(listener, settings.backlog):
            return None
        (bind,) = (bind for bind, listeners in self._by_bind.items() if listener in listeners)
        if not is_ours(bind):
            raise BindError(f"cannot listen on {listener.url} again: it was passed to us")
        place = place_of(bind)
        for other in self._by_bind[bind]:
            self._fd_store.remove(place, other.file_identity)
        try:
            return replace_socket(listener, bind, settings)
        finally:
            for other in self._by_bind[bind]:
                self._fd_store.store(place, [other.sock], other.file_identity)

    def export_state(self) -> StateSection:
        """Every socket, by its bind, and what was passed to us."""
        passed = self._fd_store.export_state()
        section = StateSection(
            {"binds": {bind: [] for bind in self._by_bind}, "slots": self.slots, "passed": passed.values},
            passed.fds,
        )
        for bind, listeners in self._by_bind.items():
            for listener in listeners:
                fd = listener.sock.fileno()
                section.values["binds"][bind].append(
                    {
                        "fd": fd,
                        "file": None if listener.file is None else os.fspath(listener.file),
                        "inode": list(listener.inode),
                        "slot": listener.slot,
                    }
                )
                section.fds[str(fd)] = fd
        return section

    def import_state(self, section: StateSection) -> Self:
        """Hold what the program before this one held; the log has its addresses."""
        for bind, listeners in section.values["binds"].items():
            self._by_bind[bind] = [
                Listener(
                    socket.socket(fileno=known["fd"]),
                    None if known["file"] is None else Path(known["file"]),
                    tuple(known["inode"]),
                    speaks_tls(bind),
                    not is_ours(bind),
                    is_announced=True,
                    slot=known.get("slot"),
                )
                for known in listeners
            ]
        self._note(_flatten(self._by_bind.values()))
        self.slots = section.values.get("slots", 0)
        self._fd_store.import_state(section.values.get("passed", {}))
        return self

    def _note(self, listeners: list[Listener]) -> None:
        self.urls |= {os.fstat(listener.sock.fileno()).st_ino: listener.url for listener in listeners}

    def refuse_connections(self) -> None:
        """Close the listeners that no service manager stores: new connections are refused."""
        if self._fd_store.is_available:
            return
        for bind in [bind for bind in self._by_bind if is_ours(bind)]:
            for listener in self._by_bind.pop(bind):
                listener.close()

    def close(self) -> None:
        """Close all. The file of a Unix socket that systemd keeps stays: the next master listens on that socket."""
        for listener in _flatten(self._by_bind.values()):
            listener.close(leave_file=self._fd_store.is_available)
        self._by_bind.clear()


def _flatten(groups: Iterable[list[Listener]]) -> list[Listener]:
    return [listener for group in groups for listener in group]


def _ports(binds: Iterable[str]) -> set[int]:
    """The TCP ports that they name."""
    parsed = map(parse_bind, binds)
    return {address.port for address in parsed if isinstance(address, TcpAddress)} - {0}
