"""Health and metrics of real fleets, also while no worker responds."""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from asgi_master.errors import ExitCode
from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until
from shared_interpreter import program_for_anybody
from traffic import Traffic

pytestmark = pytest.mark.newest_python

ADMIN = ("--admin-bind", "127.0.0.1:0")


def admin_url(fleet: Fleet) -> str:
    return fleet.wait_line(r"health and metrics on (\S+)")[1]


def ask(fleet: Fleet, path: str) -> httpx.Response:
    return httpx.get(f"{admin_url(fleet)}{path}", timeout=PATIENCE, trust_env=False)


def metrics(fleet: Fleet) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    return {
        (sample.name.removeprefix("asgi_master_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(ask(fleet, "/metrics").text)
        for sample in family.samples
    }


def metric(fleet: Fleet, name: str, *labels: str) -> float | None:
    """One sample, `None` if there is no such."""
    return metrics(fleet).get((name, *labels))


def wait_metric(fleet: Fleet, value: float, name: str, *labels: str) -> None:
    wait_until(lambda: metric(fleet, name, *labels) == value, f"{name}{labels} is {value}")


def test_counters_survive_crashes_reloads_and_upgrades(fleet: Fleet) -> None:
    fleet.serve("probe:app", *ADMIN, "--watch-time", "0", workers=2)
    fleet.expect_log("ERROR.*worker . .generation 1. died")
    assert ask(fleet, "/startupz").status_code == 200
    assert ask(fleet, "/readyz").text == "ok\n"
    with fleet.client() as client:
        for path in ("/who", "/who", "/nowhere", "/stream", "/stream?chunks=3"):
            client.get(path)
    began = metric(fleet, "start_time_seconds")

    def assert_counted() -> None:
        found = metrics(fleet)
        assert found["http_requests_total",] == 5
        assert found["http_responses_total", "4xx"] == 1
        assert found["http_request_duration_seconds_count",] == 3
        assert found["http_stream_duration_seconds_count",] == 2
        assert found["start_time_seconds",] == began

    wait_metric(fleet, 5, "http_requests_total")
    assert_counted()
    assert metric(fleet, "workers", "ready") == metric(fleet, "workers_wanted") == 2
    wait_until(lambda: metric(fleet, "process_pss_bytes", "master"), "the memory of the master")
    assert metric(fleet, "listener_queue_length", fleet.url) == 0

    for worker in fleet.workers():
        os.kill(worker.pid, signal.SIGKILL)
    wait_metric(fleet, 2, "worker_restarts_total", "crashed")
    wait_metric(fleet, 2, "workers", "ready")
    assert_counted()

    # It ends in a reload, so that the workers follow.
    fleet.send(signal.SIGUSR2)
    fleet.wait_line("upgraded to asgi-master")
    wait_metric(fleet, 1, "reloads_total", "committed")
    assert metric(fleet, "generation") == 2
    assert metric(fleet, "worker_restarts_total", "crashed") == 2
    wait_metric(fleet, 0, "workers", "draining")
    assert_counted()


def test_the_master_answers_while_all_workers_hang(fleet: Fleet) -> None:
    fleet.serve("probe:app", *ADMIN, workers=1)
    fleet.expect_log("WARNING.*the event loop is stuck", "ERROR.*worker 0 .generation 1. died")
    (blocked,) = fleet.workers()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/block?seconds=60", timeout=PATIENCE, trust_env=False)
        fleet.wait_blocked()
        assert ask(fleet, "/livez").status_code == 200
        wait_until(lambda: ask(fleet, "/readyz").status_code == 503, "it is not ready")
        assert (
            "worker 0 (generation 1) is blocked: its event loop has not turned for"
            in ask(fleet, "/readyz").text
        )
        assert ask(fleet, "/livez").status_code == 200
        assert ask(fleet, "/startupz").status_code == 200
        os.kill(blocked.pid, signal.SIGKILL)
        assert isinstance(asked.exception(PATIENCE), httpx.TransportError)
    wait_until(lambda: ask(fleet, "/readyz").status_code == 200, "it is ready again")


def test_nothing_is_ready_before_the_workers(fleet: Fleet) -> None:
    fleet.write(
        "slow.py",
        "import pathlib, time\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "from probe import app\n",
    )
    fleet.start(*ADMIN, "--bind", "127.0.0.1:0", "slow:app", env={"PYTHONPATH": f"{SOURCE}:{APPS}"})
    assert ask(fleet, "/livez").status_code == 200
    for path in ("/startupz", "/readyz"):
        response = ask(fleet, path)
        assert response.status_code == 503
        assert "the first workers are not ready yet" in response.text
    (fleet.directory / "go").touch()
    wait_until(lambda: ask(fleet, "/startupz").status_code == 200, "it is started")
    wait_until(lambda: ask(fleet, "/readyz").status_code == 200, "it is ready")


def test_a_stop_is_reported_before_it_begins(fleet: Fleet) -> None:
    fleet.serve("probe:app", *ADMIN, "--shutdown-delay", "60", workers=2)
    fleet.expect_log("WARNING.*not reloading: the master is stopping")
    with Traffic(fleet) as traffic:
        fleet.send(signal.SIGTERM)
        wait_until(lambda: ask(fleet, "/readyz").status_code == 503, "it is not ready")
        assert ask(fleet, "/readyz").text.startswith("the master stops in ")
        assert ask(fleet, "/livez").status_code == 200
        # Nothing new begins any more, but clients old and new are served as ever.
        fleet.send(signal.SIGHUP)
        fleet.wait_line("not reloading")
        traffic.wait_for_more(200)
        for _ in range(20):
            with fleet.client() as client:
                response = client.get("/who")
                assert response.status_code == 200
                assert "connection" not in response.headers
    assert traffic.failures == []
    mark = len(fleet.lines)
    fleet.send(signal.SIGTERM)
    fleet.wait_line("stopping .requests in flight may finish.", after=mark)
    assert fleet.wait_exit() == ExitCode.OK


def test_a_delayed_stop_begins_by_itself(fleet: Fleet) -> None:
    fleet.serve("probe:app", *ADMIN, "--shutdown-delay", "0.3", workers=1)
    fleet.send(signal.SIGTERM)
    fleet.wait_line("stopping in 0.3 s")
    assert fleet.wait_exit() == ExitCode.OK


def test_a_quick_stop_is_not_delayed(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--shutdown-delay", "60", workers=1)
    assert fleet.stop(signal.SIGQUIT) == ExitCode.OK
    assert "stopping in" not in fleet.log


@pytest.fixture
def open_fleet() -> Iterator[Fleet]:
    """In a directory that everybody may enter."""
    directory = Path(tempfile.mkdtemp(prefix="asgi-master-admin-"))
    directory.chmod(0o755)
    fleet = Fleet(directory)
    try:
        yield fleet
        fleet.close()
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the application as another user")
@pytest.mark.parametrize("may_look", [True, False])
def test_memory_of_workers_that_run_as_another_user(open_fleet: Fleet, *, may_look: bool) -> None:
    program = program_for_anybody()
    if isinstance(program, str):
        pytest.skip(program)
    *covered, python = program
    # As a container has them by default. New kernels take the two others for it.
    without = ("setpriv", "--bounding-set", "-sys_ptrace,-perfmon,-sys_admin", "--")
    inside = (*covered, *(() if may_look else without), python, "-m", "asgi_master")
    if not may_look:
        open_fleet.expect_log("WARNING.*the metrics lack the PSS and USS of some processes: .*CAP_SYS_PTRACE")
    open_fleet.serve("rights:app", "--user", "nobody", *ADMIN, workers=1, program=inside)
    wait_until(lambda: metric(open_fleet, "process_rss_bytes", "worker", "0"), "the memory of the worker")
    assert metric(open_fleet, "process_rss_bytes", "zygote")
    found = metrics(open_fleet)
    told = {labels[1] for labels in found if labels[0] == "process_pss_bytes"}
    assert told == ({"master", "zygote", "worker"} if may_look else {"master"})
    assert open_fleet.log.count("PSS") == (0 if may_look else 1)


def test_supervision_goes_on_however_many_ask(fleet: Fleet) -> None:
    fleet.serve("probe:app", *ADMIN, workers=1)
    fleet.expect_log("ERROR.*worker 0 .generation 1. died")
    url = httpx.URL(admin_url(fleet))
    before = fleet.workers()
    with fleet.keeping_descriptors():
        sockets = [socket.create_connection((url.host, url.port), PATIENCE) for _ in range(150)]
        os.kill(before[0].pid, signal.SIGKILL)
        fleet.wait_workers(lambda workers: len(workers) == 1 and workers != before, "the worker is replaced")
        assert ask(fleet, "/livez").status_code == 200
        for sock in sockets:
            sock.close()
    assert ask(fleet, "/livez").status_code == 200


def test_an_address_in_use(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fleet.expect_log("ERROR")
        fleet.start(
            "--bind", "127.0.0.1:0", "--admin-bind", f"127.0.0.1:{taken.getsockname()[1]}", "probe:app"
        )
        assert fleet.wait_exit() == ExitCode.BIND_FAILED
    assert "already in use" in fleet.log


def test_on_a_unix_socket(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--admin-bind", "unix:admin.sock", workers=1)
    path = fleet.directory / "admin.sock"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE) as client:
        assert client.get("http://localhost/readyz").text == "ok\n"
    assert fleet.stop() == ExitCode.OK
    assert not path.exists()


def test_it_is_off_unless_asked_for(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    with pytest.raises(AssertionError, match="no line matches"):
        fleet.wait_line("health and metrics", timeout=0.1)
