"""`--check`: would this start? Asked beside a master that serves, which must not notice."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until

GOOD = """
import pathlib
from probe import app as probe
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        pathlib.Path("life").write_text("begun")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        pathlib.Path("life").write_text("begun and ended")
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await probe(scope, receive, send)
"""


def _environ(directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "PYTHONPATH": f"{SOURCE}:{APPS}",
        **({"ASGI_MASTER_USER": "root"} if os.geteuid() == 0 else {}),
    }


def check(directory: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it, and see that nothing of it is left."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    done = subprocess.run(
        [sys.executable, "-m", "asgi_master", "--check", *arguments],
        cwd=directory,
        env=_environ(directory) | environ,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    left = {child for child in psutil.Process().children(recursive=True) if child.pid not in before}
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]
    return done


def test_good_code_would_start(tmp_path: Path) -> None:
    (tmp_path / "changing.py").write_text(GOOD)
    done = check(tmp_path, "changing:app", "--workers", "3", "--health-path", "/")
    assert (done.returncode, done.stdout) == (0, "changing:app would start.\n")
    assert " ERROR " not in done.stderr
    assert (tmp_path / "life").read_text() == "begun and ended"


FAULTS = {
    "settings": (GOOD, ["--workers", "none"], 2, 'workers: "none" is not a number'),
    "a user that is none": (GOOD, ["--user", "nobody_of_that_name"], 2, "user: "),
    "an import": ("import nothing_of_that_name\n", [], 3, "ModuleNotFoundError"),
    "syntax": ("def broken(:\n", [], 3, "SyntaxError"),
    "no such attribute": ("application = 1\n", [], 3, 'has no attribute "app"'),
    "the lifespan": (GOOD.replace("await receive()", "raise OSError('no database')"), ["--lifespan", "on"], 3, "no database"),
    "health": (GOOD, ["--health-path", "/fail", "--health-timeout", "0.5"], 3, "health probe GET /fail"),
    "a worker that ends": (GOOD + "\nimport os\n", ["--preload", "off", "changing:nope"], 2, "unexpected"),
    "in silence": ("raise ValueError('quiet')\n", ["--log-level", "critical"], 3, "quiet"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reason_why_it_would_not_start_is_shown(tmp_path: Path, fault: str) -> None:
    source, arguments, status, reason = FAULTS[fault]
    (tmp_path / "changing.py").write_text(source)
    done = check(tmp_path, "changing:app", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert reason in done.stderr
    if status == 3:
        assert done.stderr.endswith("asgi-master: error: changing:app would not start\n")


def test_a_master_that_serves_under_the_same_settings_does_not_notice(fleet: Fleet, tmp_path: Path) -> None:
    fleet.serve_source(
        GOOD,
        "--pid-file", "pid",
        "--control-socket", "control.sock",
        "--admin-bind", f"unix:{tmp_path}/admin.sock",
        env={"PYTHONPATH": f"{SOURCE}:{APPS}"},
    )  # fmt: skip
    before = fleet.workers()
    arguments = [
        "changing:app",
        "--workers", "2",
        "--bind", f"127.0.0.1:{fleet.port}",
        "--pid-file", "pid",
        "--control-socket", "control.sock",
        "--admin-bind", f"unix:{tmp_path}/admin.sock",
        "--reload",
    ]  # fmt: skip
    inode = (fleet.directory / "admin.sock").stat().st_ino
    assert check(fleet.directory, *arguments).returncode == 0
    fleet.write("changing.py", "raise RuntimeError('half a deploy')\n")
    assert check(fleet.directory, *arguments).returncode == 3
    assert (fleet.directory / "pid").read_text().strip() == str(fleet.pid)
    assert (fleet.directory / "control.sock").is_socket()
    assert (fleet.directory / "admin.sock").stat().st_ino == inode
    with fleet.client() as client:
        assert client.get("/").status_code == 200
    assert fleet.workers() == before


def test_the_service_manager_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "changing.py").write_text(GOOD)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.setblocking(False)
        done = check(
            tmp_path,
            "changing:app",
            NOTIFY_SOCKET=str(tmp_path / "notify.sock"),
            LISTEN_FDS="1",
            LISTEN_PID="1",
        )
        assert done.returncode == 0
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_a_check_that_is_stopped_says_so(tmp_path: Path) -> None:
    (tmp_path / "changing.py").write_text(
        "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "asgi_master", "--check", "changing:app"],
        cwd=tmp_path,
        env=_environ(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until((tmp_path / "here").exists, "the import has begun")
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        assert process.returncode == 1
        assert process.stderr is not None
        assert "changing:app was stopped before the check ended" in process.stderr.read()
