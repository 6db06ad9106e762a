"""Files and sockets that we make at paths, in directories that others may be able to write to as well.

Rules of this room:
  - Whatever is made, given away, compared or removed by a path goes through here.
  - A name can mean something else at the next call. So the directory is opened once; what stands in it is opened
    without following a link, and changed through that descriptor.
  - Only what is ours is removed: the very inode, not whatever has the name by then.
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
"""Device and number: what tells two files apart, whatever their names."""

NO_INODE: Inode = (-1, -1)
"""Of what does not exist."""

_CONNECT_TIMEOUT = 1.0
_TURN_TIMEOUT = 1.0
_TURN_PERIOD = 0.01
_MAX_LINKS = 40
"""As the kernel's."""
_PRIVATE = 0o177
"""The umask under which things are made: whoever else may have them is decided once they are known to be ours."""


class OccupiedError(FileExistsError):
    """Something stands there that is not ours to remove; `strerror` says what."""

    def __init__(self, what: str) -> None:
        super().__init__(None, what)


class ReplacedError(OSError):
    """What was made is not what stands under its name: somebody else can write to the directory, and did."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            None,
            "somebody moved or replaced it as soon as it was made: "
            f"only its owner should be able to write to {path.parent}",
        )


class Entry:
    """What stands under a name in a directory, held: the name may come to mean something else, this does not."""

    def __init__(self, fd: int) -> None:
        """`fd` was opened by `O_PATH`, and is owned from now on."""
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
        """See `Inode`."""
        return self.status.st_dev, self.status.st_ino

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket's file."""
        return stat.S_ISSOCK(self.status.st_mode)

    @property
    def path(self) -> str:
        """A path that leads to it, and to nothing else, while it is held."""
        return f"/proc/self/fd/{self.fd}"

    def listens(self) -> bool:
        """Whether somebody listens behind the socket. What does not answer clearly counts as somebody."""
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

    def leads_to(self, listener: socket.socket) -> bool:
        """Whether it is the file of this socket, which listens, and to which nobody but its user can have come yet.

        Raises `OSError`.

        The kernel does not tell which file a socket was bound to: `SIOCUNIXFILE` takes CAP_NET_ADMIN, and what netlink
        says is of another layer than `fstat` where file systems are stacked. So we connect, and see who is reached.
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
    """An open directory: from here on its path may be led elsewhere."""

    def __init__(self, path: Path, *, follow: bool = True) -> None:
        """Raises `OSError`, also if it is a symbolic link and that is not to be followed."""
        flags = os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        try:
            self._fd = os.open(path, os.O_RDONLY | flags)
        except PermissionError:
            # To make and remove files in it takes no right to list them.
            self._fd = os.open(path, os.O_PATH | flags)
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    @property
    def status(self) -> os.stat_result:
        """Its owner and mode."""
        return os.fstat(self._fd)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One at a time: whoever looks at what stands here, and then makes or removes something.

        Anybody who may read the directory can keep us waiting, so it is not for long.
        """
        deadline = time.monotonic() + _TURN_TIMEOUT
        with contextlib.suppress(OSError):  # no right to read it, or a file system that has no locks
            while not self._lock() and time.monotonic() < deadline:
                time.sleep(_TURN_PERIOD)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def entry(self, name: str) -> Entry | None:
        """What stands there, links not followed; `None` if nothing does. Raises `OSError`."""
        try:
            return Entry(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd))
        except FileNotFoundError:
            return None

    def inode(self, name: str) -> Inode:
        """Of what stands there. Raises `OSError` if it cannot be seen."""
        entry = self.entry(name)
        if entry is None:
            return NO_INODE
        with entry:
            return entry.inode

    def remove(self, name: str, inode: Inode) -> None:
        """Remove what stands there if it is this one. Raises `OSError`.

        Between the look and the removal another can be put there by hand, by whoever may remove it anyway. Those who
        take their `turn`, as we do, are not in the way of each other.
        """
        if inode != NO_INODE and self.inode(name) == inode:
            os.unlink(name, dir_fd=self._fd)

    def make_way(self, name: str) -> None:
        """Remove a socket that nobody listens on. Raises `OccupiedError` for what else is in the way, `OSError`."""
        entry = self.entry(name)
        if entry is None:
            return
        with entry:
            if not entry.is_socket:
                raise OccupiedError("a file that is not a socket stands there; move it away")
            if entry.listens():
                raise OccupiedError("another process listens there")
            self.remove(name, entry.inode)

    def listen(self, name: str, address: str, backlog: int) -> tuple[socket.socket, Inode]:
        """A socket that listens there, and its file, which nobody but its user may connect to before it is given away.

        `address` is the path that leads there, and what clients see as the socket's. Raises `OccupiedError`,
        `ReplacedError`, `OSError`.
        """
        # Bound by its path: a shorter way, by a descriptor, would be what everybody sees as its address.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _private():
                sock.bind(address)
            sock.listen(backlog)
            with self._held(name) as entry:
                if entry.leads_to(sock):
                    return sock, entry.inode
            raise ReplacedError(self.path / name)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise OccupiedError("something stands there") from None
            raise

    def give(self, name: str, inode: Inode, uid: int, gid: int, mode: int) -> None:
        """Have what stands there belong to them (-1 keeps what is), with this mode.

        Raises `ReplacedError` if it is not this one, `OSError`.
        """
        with self._held(name) as entry:
            if entry.inode != inode:
                raise ReplacedError(self.path / name)
            if (uid, gid) != (-1, -1):
                os.chown(entry.path, uid, gid)
            os.chmod(entry.path, mode)  # noqa: PTH101 -- no path of ours

    def append_to(self, name: str, mode: int) -> int:
        """Open what stands there for records to be appended, or make a file; returns its descriptor, which never waits.

        A link is not followed, as whoever may write to the directory can lead it anywhere. A pipe without a reader
        keeps what it has room for. Raises `OccupiedError`, `OSError`.
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

    def _held(self, name: str) -> Entry:
        """Raises `ReplacedError` if nothing stands there, `OSError`."""
        entry = self.entry(name)
        if entry is None:
            raise ReplacedError(self.path / name)
        return entry

    def write(self, name: str, content: bytes, *, mode: int, prepare: Callable[[int], None]) -> int:
        """Make a file, and have it stand there at once and whole, instead of what did; returns its descriptor.

        `prepare` is called with the descriptor before anybody else may open the file. `mode` is lessened by the umask.
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
    """Of an open file, or of what stands at a path, links not followed: `NO_INODE` if that cannot be seen."""
    try:
        found = os.fstat(place) if isinstance(place, int) else place.lstat()
    except OSError:
        return NO_INODE
    return found.st_dev, found.st_ino


