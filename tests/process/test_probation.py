"""New code proves itself before the old code leaves, and there is a way back for a while afterwards."""

import contextlib
import signal
import socket

import httpx
import pytest

from asgi_master.errors import ExitCode
from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until
from traffic import Traffic

pytestmark = pytest.mark.newest_python

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
GOOD = """
import probe
print("imported version {version}", flush=True)

async def version(scope, receive, send, query):
    await probe.answer(send, b"{version}")

async def health(scope, receive, send, query):
    await probe.answer(send, b"well")

probe.ENDPOINTS |= {{"/version": version, "/health": health}}
app = probe.app
"""
ILL = "import probe\nprobe.ENDPOINTS['/health'] = lambda s, r, send, q: probe.answer(send, b'', 503)\napp = probe.app\n"
RAISES = "import probe\nprobe.ENDPOINTS['/health'] = probe.fail\napp = probe.app\n"
LATE = """
import probe
attempts = []

async def health(scope, receive, send, query):
    attempts.append(dict(scope["headers"])[b"host"].decode())
    await probe.answer(send, b"", 200 if len(attempts) > 2 else 503)

async def tell(scope, receive, send, query):
    await probe.answer_json(send, attempts)

probe.ENDPOINTS |= {"/health": health, "/attempts": tell}
app = probe.app
"""
FAILING = "import probe\nprobe.ENDPOINTS['/who'] = probe.fail\napp = probe.app\n"
STREAM = """
import asyncio
import probe

async def stream(scope, receive, send, query):
    start = {{"type": "http.response.start", "status": 200, "headers": []}}
    await send(start)
    await send({{"type": "http.response.body", "body": b"begun", "more_body": True}})
    await asyncio.sleep(0)
    {rest}

probe.ENDPOINTS["/stream"] = stream
app = probe.app
"""
OVER = """while (await receive())["type"] != "http.disconnect":
        pass"""
ONCE_MORE = f"{OVER}\n    await send(start)"
BREAKS_OFF = "raise RuntimeError('failed on purpose')"
STUCK = "import time; print('importing', flush=True); time.sleep(60)\n"


def version(fleet: Fleet) -> str:
    with fleet.client() as client:
        return client.get("/version").text


def roll_back(fleet: Fleet) -> httpx.Response:
    """What `asgi-masterctl rollback --wait` does."""
    transport = httpx.HTTPTransport(uds=str(fleet.directory / "control.sock"))
    with httpx.Client(transport=transport, timeout=PATIENCE, trust_env=False) as client:
        return client.post("http://localhost/rollback?wait=1")


def serve(fleet: Fleet, *arguments: str, source: str = GOOD.format(version=1), workers: int = 2) -> Fleet:
    control = ("--control-socket", "control.sock")
    return fleet.serve_source(source, *control, *arguments, env=WITH_PROBE, workers=workers)


# --- the health probe


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (ILL, r"health probe GET /health: 503 for 0\.5 s"),
        (RAISES, r"health probe GET /health: raised RuntimeError: failed on purpose, for 0\.5 s"),
    ],
    ids=["503", "raises"],
)
def test_an_application_that_is_not_well_does_not_start(fleet: Fleet, source: str, line: str) -> None:
    fleet.expect_log("ERROR", "Traceback")
    fleet.write("changing.py", source)
    health = ("--health-path", "/health", "--health-timeout", "0.5")
    fleet.start("--workers", "2", "--bind", "127.0.0.1:0", *health, "changing:app", env=WITH_PROBE)
    assert fleet.wait_exit() == ExitCode.BOOT_FAILED
    assert fleet.wait_line(f"generation 1 did not start: .*{line}")
    assert fleet.log.count("in fail") == (source is RAISES), "the traceback, once"
    assert "lifespan of" in "\n".join(fleet.output), "what was started up is shut down"


def test_a_worker_serves_once_it_is_well(fleet: Fleet) -> None:
    serve(fleet, "--health-path", "/health", source=LATE, workers=1)
    with fleet.client() as client:
        assert client.get("/attempts").json() == ["localhost"] * 3


def test_new_code_that_is_not_well_changes_nothing(fleet: Fleet) -> None:
    serve(fleet, "--health-path", "/health?deep=1", "--health-timeout", "0.5")
    fleet.expect_log("ERROR", "Traceback")
    before = fleet.workers()
    with Traffic(fleet) as traffic:
        fleet.write("changing.py", ILL)
        fleet.send(signal.SIGHUP)
        fleet.wait_line(r"reload failed: generation 2: worker 0 .*health probe GET /health: 503 for 0\.5 s")
        fleet.wait_settled(2)
        traffic.wait_for_more(50)
    assert traffic.failures == []
    assert set(traffic.answers) == {"1"}
    assert fleet.workers() == before


# --- the watch


def test_new_code_that_answers_with_errors_is_taken_back(fleet: Fleet) -> None:
    serve(fleet, "--watch-time", "15")
    fleet.expect_log("failed on purpose", "ERROR", "Traceback")
    before = {worker.pid for worker in fleet.workers()}
    with Traffic(fleet, clients=2) as traffic:
        fleet.write("changing.py", FAILING)
        fleet.send(signal.SIGHUP)
        fleet.wait_line(r"worker 0 \(generation 2\) is ready")
        failed = r"generation 2: (\d+) of (\d+) requests were answered with 5xx \(generation 1: 0 of \d+\)"

        def taken_back() -> bool:
            # One request each: new connections reach every worker.
            httpx.get(f"{fleet.url}/who", trust_env=False)
            return "reload failed" in fleet.log

        wait_until(taken_back, "the reload is given up")
        bad, answered = (int(number) for number in fleet.wait_line(failed).groups())
        assert answered >= bad >= 5
        fleet.wait_settled(2)
        traffic.wait_for_more(20)
    assert {worker.pid for worker in fleet.workers()} == before


