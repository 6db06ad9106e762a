"""Where it listens: TCP, IPv6, Unix sockets, inherited descriptors; and what it says when it cannot."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet import APPS, Fleet, wait_until

pytestmark = pytest.mark.newest_python


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Fleet]:
    directory = tmp_path / "second"
    directory.mkdir()
    fleet = Fleet(directory)
    yield fleet
    fleet.close()


def told_when_ready(log: Path) -> str:
    text = log.read_text() if log.exists() else ""
    return text if "ready: 1 worker" in text else ""


def get_over(path: Path) -> int:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://unix.test") as client:
        return client.get("/").status_code


def test_port_0_is_told(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    assert fleet.port > 0
    assert fleet.url.startswith("http://127.0.0.1:")


def test_ipv6(fleet: Fleet) -> None:
    fleet.serve(workers=1, bind="[::1]:0")
    assert fleet.url.startswith("http://[::1]:")
    with fleet.client() as client:
        answer = client.get("/seen").json()
    assert answer["server"] == ["::1", fleet.port]
    assert answer["client"][0] == "::1"


def test_several_at_once(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    fleet.serve("probe:app", "--bind", "[::1]:0", "--bind", f"unix:{path}", workers=1)
    assert len(fleet.urls) == 3, fleet.log
    for url in fleet.urls:
        if url.startswith("http"):
            assert httpx.get(f"{url}/", trust_env=False).status_code == 200
    assert get_over(path) == 200


@pytest.mark.parametrize("mode", ["600", "660"])
def test_unix_socket_has_the_mode_asked_for_and_is_removed(fleet: Fleet, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "app.sock"
    fleet.serve("probe:app", "--uds-mode", mode, workers=1, bind=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
    assert get_over(path) == 200
    assert fleet.stop() == 0
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's proxy is kept out by root only")
@pytest.mark.parametrize(
    ("flags", "is_hinted"),
    [
        ((), True),
        (("--uds-mode", "600"), True),
        (("--uds-mode", "666"), False),
        (("--uds-owner", ":root"), False),
    ],
)
def test_a_unix_socket_that_only_root_may_use_is_a_hint(
    fleet: Fleet, tmp_path: Path, flags: tuple[str, ...], is_hinted: bool
) -> None:
    fleet.serve("probe:app", *flags, workers=1, bind=f"unix:{tmp_path}/app.sock")
    assert ("needs --uds-owner :GROUP" in fleet.log) is is_hinted


def test_stale_unix_socket_is_replaced(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    fleet.serve(workers=1, bind=f"unix:{path}")
    assert get_over(path) == 200


def refused(fleet: Fleet, bind: str) -> str:
    """Start with a bind that cannot work; returns the one line that says so."""
    fleet.expect_log("ERROR|CRITICAL|error:")
    fleet.start("--bind", bind, "--app-dir", str(APPS), "probe:app")
    assert fleet.wait_exit() == 4, fleet.log
    told = [line for line in fleet.lines if "cannot" in line]
    assert len(told) == 1, fleet.log
    assert "Traceback" not in fleet.log
    return told[0]


def test_live_unix_socket_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert str(path) in refused(fleet, f"unix:{path}")
        assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert str(path) in refused(fleet, f"unix:{path}")
    assert path.read_text() == "data"


def test_a_taken_port_is_one_line(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused(fleet, f"127.0.0.1:{port}")


def test_an_unknown_host_is_one_line(fleet: Fleet) -> None:
    assert "no-such-host.invalid" in refused(fleet, "no-such-host.invalid:8000")


def test_inherited_descriptor(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fleet.serve(workers=2, bind=f"fd://{listener.fileno()}", pass_fds=(listener.fileno(),))
        port = listener.getsockname()[1]
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200


def test_a_descriptor_that_is_not_there(fleet: Fleet) -> None:
    assert "fd://87" in refused(fleet, "fd://87")


def test_the_backlog_is_real(fleet: Fleet) -> None:
    """As many connections as the backlog allows wait in the kernel while the only worker is stopped."""
    fleet.serve("probe:app", "--backlog", "200", workers=1)
    worker = fleet.workers()[0]
    os.kill(worker.pid, 19)
    try:
        waiting = [socket.create_connection(("127.0.0.1", fleet.port), 5) for _ in range(150)]
    finally:
        os.kill(worker.pid, 18)
    for connection in waiting:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    for connection in waiting:
        with connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_the_files_of_a_newer_instance_stay(fleet: Fleet, second: Fleet, tmp_path: Path) -> None:
    """A start script removed them and started a successor; then the old one stops."""
    socket_path, pid_path = tmp_path / "app.sock", tmp_path / "app.pid"
    arguments = ("--pid-file", str(pid_path))
    fleet.serve("probe:app", *arguments, workers=1, bind=f"unix:{socket_path}")
    socket_path.unlink()
    pid_path.unlink()
    second.serve("probe:app", *arguments, workers=1, bind=f"unix:{socket_path}")
    assert fleet.stop() == 0
    assert int(pid_path.read_text()) == second.pid
    assert get_over(socket_path) == 200
    assert second.stop() == 0
    assert not pid_path.exists()
    assert not socket_path.exists()


def test_an_upgrade_keeps_the_pid_file_and_its_lock(fleet: Fleet, second: Fleet, tmp_path: Path) -> None:
    pid_path = tmp_path / "app.pid"
    fleet.serve("probe:app", "--pid-file", str(pid_path), "--watch-time", "0", workers=1)
    fleet.send(signal.SIGUSR2)
    fleet.wait_line("upgraded to asgi-master")
    fleet.wait_line("reloaded: 1 worker")
    assert int(pid_path.read_text()) == fleet.pid
    second.expect_log("error: ")
    second.start("--pid-file", str(pid_path), "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "probe:app")
    assert second.wait_exit() == 1
    assert f"belongs to the running process {fleet.pid}" in second.log
    assert fleet.stop() == 0
    assert not pid_path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is warned")
def test_root_is_warned_of_a_directory_that_others_can_write_to(fleet: Fleet, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 65534, 65534)
    places = {
        "--bind": "unix:{}/a.sock",
        "--admin-bind": "unix:{}/b.sock",
        "--pid-file": "{}/c.pid",
        "--control-socket": "{}/d",
    }
    arguments = [word for flag, place in places.items() for word in (flag, place.format(shared))]
    fleet.expect_log(f"can be replaced by others, as the user nobody can write to {shared}: use a directory")
    fleet.start(*arguments, "--workers", "1", "--app-dir", str(APPS), "probe:app").wait_ready(1)
    fleet.send(signal.SIGHUP)
    fleet.wait_line("reloaded: 1 worker")
    started = [line.partition(" can be")[0] for line in fleet.lines if "can be replaced" in line]
    assert [line.partition("]  ")[2] for line in started] == [
        "the pid file",
        f"the socket of unix:{shared}/a.sock",
        f"the socket of unix:{shared}/b.sock",
        "the control socket",
    ]
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "asgi_master",
            "--check-config",
            *arguments,
            "--app-dir",
            str(APPS),
            "probe:app",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0
    assert sorted(
        line.removeprefix("asgi-master: warning: ").partition(" can be")[0]
        for line in checked.stderr.splitlines()
    ) == sorted(line.partition("]  ")[2] for line in started)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is warned")
def test_root_is_warned_of_log_files_that_others_can_lead_elsewhere(fleet: Fleet, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 65534, 65534)
    handlers = {
        name: {"class": "logging.FileHandler", "filename": str(directory / f"{name}.log")}
        for name, directory in {"safe": tmp_path, "exposed": shared}.items()
    }
    config = {"handlers": handlers, "root": {"handlers": ["safe", "exposed"]}}
    fleet.write("logging.json", json.dumps(config))
    fleet.start(
        "--log-config",
        "logging.json",
        "--workers",
        "1",
        "--bind",
        "127.0.0.1:0",
        "--app-dir",
        str(APPS),
        "probe:app",
    )
    text = wait_until(lambda: told_when_ready(tmp_path / "safe.log"), "it is ready")
    (told,) = [line for line in text.splitlines() if "can be replaced by others" in line]
    why = f"the log file {shared}/exposed.log can be replaced by others, as the user nobody can write to {shared}"
    assert (
        told
        == f"{why}: use a directory that only root can write to, and make the file there for the user of the application"
    )
