"""A real systemd in a box: booted once by systemd-nspawn from a copy of this host's root, for all tests that need one.

Nothing is written outside of a temporary directory, no port of the host is used, and no unit of the host starts. The
interpreter and the packages that run the tests are bound into the box below /opt, where services may read them.
`ASGI_MASTER_TEST_ROOT` names another root directory (of a newer distribution) to boot.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

REPOSITORY = Path(__file__).parents[2]
UNITS = REPOSITORY / "systemd"
BOOT = Path(__file__).with_name("systemd_boot.sh")
PATIENCE = 30.0
"""Seconds for any one thing; only failures take so long."""

_MASKED = (
    *("firstboot", "udevd", "udev-trigger", "update-utmp", "binfmt", "hwdb-update", "timesyncd", "networkd"),
    *("resolved", "pstore", "update-done", "journal-catalog-update", "machine-id-commit"),
)
_HERE = Path("opt/box")

T = TypeVar("T")


def why_not() -> str:
    """Why no systemd can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    missing = [tool for tool in ("systemd-nspawn", "nsenter", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install systemd-container)"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlayfs"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces to be had here: {tried.stderr.strip()}" if tried.returncode else ""


def wait_until(condition: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
    """The first true value of `condition`, asked again and again."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)  # each question is a program or two
    return value


class Box:
    """The booted systemd. Commands run inside of it as root."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="asgi-master-box-"))
        self._seed = Path(tempfile.mkdtemp(prefix="asgi-master-seed-"))
        self._seed.chmod(0o755)
        self._cgroups: list[Path] = []
        self._console = self._place.with_suffix(".console")
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.version = 0
        """Of systemd."""

    def boot(self) -> "Box":
        root = Path(os.environ.get("ASGI_MASTER_TEST_ROOT", "/"))
        self._sow()
        binds = [f"--bind-ro={source}:/{_HERE}/{name}" for name, source in self._bound(root).items()]
        command = ["sh", os.fspath(BOOT), *map(os.fspath, (self._place, root, self._seed))]
        # PID 1 of the namespace dies with this process, and everything in it with PID 1.
        isolated = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
        isolated += ["--kill-child=KILL", "--mount-proc", "--propagation", "private"]
        if Path("/run/systemd/system").is_dir():
            # The host's systemd owns the control groups: have it delegate one.
            isolated = ["systemd-run", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", *isolated]
        else:
            self._cgroups = list(_own_cgroups(self._place.name))
        groups = [os.fspath(group) for group in self._cgroups]
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [*isolated, *command, *groups, "--", *binds],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._leader = wait_until(self._find_leader, "the box has a process 1")
        wait_until(self._is_up, "systemd is up in the box")
        self.version = int(self.run("systemctl", "--version").split()[1])
        self.run("ldconfig")
        return self

    def close(self) -> None:
        """Shut it down, by force if need be, and remove every trace."""
        if self._process is not None:
            if self._leader:
                self.attempt("systemctl", "exit", "--no-block", "0")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process.kill()
            self._process.wait(PATIENCE)
        for group in self._cgroups:
            wait_until(partial(_remove_group, group), f"{group} is empty")
        shutil.rmtree(self._seed)
        shutil.rmtree(self._place)
        self._console.unlink(missing_ok=True)

    # -- doing things inside

    def inside(self, *command: str) -> list[str]:
        """The command that runs this one in the box."""
        return ["nsenter", "-t", str(self._leader), "-a", "--", *command]

    def attempt(self, *command: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run a command in the box; the test judges how it went."""
        return subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=timeout)

    def run(self, *command: str, timeout: float = PATIENCE) -> str:
        """Run a command in the box; returns its output."""
        done = self.attempt(*command, timeout=timeout)
        assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def path(self, inside: str) -> Path:
        """A path of the box, as it is reached from here."""
        return Path(f"/proc/{self._leader}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the box, whole at once."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.chmod(mode)
        new.rename(path)

    # -- getting there

    def _sow(self) -> None:
        """Files that lie over the root directory."""
        units = self._seed / "etc/systemd/system"
        units.mkdir(parents=True)
        for name in _MASKED:
            (units / f"systemd-{name}.service").symlink_to("/dev/null")
        (units / "box.target").write_text(
            "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
        )
        journal = self._seed / "etc/systemd/journald.conf.d/box.conf"
        journal.parent.mkdir()
        journal.write_text("[Journal]\nStorage=volatile\nRateLimitBurst=0\n")
        (self._seed / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (self._seed / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        if _is_bound(sys.base_prefix):
            # An interpreter with a shared library looks for it where it was built.
            (self._seed / "etc/ld.so.conf.d").mkdir()
            (self._seed / "etc/ld.so.conf.d/box.conf").write_text(f"/{_HERE}/python/lib\n")
        self._sow_environment(self._seed / _HERE / "venv")

    def _sow_environment(self, venv: Path) -> None:
        """A virtual environment that finds what is bound."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        prefix = f"/{_HERE}/python" if _is_bound(sys.base_prefix) else sys.base_prefix
        packages = venv / "lib" / version / "site-packages"
        (venv / "bin").mkdir(parents=True)
        packages.mkdir(parents=True)
        (venv / "pyvenv.cfg").write_text(f"home = {prefix}/bin\n")
        (venv / "bin/python").symlink_to(f"{prefix}/bin/{version}")
        (packages / "box.pth").write_text(f"/{_HERE}/src\n/{_HERE}/site-packages\n")
        for name, module in (("asgi-master", "app"), ("asgi-masterctl", "ctl")):
            script = venv / "bin" / name
            script.write_text(
                f"#!/{_HERE}/venv/bin/python\nimport sys\nfrom asgi_master.cli.{module} import main\nsys.exit(main())\n"
            )
            script.chmod(0o755)

    def _bound(self, root: Path) -> dict[str, Path]:
        bound = {"src": REPOSITORY / "src", "site-packages": Path(psutil.__file__).parent.parent}
        if _is_bound(sys.base_prefix):
            bound["python"] = Path(sys.base_prefix)
        else:
            assert root == Path("/"), "another root needs an interpreter that does not belong to this one"
        return bound

    def _find_leader(self) -> int:
        """The box's process 1, as the host numbers it: it is number 1 in the innermost namespace."""
        assert self._process is not None
        assert self._process.poll() is None, f"the box did not boot:\n{self._console.read_text()}"
        best = (0, 0)
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(OSError, psutil.NoSuchProcess):
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
                    numbers = line.split()[1:]
                    if child.name() == "systemd" and numbers[-1] == "1":
                        best = max(best, (len(numbers), child.pid))
        return best[1]

    def _is_up(self) -> bool:
        done = self.attempt("systemctl", "is-active", "box.target")
        return done.stdout.strip() == "active"


def _is_bound(prefix: str) -> bool:
    """Whether the interpreter lies where the box's own root has none of it, or hides it from services."""
    return prefix != "/usr"


def _own_cgroups(name: str) -> Iterator[Path]:
    """A new control group in each hierarchy that a systemd uses."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        top = Path("/sys/fs/cgroup")
        if controllers == "name=systemd":
            top /= "systemd"
        elif controllers:
            continue
        elif (top / "unified").is_dir():
            top /= "unified"
        group = top / path.lstrip("/") / name
        group.mkdir()
        yield group


def _remove_group(group: Path) -> bool:
    for directory, _names, _files in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
    return not group.exists()


class Service:
    """One instance of asgi-master@.service, with its application in /srv."""

    def __init__(self, box: Box, name: str) -> None:
        self.box = box
        self.name = name
        self.unit = f"asgi-master@{name}.service"

    def deploy(self, source: str, **settings: Any) -> "Service":
        """Put the application and its settings in place. Nothing is started."""
        self.box.write(f"/srv/{self.name}/app.py", source)
        lines = [f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in settings.items()]
        self.box.write(f"/srv/{self.name}/asgi-master.toml", "\n".join(['app = "app:app"', *lines]))
        venv = self.box.path(f"/srv/{self.name}/.venv")
        if not venv.is_symlink():
            venv.symlink_to(f"/{_HERE}/venv")
        return self

    def drop_in(self, name: str, text: str) -> None:
        """Change the unit."""
        self.box.write(f"/etc/systemd/system/{self.unit}.d/{name}.conf", text)
        self.box.run("systemctl", "daemon-reload")

    def start(self) -> "Service":
        self.do("start")
        return self

    def do(self, verb: str, *arguments: str) -> str:
        """`systemctl VERB`; a failure shows the journal."""
        done = self.attempt(verb, *arguments)
        assert done.returncode == 0, f"systemctl {verb}: {done.stderr}\n{self.journal()}"
        return done.stdout

    def attempt(self, verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.box.attempt("systemctl", verb, self.unit, *arguments)

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.box.run("systemctl", "show", "-P", name, self.unit).strip()

    @property
    def status(self) -> str:
        """What STATUS= said last."""
        return self.show("StatusText")

    @property
    def pid(self) -> int:
        """Of the master, in the box."""
        return int(self.show("MainPID"))

    def wait(self, condition: Callable[["Service"], T], what: str) -> T:
        try:
            return wait_until(lambda: condition(self), what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.do('status', '--full')}\n{self.journal()}") from None

    def journal(self, *arguments: str) -> str:
        """What the service logged, oldest first, the messages alone."""
        self.box.run("journalctl", "--sync")
        return self.box.run("journalctl", "-u", self.unit, "-o", "cat", "--no-pager", *arguments)

    def signal_master(self, signum: signal.Signals) -> None:
        self.do("kill", "--kill-who=main", f"--signal={signum.name}")

    def close(self) -> None:
        """Stop it and forget it."""
        self.box.attempt("systemctl", "stop", self.unit, f"asgi-master@{self.name}.socket")
        self.box.attempt("systemctl", "reset-failed", self.unit)
