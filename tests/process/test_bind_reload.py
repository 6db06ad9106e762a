"""SIGHUP with binds added and removed: those that stay are not touched, neither in a commit nor in a rollback."""

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from apps import holding
from fleet import APPS, PATIENCE, Fleet, wait_until
from ports import reserved_port
from traffic import Traffic

pytestmark = pytest.mark.newest_python

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
COMMITTED = r"reloaded: 2 workers serving generation 2\b"
REFUSED = re.compile("ConnectionRefusedError|FileNotFoundError")

Address = tuple[str, int] | str


def connect(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def status(address: Address) -> bytes:
    """The first line of the answer to a request on a connection of its own."""
    with connect(address) as sock:
        sock.sendall(GET)
        return first_line(sock)


def first_line(sock: socket.socket) -> bytes:
    received = b""
    while piece := sock.recv(4096):
        received += piece
    return received.partition(b"\r\n")[0]


def refuses(address: Address) -> bool:
    try:
        connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except ConnectionResetError:
        pass  # this very connection came as the listener closed
    return False


class OneShots:
    """New connections to each address, one after another, until the end; every failure is kept."""

    def __init__(self, *addresses: Address) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(address,), daemon=True) for address in addresses
        ]

    def _ask(self, address: Address) -> None:
        while not self._stopping.is_set():
            try:
                line = status(address)
                assert line == b"HTTP/1.1 200 OK", line
                self.answers += 1
            except (OSError, AssertionError) as error:
                self.failures.append(f"{address}: {error!r}")
            time.sleep(0.005)  # not a wait for anything: it leaves the machine to the others

    @contextmanager
    def running(self) -> Iterator["OneShots"]:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answers > 10, "new connections are served")
        yield self
        self.stop()

    def wait_for_more(self) -> None:
        enough = self.answers + 10
        wait_until(lambda: self.answers > enough or self.failures, "new connections are still served")

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def configure(fleet: Fleet, app: str, *binds: str) -> None:
    listed = ", ".join(f'"{bind}"' for bind in binds)
    fleet.write("asgi-master.toml", f'app = "{app}"\napp-dir = "{APPS}"\nworkers = 2\nbind = [{listed}]\n')


def test_binds_come_and_go(fleet: Fleet, tmp_path: Path) -> None:
    kept_file, old_file, new_file = (str(tmp_path / f"{name}.sock") for name in ("kept", "old", "new"))
    with reserved_port() as old, reserved_port() as new:
        old_port, new_port = ("127.0.0.1", old), ("127.0.0.1", new)
        configure(
            fleet,
            "probe:app",
            "127.0.0.1:0",
            f"unix:{kept_file}",
            f"127.0.0.1:{old_port[1]}",
            f"unix:{old_file}",
        )
        fleet.start().wait_ready(2)
        kept_port = ("127.0.0.1", fleet.port)
        for address in (old_port, old_file):
            assert status(address) == b"HTTP/1.1 200 OK"
        assert refuses(new_port)
        assert refuses(new_file)
        one_shots = OneShots(kept_port, kept_file)
        with one_shots.running(), Traffic(fleet, clients=3) as traffic, fleet.keeping_descriptors():
            configure(
                fleet,
                "probe:app",
                "127.0.0.1:0",
                f"unix:{kept_file}",
                f"127.0.0.1:{new_port[1]}",
                f"unix:{new_file}",
            )
            # Until the commit the old ones serve: who connects meanwhile is answered, also if it asks only afterwards.
            late = [connect(address) for address in (old_port, old_file)]
            fleet.send(signal.SIGHUP)
            fleet.wait_line(COMMITTED)
            for address in (old_port, old_file):
                wait_until(lambda address=address: refuses(address), f"{address} refuses")
            for address in (new_port, new_file):
                assert status(address) == b"HTTP/1.1 200 OK"
            for sock in late:
                with sock:
                    sock.sendall(GET)
                    assert first_line(sock) == b"HTTP/1.1 200 OK"
            traffic.wait_for_more(30)
            one_shots.wait_for_more()
        assert one_shots.failures == []
        assert traffic.failures == []
        assert not Path(old_file).exists()
        fleet.wait_settled(2)