def check_appendable(found: os.stat_result) -> None:
    """See whether records can be appended to what was found. Raises `OccupiedError`."""
    if stat.S_ISLNK(found.st_mode):
        raise OccupiedError("it is a symbolic link, which is not followed")
    if stat.S_ISREG(found.st_mode):
        if found.st_nlink > 1:
            raise OccupiedError("the file has other names too (hard links): it may be somebody else's")
    elif not (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        raise OccupiedError("it is neither a file nor a pipe")


def remove(path: Path, inode: Inode) -> None:
    """Remove what stands there if it is this one. Raises `OSError`."""
    with Directory(path.parent) as directory, directory.turn():
        directory.remove(path.name, inode)


def exposure(path: Path) -> str:
    """Why others than root could put something else in the place of a file at this path; empty if nobody could.

    Completes `<the file> ...`. In a directory that is sticky (/tmp) what belongs to root stays
    where it is, so on the way to the file it is no danger; but a name in it is free for everybody while we do not run.
    """
    for place, name in _looked_up_in(path.absolute()):
        try:
            found, entry = os.stat(place), None if name is None else os.lstat(f"{place}/{name}")  # noqa: PTH116
        except OSError:
            return ""  # whoever uses it will tell
        who = _writers(place, found)
        if who and found.st_mode & stat.S_ISVTX and found.st_uid == 0:
            if entry is None:
                return f"can be anybody's while asgi-master does not run, as {who} can write to {place}"
            # Whoever owns it can put another in its place. A directory is looked at itself.
            who = _user(entry.st_uid) if entry.st_uid != 0 and not stat.S_ISDIR(entry.st_mode) else ""
        if who:
            return f"can be replaced by others, as {who} can write to {place}"
    return ""


def _writers(place: str, found: os.stat_result) -> str:
    """Who but root can make, rename and remove files there; empty if nobody."""
    if found.st_uid != 0:
        return _user(found.st_uid)
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP:
        if found.st_gid != 0:
            return _group(found.st_gid)
        # Where there is an access list, the bits of the group are its mask.
        with contextlib.suppress(OSError):
            if os.getxattr(place, "system.posix_acl_access"):
                return "whoever is on its access list"
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
    """Every directory in which a name of this absolute path is looked up, links followed, and that name.

    The last is the directory of the file; its name is `None`, as that is not followed.
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
    """What is made inside is its user's alone; yields the umask that was asked for. Threads would share it."""
    umask = os.umask(_PRIVATE)
    try:
        yield umask
    finally:
        os.umask(umask)
