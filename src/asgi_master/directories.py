"""Files and sockets at paths, in directories that other users may be able to write to.

Rules of this room:
  - Whatever is created, chowned, compared or removed by path goes through here.
  - A name can refer to another file at the next call. So the directory is opened once; entries are opened without
    following links, and changed through that descriptor.
  - Only files of this program are removed: the same inode, not whatever has the name by then.
"""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

Inode = tuple[int, int]
"""Device and inode number: the identity of a file."""

NO_INODE: Inode = (-1, -1)
"""Stands for no file."""

_CONNECT_TIMEOUT = 1.0
_TURN_TIMEOUT = 1.0
_TURN_PERIOD = 0.01
_MAX_LINKS = 40
"""As the kernel's limit."""
_PRIVATE = 0o177
"""The umask under which files are created: access for others is granted after their identity was checked."""


class OccupiedError(FileExistsError):
    """The name is taken by a file that must not be removed; `strerror` says by what."""

    def __init__(self, what: str) -> None:
        super().__init__(None, what)


class ReplacedError(OSError):
    """The name no longer refers to the created file: another user can write to the directory, and did."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            None,
            "another process moved or replaced it right after its creation: "
            f"only its owner should have write access to {path.parent}",
        )


class Entry:
    """An open directory entry: its name may come to refer to another file, this does not."""

    def __init__(self, fd: int) -> None:
        """`fd` was opened with `O_PATH`; the entry owns it."""
        self.fd = fd
        self.status = os.fstat(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        os.close(self.fd)

    @property
    def inode(self) -> Inode:
        return self.status.st_dev, self.status.st_ino

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket's file."""
        return stat.S_ISSOCK(self.status.st_mode)

    @property
    def path(self) -> str:
        """A path that refers to this entry, and to no other, while it is open."""
        return f"/proc/self/fd/{self.fd}"

    def listens(self) -> bool:
        """Whether a process listens on the socket. An unclear answer counts as yes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_TIMEOUT)
            try:
                probe.connect(self.path)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:
                # No permission, or a queue that is full.
                return True
        return True

    def is_file_of(self, listener: socket.socket) -> bool:
        """Whether it is the file of this listening socket, which only its user can have connected to so far.

        Raises `OSError`.

        The kernel does not report which file a socket is bound to: `SIOCUNIXFILE` requires CAP_NET_ADMIN, and netlink
        reports the inode of another layer than `fstat` if file systems are stacked. So this connects, and checks which
        socket accepts.
        """
        if not self.is_socket:
            return False
        listener.setblocking(False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_TIMEOUT)
            probe.bind("")  # to an address that no other socket has
            with contextlib.suppress(ConnectionRefusedError, PermissionError, BlockingIOError):
                probe.connect(self.path)
                while True:
                    accepted, address = listener.accept()
                    accepted.close()
                    if address == probe.getsockname():
                        return True
        return False


class Directory:
    """An open directory: its path may come to refer to another one."""

    def __init__(self, path: Path, *, follow: bool = True) -> None:
        """Raises `OSError`, also for a symbolic link unless `follow`."""
        flags = os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        try:
            self._fd = os.open(path, os.O_RDONLY | flags)
        except PermissionError:
            # Creating and removing files requires no right to list the directory.
            self._fd = os.open(path, os.O_PATH | flags)
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    @property
    def status(self) -> os.stat_result:
        """The status with owner and mode."""
        return os.fstat(self._fd)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory among cooperating processes, for a check that is followed by a change.

        Any user who may read the directory can hold the lock, so the wait is short.
        """
        deadline = time.monotonic() + _TURN_TIMEOUT
        with contextlib.suppress(OSError):  # no right to read the directory, or a file system without locks
            while not self._try_lock() and time.monotonic() < deadline:
                time.sleep(_TURN_PERIOD)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def entry(self, name: str) -> Entry | None:
        """Open an entry without following links; `None` if there is none. Raises `OSError`."""
        try:
            return Entry(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd))
        except FileNotFoundError:
            return None

    def inode(self, name: str) -> Inode:
        """The inode of an entry. Raises `OSError` if it cannot be read."""
        entry = self.entry(name)
        if entry is None:
            return NO_INODE
        with entry:
            return entry.inode

    def remove(self, name: str, inode: Inode) -> None:
        """Remove an entry if it has this inode. Raises `OSError`.

        Between the check and the removal a user with the right to remove it could replace it. Processes that hold
        `turn` do not interfere with each other.
        """
        if inode != NO_INODE and self.inode(name) == inode:
            os.unlink(name, dir_fd=self._fd)

    def remove_stale_socket(self, name: str) -> None:
        """Remove a socket on which no process listens. Raises `OccupiedError` for anything else, `OSError`."""
        entry = self.entry(name)
        if entry is None:
            return
        with entry:
            if not entry.is_socket:
                raise OccupiedError("the path is taken by a file that is not a socket; move it away")
            if entry.listens():
                raise OccupiedError("another process listens there")
            self.remove(name, entry.inode)

    def listen(self, name: str, address: str, backlog: int) -> tuple[socket.socket, Inode]:
        """Create a listening socket and its file, to which only its user can connect until `change_owner`.

        `address` is the path of the file, which clients see as the socket's address. Raises `OccupiedError`,
        `ReplacedError`, `OSError`.
        """
        # Bound by its path: a shorter path, through a descriptor, would be visible as its address.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _private():
                sock.bind(address)
            sock.listen(backlog)
            with self._open_entry(name) as entry:
                if entry.is_file_of(sock):
                    return sock, entry.inode
            raise ReplacedError(self.path / name)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise OccupiedError("the path is taken") from None
            raise

    def change_owner(self, name: str, inode: Inode, uid: int, gid: int, mode: int) -> None:
        """Set owner, group (-1 keeps the current one) and mode of an entry.

        Raises `ReplacedError` if it does not have this inode, `OSError`.
        """
        with self._open_entry(name) as entry:
            if entry.inode != inode:
                raise ReplacedError(self.path / name)
            if (uid, gid) != (-1, -1):
                os.chown(entry.path, uid, gid)
            os.chmod(entry.path, mode)  # noqa: PTH101 -- no path of ours

    def append_to(self, name: str, mode: int) -> int:
        """Open a file to append to, or create it; returns a descriptor that never blocks.

        A link is not followed, as a user with write access to the directory could point it anywhere. A pipe without a
        reader keeps what fits. Raises `OccupiedError`, `OSError`.
        """
        flags = os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | flags, mode, dir_fd=self._fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OccupiedError("it is a symbolic link, which is not followed") from None
            if error.errno != errno.ENXIO:
                raise
            fd = os.open(name, os.O_RDWR | flags, dir_fd=self._fd)
        try:
            check_appendable(os.fstat(fd))
        except OSError:
            os.close(fd)
            raise
        return fd

    def _open_entry(self, name: str) -> Entry:
        """Open an entry. Raises `ReplacedError` if there is none, `OSError`."""
        entry = self.entry(name)
        if entry is None:
            raise ReplacedError(self.path / name)
        return entry

    def write(self, name: str, content: bytes, *, mode: int, prepare: Callable[[int], None]) -> int:
        """Create a file that replaces an existing one atomically; returns its descriptor.

        `prepare` is called with the descriptor before another process can open the file. The umask applies to `mode`.
        Raises `ReplacedError`, `OSError`.
        """
        new = f".{os.getpid()}-{os.urandom(6).hex()}"
        with _private() as umask:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(new, flags, 0o600, dir_fd=self._fd)
        try:
            prepare(fd)
            os.write(fd, content)
            os.fchmod(fd, mode & ~umask)
            os.rename(new, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            if self.inode(name) != inode_of(fd):
                raise ReplacedError(self.path / name)
        except OSError:
            with contextlib.suppress(OSError):
                self.remove(new, inode_of(fd))
            os.close(fd)
            raise
        return fd


def inode_of(place: int | Path) -> Inode:
    """The inode of an open file, or of a path without following links; `NO_INODE` if it cannot be read."""
    try:
        found = os.fstat(place) if isinstance(place, int) else place.lstat()
    except OSError:
        return NO_INODE
    return found.st_dev, found.st_ino


def check_appendable(found: os.stat_result) -> None:
    """Check that records can be appended to a file of this status. Raises `OccupiedError`."""
    if stat.S_ISLNK(found.st_mode):
        raise OccupiedError("it is a symbolic link, which is not followed")
    if stat.S_ISREG(found.st_mode):
        if found.st_nlink > 1:
            raise OccupiedError("the file has other names too (hard links): it may belong to another user")
    elif not (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        raise OccupiedError("it is neither a file nor a pipe")


def remove(path: Path, inode: Inode) -> None:
    """Remove the file if it has this inode. Raises `OSError`."""
    with Directory(path.parent) as directory, directory.lock():
        directory.remove(path.name, inode)


def exposure(path: Path) -> str:
    """The reason why users other than root could replace a file at this path; empty if none could.

    Completes `<the file> ...`. In a sticky directory (/tmp) files of root cannot be replaced, so one on the way to the
    file is safe; but a name in it is free for every user while this program does not run.
    """
    for place, name in _looked_up_in(path.absolute()):
        try:
            found, entry = os.stat(place), None if name is None else os.lstat(f"{place}/{name}")  # noqa: PTH116
        except OSError:
            return ""  # reported when the path is used
        who = _writers(place, found)
        if who and found.st_mode & stat.S_ISVTX and found.st_uid == 0:
            if entry is None:
                return f"can be anybody's while asgi-master does not run, as {who} can write to {place}"
            # Its owner can replace it. A directory is checked itself.
            who = _user(entry.st_uid) if entry.st_uid != 0 and not stat.S_ISDIR(entry.st_mode) else ""
        if who:
            return f"can be replaced by others, as {who} can write to {place}"
    return ""


def _writers(place: str, found: os.stat_result) -> str:
    """The users other than root who can create, rename and remove files there; empty if there are none."""
    if found.st_uid != 0:
        return _user(found.st_uid)
    if found.st_mode & stat.S_IWOTH:
        return "every user"
    if found.st_mode & stat.S_IWGRP:
        if found.st_gid != 0:
            return _group(found.st_gid)
        # With an access control list, the group bits are its mask.
        with contextlib.suppress(OSError):
            if os.getxattr(place, "system.posix_acl_access"):
                return "the users on its access control list"
    return ""


def _user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def _group(gid: int) -> str:
    try:
        return f"the group {grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"the group {gid}"


def _looked_up_in(path: Path) -> Iterator[tuple[str, str | None]]:
    """Every directory in which a component of this absolute path is looked up, following links, with the component.

    The last is the directory of the file, with `None`, as that name is not followed.
    """
    place, names, links = "/", list(reversed(path.parent.parts[1:])), 0
    while names:
        name = names.pop()
        if name == "..":
            place = os.path.dirname(place)  # noqa: PTH120 -- strings all the way
            continue
        yield place, name
        there = f"{place.rstrip('/')}/{name}"
        try:
            target = os.readlink(there)  # noqa: PTH115
        except OSError:
            place = there
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        if target.startswith("/"):
            place = "/"
        names.extend(part for part in reversed(target.split("/")) if part not in {"", "."})
    yield place, None


@contextlib.contextmanager
def _private() -> Iterator[int]:
    """Create files for their user alone; yields the configured umask. Threads share it."""
    umask = os.umask(_PRIVATE)
    try:
        yield umask
    finally:
        os.umask(umask)