def test_a_rollback_closes_what_was_added(fleet: Fleet, tmp_path: Path) -> None:
    added_file = str(tmp_path / "added.sock")
    with reserved_port() as added:
        added_port = ("127.0.0.1", added)
        configure(fleet, "probe:app", "127.0.0.1:0")
        fleet.start().wait_ready(2)
        fleet.expect_log("reload failed", "no_such_app")
        one_shots = OneShots(("127.0.0.1", fleet.port))
        with one_shots.running(), Traffic(fleet, clients=3) as traffic, fleet.keeping_descriptors():
            configure(
                fleet, "no_such_app:app", "127.0.0.1:0", f"127.0.0.1:{added_port[1]}", f"unix:{added_file}"
            )
            fleet.send(signal.SIGHUP)
            fleet.wait_line("reload failed: generation 2: .*; staying with generation 1")
            for address in (added_port, added_file):
                wait_until(lambda address=address: refuses(address), f"{address} refuses")
            traffic.wait_for_more(30)
            one_shots.wait_for_more()
        assert one_shots.failures == []
        assert traffic.failures == []
        assert len(fleet.urls) == 1  # nothing ever answered on those that were added
        assert not Path(added_file).exists()
        assert {worker.generation for worker in fleet.workers()} == {1}


def test_who_connects_to_a_removed_bind_is_served_or_refused(fleet: Fleet, tmp_path: Path) -> None:
    """Until the commit it listens, though its workers leave before: what waits in its queue is served all the same."""
    file = str(tmp_path / "removed.sock")
    with reserved_port() as removed:
        address = ("127.0.0.1", removed)
        configure(fleet, "probe:app", "127.0.0.1:0", f"127.0.0.1:{address[1]}", f"unix:{file}")
        fleet.start().wait_ready(2)
        configure(fleet, "probe:app", "127.0.0.1:0")
        with ThreadPoolExecutor(1) as pool:
            # An old worker that still works must not keep the address open.
            held = pool.submit(httpx.get, f"{fleet.url}/hold?name=work", timeout=PATIENCE, trust_env=False)
            wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
            one_shots = OneShots(address, address, file)
            with one_shots.running():
                fleet.send(signal.SIGHUP)
                fleet.wait_line(COMMITTED)
                for place in (address, file):
                    wait_until(lambda place=place: refuses(place), f"{place} refuses")
                one_shots.stop()
            holding.release(fleet.directory, "work")
            assert held.result(PATIENCE).status_code == 200
    strange = [failure for failure in one_shots.failures if not REFUSED.search(failure)]
    assert strange == [], (
        f"{len(strange)} of {len(one_shots.failures)}, {one_shots.answers} answered: {strange[:5]}"
    )


def roll_back(control: Path) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(control))) as client:
        answer = client.post("http://control/rollback")
        assert answer.is_success, answer.text


def test_a_rollback_opens_what_the_reload_took_away(fleet: Fleet, tmp_path: Path) -> None:
    control = tmp_path / "control.sock"
    with reserved_port() as removed:
        address = ("127.0.0.1", removed)
        configure(fleet, "probe:app", "127.0.0.1:0", f"127.0.0.1:{address[1]}")
        fleet.start("--control-socket", str(control), "--rollback-window", "60").wait_ready(2)
        configure(fleet, "probe:app", "127.0.0.1:0")
        with Traffic(fleet, clients=3) as traffic:
            fleet.send(signal.SIGHUP)
            fleet.wait_line(COMMITTED)
            wait_until(lambda: refuses(address), "the removed address refuses")
            mark = len(fleet.lines)
            roll_back(control)
            fleet.wait_line(r"generation 1\b.* after ", after=mark)
            assert status(address) == b"HTTP/1.1 200 OK"
            traffic.wait_for_more(10)
        assert traffic.failures == []


def test_a_rollback_serves_an_inherited_descriptor_that_the_reload_took_away(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Nothing could pass it again. Clients that connect meanwhile wait: we do not close what we did not open."""
    control = tmp_path / "control.sock"
    with socket.create_server(("127.0.0.1", 0)) as given:
        address, inherited = given.getsockname(), f"fd://{given.fileno()}"
        configure(fleet, "probe:app", "127.0.0.1:0", inherited)
        fleet.start(
            "--control-socket", str(control), "--rollback-window", "60", pass_fds=(given.fileno(),)
        ).wait_ready(2)
    configure(fleet, "probe:app", "127.0.0.1:0")
    fleet.expect_log("which was passed to us and stays open")
    fleet.send(signal.SIGHUP)
    fleet.wait_line(COMMITTED)
    fleet.wait_line(f"no longer listening on http://127.0.0.1:{address[1]}, which was passed to us")
    with connect(address) as waiting:
        waiting.sendall(GET)
        mark = len(fleet.lines)
        roll_back(control)
        fleet.wait_line(r"generation 1\b.* after ", after=mark)
        assert first_line(waiting) == b"HTTP/1.1 200 OK"
    assert status(address) == b"HTTP/1.1 200 OK"
