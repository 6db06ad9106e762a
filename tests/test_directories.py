"""What is made at a path stays ours, whatever others who can write to the directory do meanwhile."""

import ast
import contextlib
import logging
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgi_master import directories
from asgi_master.control.socket_paths import ControlSocketError, open_control_socket
from asgi_master.directories import (
    NO_INODE,
    Directory,
    OccupiedError,
    ReplacedError,
    exposure,
    inode_of,
    remove,
)
from asgi_master.errors import BindError
from asgi_master.master.listeners import Listeners
from asgi_master.settings.model import SocketSettings

NOBODY = pwd.getpwnam("nobody")
ROUNDS = 150

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose here")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that belongs to the user of the application."""
    directory = Path(tempfile.mkdtemp(prefix="asgi-master-shared-"))
    os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def leave_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


ATTACKER = """
import os, stat, sys
path, prey, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
print("ready", flush=True)
while True:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
            os.symlink(prey, path)
    except OSError:
        pass
"""


@contextlib.contextmanager
def attacked(path: Path, prey: Path) -> Iterator[None]:
    """While inside, the user of the application puts a link in the place of each socket."""
    command = [sys.executable, "-c", ATTACKER, str(path), str(prey), str(NOBODY.pw_uid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
        try:
            assert attacker.stdout.readline() == b"ready\n"
            yield
        finally:
            attacker.kill()


def at_each_call(
    attempt: Callable[[], None], interfere: Callable[[], bool], judge: Callable[[], None]
) -> int:
    """Attempt again and again, interfered with after its first call of the system, then after its second, and so on.

    `interfere` tells whether there was something to interfere with; `judge` looks at the outcome, and clears up. Returns
    how often there was.
    """
    done = step = 0
    while True:
        calls = -1

        def count(_frame: object, event: str, _function: object, step: int = step) -> None:
            nonlocal calls, done
            if event == "c_return":
                calls += 1
                if calls == step:
                    sys.setprofile(None)
                    done += interfere()

        sys.setprofile(count)
        try:
            attempt()
        finally:
            sys.setprofile(None)
        judge()
        if calls < step:
            return done
        step += 1


TO_NOBODY = {"uds_owner": f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", "uds_mode": 0o666}


def open_and_close(path: Path) -> None:
    listeners = Listeners()
    with contextlib.suppress(BindError):
        listeners.open(SocketSettings(bind=(f"unix:{path}",), **TO_NOBODY))
    listeners.close()


def rights(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


@root_only
class TestUnixBindsUnderAttack:
    @pytest.fixture(autouse=True)
    def _quiet(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL)

    def test_a_file_of_root_never_changes_hands(self, shared: Path, tmp_path: Path) -> None:
        path, victim = shared / "app.sock", tmp_path / "victim"
        victim.touch(0o600)
        with attacked(path, victim):
            for _ in range(ROUNDS):
                open_and_close(path)
                assert rights(victim) == (0, 0o600)
                path.unlink(missing_ok=True)

    @pytest.mark.parametrize("what", ["a link", "another file", "the directory"])
    def test_whenever_it_is_replaced(self, shared: Path, tmp_path: Path, what: str) -> None:
        path, victim = shared / "run" / "app.sock", tmp_path / "app.sock"
        path.parent.mkdir()
        if what == "another file":
            victim = shared / "victim"
        victim.touch(0o600)

        def replace() -> bool:
            if what == "the directory":
                path.parent.rename(shared / "away")
                path.parent.symlink_to(tmp_path)
                return True
            if not path.is_socket():
                return False
            path.unlink()
            if what == "a link":
                path.symlink_to(victim)
            else:
                victim.rename(path)
            return True

        def judge() -> None:
            if path.parent.is_symlink():
                path.parent.unlink()
                (shared / "away").rename(path.parent)
            if not victim.exists() and path.exists():
                path.rename(victim)
            # Between our look and the removal of our file there is a window: who can write there may remove it anyway.
            if what != "another file" or victim.exists():
                assert rights(victim) == (0, 0o600)
            victim.touch(0o600)
            path.unlink(missing_ok=True)

        assert at_each_call(lambda: open_and_close(path), replace, judge) > 10

    def test_a_socket_of_another_instance_never_changes_hands(self, shared: Path) -> None:
        path, prey = shared / "app.sock", shared / "other.sock"

        def replace() -> bool:
            if not path.is_socket():
                return False
            prey.rename(path)
            return True

        for is_alive in (True, False):
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(prey))
                prey.chmod(0o600)
                inode = inode_of(prey)
                if is_alive:
                    other.listen(4096)

                def judge(inode: tuple[int, int] = inode) -> None:
                    for left in (path, prey):
                        if inode_of(left) == inode:
                            assert rights(left) == (0, 0o600)
                            left.rename(prey)
                        else:
                            left.unlink(missing_ok=True)

                at_each_call(lambda: open_and_close(path), replace, judge)


@root_only
def test_a_control_socket_under_attack_is_ours_or_none(shared: Path, tmp_path: Path) -> None:
    path, victim = shared / "control.sock", tmp_path / "victim"
    victim.touch(0o600)

    def replace() -> bool:
        if not path.is_socket():
            return False
        path.unlink()
        path.symlink_to(victim)
        return True

    def attempt() -> None:
        with contextlib.suppress(ControlSocketError):
            control = open_control_socket(str(path), {})
            assert control is not None
            control.close()

    def judge() -> None:
        assert rights(victim) == (0, 0o600)
        path.unlink(missing_ok=True)

    assert at_each_call(attempt, replace, judge) > 10


class TestListen:
    def test_the_address_is_the_path_and_no_other_user_may_connect_yet(self, tmp_path: Path) -> None:
        path = tmp_path / "app.sock"
        before = descriptors()
        with Directory(tmp_path) as directory:
            sock, inode = directory.listen("app.sock", str(path), 5)
        with sock:
            assert sock.getsockname() == str(path)
            assert inode == inode_of(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with pytest.raises(BlockingIOError):
                sock.accept()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                sock.accept()[0].close()
        assert descriptors() == before

    @pytest.mark.parametrize(
        "by", ["nothing", "a link", "a file", "a dead socket", "a live socket", "a datagram socket"]
    )
    def test_what_was_replaced_is_noticed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
    ) -> None:
        path = tmp_path / "app.sock"
        others = []
        listen = socket.socket.listen

        def replace(sock: socket.socket, backlog: int) -> None:
            listen(sock, backlog)
            path.unlink()
            match by:
                case "a link":
                    path.symlink_to("/etc/passwd")
                case "a file":
                    path.touch()
                case "a dead socket":
                    leave_socket(path)
                case "a live socket" | "a datagram socket":
                    kind = socket.SOCK_STREAM if by == "a live socket" else socket.SOCK_DGRAM
                    others.append(socket.socket(socket.AF_UNIX, kind))
                    others[0].bind(str(path))
                    if kind is socket.SOCK_STREAM:
                        listen(others[0], 5)

        before = descriptors()
        with monkeypatch.context() as patched, Directory(tmp_path) as directory:
            patched.setattr(socket.socket, "listen", replace)
            with pytest.raises(OSError) as caught:
                directory.listen("app.sock", str(path), 5)
        assert by == "a datagram socket" or isinstance(caught.value, ReplacedError)
        left = inode_of(path)
        assert descriptors() == before + len(others)
        assert (left == NO_INODE) == (by == "nothing")
        for other in others:
            other.close()

    def test_a_directory_that_was_led_elsewhere_is_noticed(self, tmp_path: Path) -> None:
        there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
        there.mkdir()
        elsewhere.mkdir()
        with Directory(there) as directory:
            there.rename(tmp_path / "away")
            there.symlink_to(elsewhere)
            with pytest.raises(ReplacedError):
                directory.listen("app.sock", str(there / "app.sock"), 5)

    @pytest.mark.parametrize("kind", ["file", "link", "live"])
    def test_what_is_not_ours_to_remove_stays(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as other, Directory(tmp_path) as directory:
            match kind:
                case "file":
                    path.write_text("precious")
                case "link":
                    leave_socket(tmp_path / "dead.sock")
                    path.symlink_to(tmp_path / "dead.sock")
                case "live":
                    other.bind(str(path))
                    other.listen()
            inode = inode_of(path)
            with pytest.raises(OccupiedError):
                directory.remove_stale_socket("app.sock")
            with pytest.raises(OccupiedError):
                directory.listen("app.sock", str(path), 5)
            assert inode_of(path) == inode

    def test_what_the_dead_left_goes(self, tmp_path: Path) -> None:
        leave_socket(tmp_path / "app.sock")
        with Directory(tmp_path) as directory:
            directory.remove_stale_socket("app.sock")
            directory.remove_stale_socket("app.sock")
        assert list(tmp_path.iterdir()) == []


class TestGive:
    def test_only_to_what_it_is_meant_for(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch(0o600)
        inode = inode_of(path)
        with Directory(tmp_path) as directory:
            directory.change_owner("file", inode, -1, -1, 0o640)
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            path.rename(tmp_path / "away")
            with pytest.raises(ReplacedError):
                directory.change_owner("file", inode, -1, -1, 0o666)
            path.symlink_to(tmp_path / "away")
            with pytest.raises(ReplacedError):
                directory.change_owner("file", inode, -1, -1, 0o666)
        assert stat.S_IMODE((tmp_path / "away").stat().st_mode) == 0o640


class TestRemove:
    def test_only_what_is_meant(self, tmp_path: Path) -> None:
        path, other = tmp_path / "file", tmp_path / "other"
        path.touch()
        other.touch()
        remove(path, inode_of(other))
        remove(path, NO_INODE)
        remove(tmp_path / "missing", NO_INODE)
        assert path.exists()
        other_inode = inode_of(other)
        path.unlink()
        path.symlink_to(other)
        remove(path, other_inode)
        assert other.exists()
        remove(path, inode_of(path))
        assert sorted(tmp_path.iterdir()) == [other]


class TestTurn:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        with Directory(tmp_path) as first, Directory(tmp_path) as second:
            with first.lock():
                assert not second._try_lock()
            assert second._try_lock()

    def test_no_other_user_delays_it_for_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directories, "_TURN_TIMEOUT", 0.05)
        with Directory(tmp_path) as hostile, Directory(tmp_path) as ours, hostile.lock():
            began = time.monotonic()
            with ours.lock():
                assert time.monotonic() - began < 30

    @root_only
    def test_a_directory_that_may_not_be_listed(self, shared: Path) -> None:
        shared.chmod(0o300)
        os.seteuid(NOBODY.pw_uid)
        try:
            with Directory(shared) as directory, directory.lock():
                directory.listen("app.sock", str(shared / "app.sock"), 5)[0].close()
                directory.remove_stale_socket("app.sock")
        finally:
            os.seteuid(0)
        assert list(shared.iterdir()) == []


@root_only
class TestExposure:
    def test_what_only_root_can_write_to(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        assert exposure(tmp_path / "run" / "app.sock") == ""
        assert exposure(Path("/run/app.sock")) == ""
        assert exposure(tmp_path / "missing" / "app.sock") == ""

    def test_a_directory_of_the_application(self, shared: Path) -> None:
        line = exposure(shared / "app.sock")
        assert line == f"can be replaced by others, as the user nobody can write to {shared}"

    def test_a_directory_of_the_application_on_the_way(self, shared: Path) -> None:
        (shared / "run").mkdir()
        assert f"as the user nobody can write to {shared}" in exposure(shared / "run" / "app.sock")

    @pytest.mark.parametrize("link_in", ["safe", "shared"])
    def test_links_on_the_way(self, shared: Path, tmp_path: Path, link_in: str) -> None:
        (tmp_path / "run").mkdir()
        link = (tmp_path if link_in == "safe" else shared) / "link"
        link.symlink_to(tmp_path / "run" if link_in == "shared" else os.path.relpath(shared, tmp_path))
        assert f"nobody can write to {shared}" in exposure(link / "app.sock")
        round_about = tmp_path / "run" / ".." / "link" / "app.sock"
        assert link_in == "shared" or f"nobody can write to {shared}" in exposure(round_about)

    def test_a_link_of_another_in_a_sticky_directory(self, tmp_path: Path) -> None:
        sticky = tmp_path / "tmp"
        sticky.mkdir()
        sticky.chmod(0o1777)
        (tmp_path / "run").mkdir()
        (sticky / "link").symlink_to(tmp_path / "run")
        assert exposure(sticky / "link" / "app.sock") == ""
        os.chown(sticky / "link", NOBODY.pw_uid, -1, follow_symlinks=False)
        assert f"the user nobody can write to {sticky}" in exposure(sticky / "link" / "app.sock")

    @pytest.mark.parametrize(
        ("mode", "gid", "who"),
        [
            (0o775, 0, ""),
            (0o775, 12, "the group"),
            (0o777, 0, "every user"),
            (0o757, 0, "every user"),
            (0o755, 12, ""),
        ],
    )
    def test_by_mode(self, tmp_path: Path, mode: int, gid: int, who: str) -> None:
        directory = tmp_path / "run"
        directory.mkdir()
        os.chown(directory, 0, gid)
        directory.chmod(mode)
        line = exposure(directory / "app.sock")
        assert (f"can be replaced by others, as {who}" in line) if who else line == ""

    def test_a_sticky_directory_is_for_names_that_are_free(self, tmp_path: Path) -> None:
        sticky = tmp_path / "tmp"
        (sticky / "ours").mkdir(parents=True)
        sticky.chmod(0o1777)
        assert "while asgi-master does not run, as every user can write to" in exposure(sticky / "app.sock")
        assert exposure(sticky / "ours" / "app.sock") == ""
        os.chown(sticky / "ours", NOBODY.pw_uid, -1)
        assert "the user nobody can write to" in exposure(sticky / "ours" / "app.sock")

    def test_links_that_never_end(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        assert exposure(tmp_path / "loop" / "app.sock") == ""


def test_nothing_else_makes_or_removes_by_path() -> None:
    """What is not here today is tomorrow's hole: `faults` alone, whose file a test names, may do so."""
    known = {
        "unlink",
        "chmod",
        "lchmod",
        "chown",
        "lchown",
        "mkfifo",
        "mknod",
        "rename",
        "replace",
        "rmdir",
        "truncate",
    }
    known |= {
        "touch",
        "write_text",
        "write_bytes",
        "symlink_to",
        "hardlink_to",
        "symlink",
        "link",
        "makedirs",
        "removedirs",
    }
    source = Path(directories.__file__).parent
    found = set()
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            is_os = isinstance(owner, ast.Name) and owner.id in {"os", "shutil"}
            # Strings and dataclasses have a `replace`, too.
            if node.func.attr in known and (is_os or node.func.attr != "replace"):
                found.add((file.relative_to(source).as_posix(), node.func.attr))
    elsewhere = {(file, call) for file, call in found if file != "directories.py"}
    # A dead worker's files, removed by their user; a page of the documentation, written by hand.
    assert elsewhere == {
        ("control/metrics_page.py", "write_text"),
        ("faults.py", "unlink"),
        ("worker/prometheus.py", "unlink"),
        ("worker/warm/learning.py", "unlink"),  # compiled code of the developer, made again
    }
    assert {call for file, call in found if file == "directories.py"} == {
        "chmod",
        "chown",
        "rename",
        "unlink",
    }
