"""Where it listens: TCP, IPv6, Unix sockets, inherited descriptors; and what it says when it cannot."""

import os
import socket
import stat
from pathlib import Path

import httpx
import pytest

from fleet import APPS, Fleet


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
