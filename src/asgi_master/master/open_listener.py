"""From a bind to the sockets that listen there: bound here, taken back from systemd's store, or passed to us."""

import contextlib
import errno
import grp
import logging
import os
import pwd
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import field
from pathlib import Path
from typing import Any

from asgi_master.directories import NO_INODE, Directory, Inode, remove
from asgi_master.errors import BindError
from asgi_master.ipc.descriptors import refuse
from asgi_master.master.fd_store import FdStore
from asgi_master.master.privileges import socket_of, warn_of_exposure
from asgi_master.records import mutable_record
from asgi_master.settings.bind import (
    TLS_PREFIX,
    ActivatedSocket,
    InheritedFd,
    TcpAddress,
    UnixAddress,
    parse_bind,
    speaks_tls,
)
from asgi_master.settings.model import SocketSettings

log = logging.getLogger("asgi_master")

_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
_MOST_ID = 2**32 - 1
"""No user and no group has it: it stands for none."""
_RETRY_PERIOD = 0.02


@mutable_record
class Listener:
    """One listening socket, and the socket file that is ours to remove."""

    sock: socket.socket
    file: Path | None = None
    inode: Inode = NO_INODE
    is_tls: bool = False
    is_passed: bool = False
    """Whether another process bound it: it still listens when we have closed it."""
    is_taken_back: bool = False
    """Whether it comes from systemd's store, which still has it."""
    is_announced: bool = False
    """Whether its address was logged."""
    slot: int | None = None
    """The only slot whose worker accepts there; `None` for all."""
    address: Any = field(init=False)
    """Where it was bound. What the socket says later may be others' doing."""

    def __post_init__(self) -> None:
        self.address = self.sock.getsockname()

    @property
    def url(self) -> str:
        """Where clients connect, for the log."""
        address = self.address
        if self.sock.family == socket.AF_UNIX:
            path = address if isinstance(address, str) else address.decode(errors="replace")
            return f"{TLS_PREFIX if self.is_tls else ''}unix:{path}"
        host = f"[{address[0]}]" if self.sock.family == socket.AF_INET6 else address[0]
        return f"{TLS_PREFIX if self.is_tls else 'http://'}{host}:{address[1]}"

    @property
    def file_identity(self) -> Inode | None:
        """Identity of the socket's file, for `FdStore`."""
        return self.inode if self.file is not None else None

    def close(self, *, leave_file: bool = False) -> None:
        """Stop listening; remove the socket file if it is still the one we made, unless it is to be left."""
        if not leave_file:
            # First: once closed, another process could replace the file as stale, and we would remove that one.
            self.remove_file()
        self.sock.close()

    def abandon(self) -> None:
        """The start fails: stop listening, and leave the file if the next master gets its socket back."""
        self.close(leave_file=self.is_taken_back)

    def remove_file(self) -> None:
        """Remove the socket file if it is still the one we made."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                remove(self.file, self.inode)


def place_of(bind: str) -> str:
    """Where it is, whatever is spoken there."""
    return bind.removeprefix(TLS_PREFIX)


def is_ours(bind: str) -> bool:
    """Whether we bind it ourselves, so that it can be kept for another master to come."""
    return isinstance(parse_bind(bind), TcpAddress | UnixAddress)


def open_bind(bind: str, settings: SocketSettings, fd_store: FdStore) -> list[Listener]:
    """Listen there. Raises `BindError`, with nothing left open."""
    match parse_bind(bind):
        case TcpAddress() as address:
            listeners = _open_tcp(bind, address, settings.backlog, fd_store)
        case UnixAddress() as address:
            listeners = [_open_unix(bind, Path(address.path), settings, fd_store)]
        case InheritedFd(fd):
            listeners = _adopt(bind, [fd], settings.backlog)
            fd_store.use(fd)
        case ActivatedSocket(name):
            listeners = _adopt(bind, fd_store.activated(name), settings.backlog)
            if not listeners:
                raise BindError(
                    f"cannot use {bind}: systemd passed no socket of that name to this process; "
                    "name the socket unit in Sockets= and start asgi-master itself, not a script around it"
                )
    for listener in listeners:
        listener.sock.setblocking(False)
        if listener.sock.family == socket.AF_UNIX:
            # Clients' too: the process that closes one waits as long as its sender had it linger.
            refuse(listener.sock)
        listener.is_tls = speaks_tls(bind)
        listener.is_passed = not is_ours(bind)
    _warn_about_a_capped_backlog(settings.backlog)
    return listeners


def _open_tcp(bind: str, address: TcpAddress, backlog: int, fd_store: FdStore) -> list[Listener]:
    """A listener for each address of the host: what an earlier master listened on there, or a new one."""
    resolved = dict.fromkeys(_resolve(bind, address))
    found = _take_back_tcp(bind, {entry[4][0] for entry in resolved}, backlog, fd_store)
    # Port 0 means one free port, the same for every family of the name.
    port = next((sock.getsockname()[1] for sock in found.values()), address.port)
    listeners: list[Listener] = []
    refused: OSError | None = None
    for family, kind, protocol, _name, (host, _port, *rest) in resolved:
        try:
            sock = found.pop(host, None)
            while sock is None:
                try:
                    sock = listen_tcp(family, kind, protocol, (host, port, *rest), backlog)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or not fd_store.is_releasing:
                        raise
                    time.sleep(_RETRY_PERIOD)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(resolved) > 1:
                # `localhost` names an address of a family that this host has switched off.
                refused = error
                continue
            for other in [*(listener.sock for listener in listeners), *found.values()]:
                other.close()
            raise BindError(_why_not(bind, port, error)) from None
        port = sock.getsockname()[1]
        listeners.append(Listener(sock))
    if not listeners and refused is not None:
        raise BindError(_why_not(bind, port, refused))
    return listeners


def try_tcp(bind: str, address: TcpAddress) -> None:
    """Check that the address can be bound, now or once it is no longer in use. Raises `BindError`."""
    refused: list[OSError] = []
    resolved = list(dict.fromkeys(_resolve(bind, address)))
    for family, kind, protocol, _name, place in resolved:
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            refused.append(error)
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    hopeless = [e for e in refused if e.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)]
    if hopeless or (refused and len(refused) == len(resolved)):
        raise BindError(_why_not(bind, address.port, (hopeless or refused)[-1]))


def _resolve(bind: str, address: TcpAddress) -> list[tuple[Any, ...]]:
    try:
        return socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError:
        reason = "a part of its name is empty or too long"
    except OSError as error:
        reason = error.strerror or str(error)
    raise BindError(f"cannot bind {bind}: the host is not known here ({reason})")


def _take_back_tcp(
    bind: str, hosts: Collection[str], backlog: int, fd_store: FdStore
) -> dict[str, socket.socket]:
    """What an earlier master listened on for this bind, by address, as far as the host still has these addresses."""
    found: dict[str, socket.socket] = {}
    for sock in fd_store.restore(place_of(bind), None):
        host = sock.getsockname()[0]
        if host in hosts and host not in found:
            sock.listen(backlog)
            found[host] = sock
        else:
            sock.close()
            fd_store.outdate(place_of(bind), None)
    return found


def listen_tcp(
    family: int, kind: int, protocol: int, address: tuple[Any, ...], backlog: int
) -> socket.socket:
    """A new socket that listens there. Raises `OSError`."""
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # So that [::] and 0.0.0.0 may be bound side by side, and no client of IPv4 is called ::ffff:192.0.2.1: a
            # list of trusted peers would have to know that too.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _why_not(bind: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            advice = f"already in use; `ss -ltnp 'sport = :{port}'` tells by whom"
        case errno.EACCES:
            advice = "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            advice = "no interface of this host has that address"
        case _:
            advice = error.strerror or str(error)
    return f"cannot bind {bind}: {advice}"


def _open_unix(bind: str, path: Path, settings: SocketSettings, fd_store: FdStore) -> Listener:
    """What an earlier master listened on, if the file there still leads to it, or a new one."""
    owner = owner_of(bind, settings.uds_owner)
    try:
        with Directory(path.absolute().parent) as directory, directory.lock():
            listener = _take_back_unix(bind, path, directory, fd_store)
            if listener is not None:
                listener.sock.listen(settings.backlog)
            else:
                directory.remove_stale_socket(path.name)
                sock, inode = directory.listen(path.name, os.fspath(path), settings.backlog)
                listener = Listener(sock, path.absolute(), inode)
            try:
                directory.change_owner(path.name, listener.inode, *owner, settings.uds_mode)
            except OSError:
                listener.sock.close()
                if not listener.is_taken_back:
                    directory.remove(path.name, listener.inode)
                raise
    except OSError as error:
        raise BindError(f"cannot bind {bind}: {error.strerror or error}") from None
    warn_of_exposure(socket_of(bind), path)
    return listener


def _take_back_unix(bind: str, path: Path, directory: Directory, fd_store: FdStore) -> Listener | None:
    inode = directory.inode(path.name)
    found = fd_store.restore(place_of(bind), inode)
    if not found:
        return None
    for sock in found[1:]:
        sock.close()
    return Listener(found[0], path.absolute(), inode, is_taken_back=True)


def owner_of(bind: str, owner: str) -> tuple[int, int]:
    """The ids of `user`, `user:group`, `user:` (with the login group) or `:group`; -1 keeps what is.

    Raises `BindError`.
    """
    user, colon, group = owner.partition(":")
    try:
        uid = -1 if not user else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
        gid = -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        if user and colon and not group:
            gid = pwd.getpwuid(uid).pw_gid
    except (KeyError, OverflowError):
        uid = gid = _MOST_ID
    if max(uid, gid) >= _MOST_ID:
        raise BindError(f"cannot bind {bind}: there is no user or group {owner!r}")
    return uid, gid


def _adopt(bind: str, fds: Iterable[int], backlog: int) -> list[Listener]:
    """Listeners on duplicates of these descriptors, which stay open: they cannot be passed again."""
    listeners: list[Listener] = []
    for fd in fds:
        try:
            sock = _duplicate(bind, fd, backlog)
        except BindError:
            for listener in listeners:
                listener.close()
            raise
        listeners.append(Listener(sock))
    return listeners


def _duplicate(bind: str, fd: int, backlog: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise BindError(f"cannot use {bind}: {error.strerror}; was the descriptor passed on?") from None
    try:
        sock.set_inheritable(False)
        if sock.type != socket.SOCK_STREAM:
            raise BindError(f"cannot use {bind}: it is not a stream socket")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(backlog)
        return socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise BindError(f"cannot use {bind}: it does not listen ({error.strerror})") from None
    finally:
        sock.detach()


def _warn_about_a_capped_backlog(backlog: int) -> None:
    try:
        cap = int(_SOMAXCONN.read_text())
    except (OSError, ValueError):
        return
    if cap < backlog:
        log.warning(
            "the kernel caps the backlog of %d at net.core.somaxconn = %d; raise it with sysctl", backlog, cap
        )