def test_new_code_that_breaks_responses_off_is_taken_back_and_that_is_said(fleet: Fleet) -> None:
    serve(fleet, "--watch-time", "15", source=STREAM.format(rest=OVER))
    fleet.expect_log("failed on purpose", "ERROR", "Traceback")
    fleet.write("changing.py", STREAM.format(rest=BREAKS_OFF))
    fleet.send(signal.SIGHUP)
    fleet.wait_line(r"worker 0 \(generation 2\) is ready")

    def taken_back() -> bool:
        begin_a_stream_and_leave(fleet)
        return "reload failed" in fleet.log

    wait_until(taken_back, "the reload is given up")
    fleet.wait_line(r"\d+ of \d+ requests were broken off by an exception after their response had begun")
    fleet.wait_settled(2)


def test_new_code_that_answers_once_more_when_its_client_has_left_is_kept(fleet: Fleet) -> None:
    serve(fleet, "--watch-time", "2", source=STREAM.format(rest=OVER))
    fleet.write("changing.py", STREAM.format(rest=ONCE_MORE))
    fleet.send(signal.SIGHUP)
    fleet.wait_line(r"worker 0 \(generation 2\) is ready")
    left = 0

    def committed() -> bool:
        nonlocal left
        begin_a_stream_and_leave(fleet)
        left += 1
        return "reloaded: 2 workers serving generation 2" in fleet.log

    wait_until(committed, "the reload is committed")
    assert left > 20


def begin_a_stream_and_leave(fleet: Fleet) -> None:
    with socket.create_connection(("127.0.0.1", fleet.port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while b"begun" not in received and (data := sock.recv(4096)):
                received += data


# --- the way back


def test_back_to_the_code_before_without_a_failed_request(fleet: Fleet) -> None:
    serve(fleet, "--rollback-window", "60")
    with Traffic(fleet) as traffic:
        fleet.write("changing.py", GOOD.format(version=2))
        fleet.send(signal.SIGHUP)
        fleet.wait_line("reloaded: 2 workers serving generation 2")
        assert version(fleet) == "2"
        assert len(fleet.zygotes()) == 2
        answer = roll_back(fleet)
        assert answer.status_code == 200, answer.text
        assert answer.json()["generation"] == 1
        assert {version(fleet) for _ in range(4)} == {"1"}
        # And forth again, by a second rollback.
        assert roll_back(fleet).json()["generation"] == 2
        assert {version(fleet) for _ in range(4)} == {"2"}
    assert traffic.failures == []
    imported = [line for line in fleet.output if line.startswith("imported")]
    assert imported == ["imported version 1", "imported version 2"], "from memory, not from the disk"


def test_the_settings_come_back_too(fleet: Fleet) -> None:
    settings = (
        f'app = "probe:app"\napp-dir = "{APPS}"\ncontrol-socket = "control.sock"\nwatch-time = 0.2\n'
        "workers = {workers}\nbind = {binds}\n"
    )
    extra = fleet.directory / "extra.sock"

    def asked() -> int:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(extra)), trust_env=False) as client:
            return client.get("http://localhost/").status_code

    fleet.write("asgi-master.toml", settings.format(workers=1, binds=["127.0.0.1:0", f"unix:{extra}"]))
    fleet.start(env={"ASGI_MASTER_ROLLBACK_WINDOW": "60"}).wait_ready(1)
    assert asked() == 200
    fleet.write("asgi-master.toml", settings.format(workers=3, binds=["127.0.0.1:0"]))
    fleet.send(signal.SIGHUP)
    fleet.wait_line("reloaded: 3 workers")
    wait_until(lambda: not extra.exists(), "the reload took the address away")
    assert roll_back(fleet).status_code == 200
    fleet.wait_line("rolled back: 1 worker serving generation 1")
    assert asked() == 200, "the address that the reload took away is back"
    fleet.wait_workers(
        lambda workers: [worker.generation for worker in workers] == [1], "one worker, as before"
    )
    assert roll_back(fleet).json()["generation"] == 2
    wait_until(lambda: not extra.exists(), "the reload took the address away")


def test_a_reload_under_way_is_called_off(fleet: Fleet) -> None:
    serve(fleet)
    fleet.expect_log("ERROR.*a rollback was requested")
    before = fleet.workers()
    with fleet.keeping_descriptors():
        fleet.write("changing.py", STUCK)
        fleet.send(signal.SIGHUP)
        wait_until(lambda: "importing" in fleet.output, "the reload is under way")
        roll_back(fleet)
        fleet.wait_line("reload failed: generation 2: a rollback was requested; staying with generation 1")
        fleet.wait_settled(2)
    assert fleet.workers() == before


def test_after_the_window_nothing_is_kept(fleet: Fleet) -> None:
    serve(fleet, "--rollback-window", "1", "--watch-time", "0.1")
    with fleet.keeping_descriptors():
        fleet.send(signal.SIGHUP)
        fleet.wait_line("reloaded: 2 workers serving generation 2")
        fleet.wait_line("generation 1 is no longer kept for a rollback")
        fleet.wait_settled(2)
    assert roll_back(fleet).status_code == 409
