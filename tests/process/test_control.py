"""asgi-masterctl and curl against real masters."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps import holding
from asgi_master.cli.ctl_exit import Exit
from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until
from traffic import Traffic

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
GOOD = "import probe\napp = probe.app\n"
BROKEN = "raise RuntimeError('bad deploy')\n"
STUCK = (
    """
import pathlib, time
pathlib.Path("import.arrived").touch()
while not pathlib.Path("import.released").exists():
    time.sleep(0.01)
"""
    + GOOD
)
ONLY_TWO = """
import os, probe

async def app(scope, receive, send):
    if scope["type"] == "lifespan" and os.environ["ASGI_MASTER_WORKER"] == "2":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no room for a third"})
        return
    await probe.app(scope, receive, send)
"""


def line_of(path: Path, text: str) -> int:
    return 1 + next(number for number, line in enumerate(path.read_text().splitlines()) if text in line)


def place(fleet: Fleet) -> dict[str, str]:
    """The environment of a master that puts its socket into the fleet's directory."""
    return {**WITH_PROBE, "RUNTIME_DIRECTORY": str(fleet.directory)}


def control_path(fleet: Fleet) -> Path:
    return fleet.directory / f"{fleet.pid}.sock"


def start_ctl(fleet: Fleet, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from asgi_master.cli.ctl import main; sys.exit(main())",
            *arguments,
        ],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE),
            "RUNTIME_DIRECTORY": str(fleet.directory),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out + err


def ctl(fleet: Fleet, *arguments: str) -> tuple[int, str]:
    """The exit status of `asgi-masterctl`, and what it said. It means this fleet's master, whatever else runs here."""
    return finish(start_ctl(fleet, *arguments, "--pid", str(fleet.pid)))


def ask(fleet: Fleet, method: str, target: str, **arguments: Any) -> httpx.Response:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(control_path(fleet))), timeout=PATIENCE
    ) as client:
        return client.request(method, f"http://localhost{target}", **arguments)


def status_of(fleet: Fleet) -> dict[str, Any]:
    return ask(fleet, "GET", "/status").json()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Fleet]:
    directory = tmp_path / "second"
    directory.mkdir()
    fleet = Fleet(directory)
    yield fleet
    fleet.close()


def test_status(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet))
    with fleet.client() as client:
        for _ in range(5):
            client.get("/who")

        def counted() -> dict[str, Any] | None:
            status = status_of(fleet)
            return status if sum(worker["requests"] for worker in status["workers"]) == 5 else None

        status = wait_until(counted, "the requests are counted")
    assert status["pid"] == fleet.pid
    assert (status["phase"], status["generation"], status["last_reload"]) == ("steady", 1, None)
    assert status["listening"] == [fleet.url]
    assert [(w["slot"], w["pid"], w["state"]) for w in status["workers"]] == [
        (worker.slot, worker.pid, "ready") for worker in fleet.workers()
    ]
    code, text = ctl(fleet, "status", "--json")
    assert (code, json.loads(text)["pid"]) == (0, fleet.pid)
    code, text = ctl(fleet, "status")
    assert code == 0
    for words in (
        "probe:app",
        "steady",
        "generation 1",
        "2 of 2 workers",
        fleet.url,
        str(fleet.workers()[1].pid),
    ):
        assert words in text


def test_curl(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet), workers=1)
    command = ["curl", "-sS", "--unix-socket", str(control_path(fleet))]
    run = subprocess.run(
        [*command, "http://localhost/status"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert json.loads(run.stdout)["workers_wanted"] == 1
    post = [*command, "-d", '{"workers": 2}', "http://localhost/scale"]
    run = subprocess.run(post, capture_output=True, text=True, timeout=PATIENCE)
    assert json.loads(run.stdout) == {"workers": 2}
    fleet.wait_workers(lambda workers: len(workers) == 2, "two workers")


def test_the_socket_is_private_and_goes_with_its_master(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet), workers=1)
    found = control_path(fleet).stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, os.geteuid())
    fleet.stop()
    assert not control_path(fleet).exists()


def test_reload_and_wait(fleet: Fleet) -> None:
    fleet.serve_source(GOOD, env=place(fleet))
    with fleet.keeping_descriptors():
        code, text = ctl(fleet, "reload", "--wait")
        assert (code, "generation 2" in text) == (0, True)
        assert {w.generation for w in fleet.workers() if w.slot < 2} >= {2}
        assert status_of(fleet)["last_reload"]["result"] == "committed"
        fleet.wait_settled(2)
    assert ask(fleet, "POST", "/reload", params={"wait": 1}).json()["generation"] == 3


def test_reload_of_broken_code(fleet: Fleet) -> None:
    fleet.serve_source(GOOD, env=place(fleet))
    fleet.expect_log("bad deploy", "Traceback", "reload failed")
    before = fleet.workers()
    fleet.write("changing.py", BROKEN)
    code, text = ctl(fleet, "reload", "--wait")
    assert code == Exit.FAILED
    assert "bad deploy" in text
    assert "staying with generation 1" in text
    assert fleet.workers() == before
    code, text = ctl(fleet, "status")
    assert "last reload failed" in text


def test_reload_of_bad_settings(fleet: Fleet) -> None:
    fleet.serve_source(GOOD, env=place(fleet))
    fleet.expect_log("not reloading")
    fleet.write("asgi-master.toml", "drain-timeout = 'soon'\nbacklog = 0\n")
    code, text = ctl(fleet, "reload", "--wait")
    assert code == Exit.FAILED
    assert '"soon" is not a duration' in text
    assert "backlog" in text
    assert len(ask(fleet, "POST", "/reload").json()["errors"]) == 2
    assert status_of(fleet)["last_reload"]["result"] == "refused"


def test_waiting_ends_with_the_timeout_a_newer_request_or_a_stop(fleet: Fleet) -> None:
    fleet.serve_source(GOOD, env=place(fleet))
    fleet.write("changing.py", STUCK)
    code, text = ctl(fleet, "reload", "--wait", "--timeout", "0.2")
    assert (code, "0.2 s" in text) == (Exit.TIMED_OUT, True)
    wait_until(lambda: holding.arrived(fleet.directory, "import"), "the new code is being imported")
    assert status_of(fleet)["starting_generation"] == 2

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, fleet, "POST", "/reload?wait=1")
        fleet.wait_line("starting generation 3")
        second = pool.submit(ask, fleet, "POST", "/reload?wait=1")
        superseded = first.result(PATIENCE)
        assert (superseded.status_code, superseded.json()["result"]) == (409, "superseded")
        fleet.wait_line("starting generation 4")
        fleet.send(signal.SIGTERM)
        stopped = second.result(PATIENCE)
        assert (stopped.status_code, stopped.json()["result"]) == (503, "stopped")
    assert fleet.wait_exit() in {0, 6}


def test_scale_and_drain(fleet: Fleet) -> None:
    fleet.serve(workers=1, env=place(fleet))
    with Traffic(fleet, clients=3) as traffic, fleet.keeping_descriptors():
        assert ctl(fleet, "scale", "3")[0] == 0
        fleet.wait_workers(lambda workers: [w.slot for w in workers] == [0, 1, 2], "three workers")
        assert ctl(fleet, "scale", "2")[0] == 0
        before = fleet.wait_workers(lambda workers: [w.slot for w in workers] == [0, 1], "two workers")
        traffic.wait_for_more(30)
        assert ctl(fleet, "drain", "1")[0] == 0
        after = fleet.wait_workers(
            lambda workers: [w.slot for w in workers] == [0, 1] and workers[1] != before[1],
            "slot 1 is exchanged",
        )
        assert after[0] == before[0]
        traffic.wait_for_more(30)
        assert ctl(fleet, "scale", "1")[0] == 0
        fleet.wait_workers(lambda workers: len(workers) == 1, "one worker")
    assert traffic.failures == []
    code, text = ctl(fleet, "drain", "7")
    assert (code, "no worker serves in slot 7" in text) == (Exit.FAILED, True)


def test_scale_and_wait(fleet: Fleet) -> None:
    fleet.serve(workers=1, env=place(fleet))
    assert ctl(fleet, "scale", "3", "--wait") == (0, "3 workers are ready\n")
    assert [(w["slot"], w["state"]) for w in status_of(fleet)["workers"]] == [
        (slot, "ready") for slot in range(3)
    ]
    assert ctl(fleet, "scale", "1", "--wait") == (0, "1 worker is ready\n")
    assert len(fleet.workers()) == 1


def test_scale_to_workers_that_do_not_boot(fleet: Fleet) -> None:
    fleet.serve_source(ONLY_TWO, env=place(fleet))
    fleet.expect_log("no room for a third", "Traceback", "lifespan")
    code, text = ctl(fleet, "scale", "3", "--wait")
    assert code == Exit.FAILED
    assert "no room for a third" in text
    assert ctl(fleet, "scale", "2", "--wait")[0] == 0


def test_stacks_of_a_waiting_and_of_a_blocked_worker(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet))
    fleet.expect_log("the event loop (is stuck|was blocked)")
    with ThreadPoolExecutor(2) as pool:
        blocked = pool.submit(httpx.get, f"{fleet.url}/block", timeout=PATIENCE, trust_env=False)
        fleet.wait_blocked()
        waiting = pool.submit(httpx.get, f"{fleet.url}/hold?name=work", timeout=PATIENCE, trust_env=False)
        wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
        answer = ask(fleet, "POST", "/stacks")
        holding.release(fleet.directory, "work")
        fleet.unblock()
        assert (waiting.result(PATIENCE).status_code, blocked.result(PATIENCE).status_code) == (200, 200)
    assert answer.status_code == 200
    found = answer.json()["workers"]
    assert [(w["slot"], w["pid"]) for w in found] == [(w.slot, w.pid) for w in fleet.workers()]
    stuck, running = sorted(found, key=lambda worker: worker["tasks"] is not None)
    line = line_of(APPS / "probe.py", "os.open(")
    assert f'probe.py", line {line} in block' in stuck["threads"]
    assert "did not answer" in stuck["note"]
    (group,) = [group for group in running["tasks"] if group["serves"]]
    assert (group["count"], group["serves"]) == (1, ["GET /hold?name=work"])
    assert any("probe.py" in place and " in hold_request" in place for place in group["stack"])
    assert (running["note"], running["tasks_left_out"]) == ("", 0)
    # By the loop itself: to look at threads that run meanwhile could crash the worker.
    assert " in _send_tasks" in running["threads"]
    # They were asked for by somebody; the log has nothing to do with it.
    assert " stack: " not in fleet.log


def test_stacks_of_one_slot_and_by_hand(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet))
    with fleet.keeping_descriptors():
        code, text = ctl(fleet, "stacks", "1", "--all")
    worker = fleet.workers()[1]
    assert (code, f"worker 1 gen 1 [{worker.pid}]\n" in text, "worker 0" in text) == (0, True, False)
    assert "Worker.run" in text
    fleet.expect_log(" stack: ")
    os.kill(worker.pid, signal.SIGUSR1)
    fleet.wait_line(rf"worker 1 gen 1 \[{worker.pid}\] stack: .*File")


def test_rollback(fleet: Fleet) -> None:
    fleet.serve_source(GOOD, "--rollback-window", "60", "--watch-time", "0.1", env=place(fleet))
    code, text = ctl(fleet, "rollback")
    assert (code, "nothing to roll back to" in text) == (Exit.FAILED, True)
    with Traffic(fleet, clients=3) as traffic:
        assert ctl(fleet, "reload", "--wait")[0] == 0
        assert status_of(fleet)["held_generation"] == 1
        code, text = ctl(fleet, "rollback", "--wait")
        assert (code, "generation 1" in text) == (0, True)
        status = status_of(fleet)
        assert (status["generation"], status["held_generation"]) == (1, 2)
        assert status["last_reload"]["result"] == "committed"
        fleet.wait_workers(lambda workers: {w.generation for w in workers} == {1}, "all are of generation 1")
        traffic.wait_for_more(30)
    assert traffic.failures == []
    assert "a rollback would return to generation 2" in ctl(fleet, "status")[1]


def test_a_rollback_calls_the_reload_off(fleet: Fleet) -> None:
    fleet.serve_source(GOOD, env=place(fleet))
    fleet.expect_log("reload failed: .*rollback was requested")
    before = fleet.workers()
    fleet.write("changing.py", STUCK)
    with ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(ask, fleet, "POST", "/reload?wait=1")
        wait_until(lambda: holding.arrived(fleet.directory, "import"), "the new code is being imported")
        code, text = ctl(fleet, "rollback", "--wait")
        assert (code, "staying with generation 1" in text) == (0, True)
        failed = reloading.result(PATIENCE)
        assert (failed.status_code, failed.json()["result"]) == (409, "failed")
    assert fleet.workers() == before


def test_stop(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet))
    assert ctl(fleet, "stop", "--wait", "--timeout", "20") == (0, "stopped\n")
    assert fleet.wait_exit() == 0
    assert ctl(fleet, "status")[0] == Exit.NO_MASTER


def test_quick_stop_with_a_request_in_flight(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet), workers=1)
    fleet.expect_log("drain window is over")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{fleet.url}/hold?name=work", timeout=PATIENCE, trust_env=False)
        wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
        assert ctl(fleet, "stop")[0] == 0
        fleet.wait_line("requests in flight may finish")
        status = status_of(fleet)
        assert (status["phase"], status["workers"][0]["in_flight"]) == ("stopping", 1)
        code, text = ctl(fleet, "reload")
        assert (code, "stopping" in text) == (Exit.FAILED, True)
        code, text = ctl(fleet, "stop", "--wait", "--timeout", "0.1")
        assert code in {Exit.OK, Exit.TIMED_OUT}
        fleet.wait_line("requests in flight are cancelled")
        assert asked.exception(PATIENCE) is not None or asked.result().status_code >= 500
    assert fleet.wait_exit() == 0


def test_two_masters(fleet: Fleet, second: Fleet) -> None:
    fleet.serve("probe:app", "--name", "shop", workers=1, env=place(fleet))
    second.serve("probe:app", "--name", f"blog-{os.getpid()}", workers=1, env=place(fleet))
    code, text = finish(start_ctl(fleet, "list", "--json"))
    assert code == 0
    listed = {master["pid"]: master["socket"] for master in json.loads(text)}
    assert listed[fleet.pid] == str(control_path(fleet))
    assert listed[second.pid] == str(fleet.directory / f"{second.pid}.sock")
    code, text = finish(start_ctl(fleet, "list"))
    assert f"blog-{os.getpid()}" in text
    code, text = finish(start_ctl(fleet, "status"))
    assert code == Exit.USAGE
    assert f"{fleet.pid} (shop)" in text
    code, text = finish(start_ctl(fleet, "scale", "2", "--name", f"blog-{os.getpid()}"))
    assert code == 0
    second.wait_workers(lambda workers: len(workers) == 2, "two workers")
    assert len(fleet.workers()) == 1
    code, text = finish(start_ctl(fleet, "status", "--name", "no such"))
    assert code == Exit.NO_MASTER
    # Whatever still lives when the second one is judged would count as its own.
    assert fleet.stop() == 0


def test_found_in_a_directory_of_its_own(fleet: Fleet) -> None:
    """As a unit with RuntimeDirectory= has it; the client is not told where."""
    fleet.serve(workers=1, env=place(fleet))
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "from asgi_master.cli.ctl import main; main()",
            "status",
            "--pid",
            str(fleet.pid),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "probe:app" in process.stdout, process.stderr


def test_a_path_of_ones_own(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--control-socket", "my.sock", workers=1)
    path = fleet.directory / "my.sock"
    code, text = finish(start_ctl(fleet, "status", "--socket", str(path), "--json"))
    assert (code, json.loads(text)["pid"]) == (0, fleet.pid)
    code, text = ctl(fleet, "status", "--json")
    assert (code, json.loads(text)["pid"]) == (0, fleet.pid), "found by what the kernel tells"
    fleet.stop_cleanly()
    assert not path.exists()
    fleet.wait_exit()


@pytest.mark.parametrize("switched_off", [True, False])
def test_without_a_control_socket(fleet: Fleet, switched_off: bool) -> None:
    arguments = ("--control-socket", "off") if switched_off else ()
    # A place that cannot be written, even by root.
    fleet.serve("probe:app", *arguments, workers=1, env={"RUNTIME_DIRECTORY": "/proc/asgi-master"})
    lines = [line for line in fleet.lines if "control socket" in line]
    assert len(lines) == (0 if switched_off else 1)
    if not switched_off:
        assert " INFO " in lines[0]
        assert "no control socket: /proc/asgi-master" in lines[0]
    with fleet.client() as client:
        assert client.get("/who").status_code == 200


def test_a_path_that_cannot_be_used_is_worth_a_warning(fleet: Fleet) -> None:
    fleet.expect_log("no control socket: /proc/asgi-master")
    fleet.serve("probe:app", "--control-socket", "/proc/asgi-master", workers=1)
    assert any(" WARNING " in line and "no control socket" in line for line in fleet.lines)


def test_a_path_that_another_master_has_ends_the_start(fleet: Fleet, second: Fleet) -> None:
    """Otherwise a command for the second one, by this path, would reach the first."""
    path = fleet.directory / "control"
    fleet.serve("probe:app", "--control-socket", str(path), workers=1)
    second.expect_log("error: ")
    second.start("--control-socket", str(path), "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "probe:app")
    assert second.wait_exit() == 4, second.log
    (told,) = [line for line in second.lines if "error" in line]
    assert (
        f"cannot open the control socket: {path} is in use: another process listens there; stop that" in told
    )
    code, text = ctl(fleet, "status", "--json", "--socket", str(path))
    assert (code, json.loads(text)["pid"]) == (0, fleet.pid)
    assert fleet.stop() == 0


def test_what_a_killed_master_left_is_cleaned_up(fleet: Fleet, second: Fleet) -> None:
    fleet.serve(workers=1, env=place(fleet))
    fleet.expect_log("master is gone")
    left = control_path(fleet)
    fleet.kill_master()
    assert left.exists()
    second.serve(workers=1, env=place(fleet))
    assert not left.exists()


def test_slow_and_hostile_clients_delay_nothing(fleet: Fleet) -> None:
    fleet.serve(env=place(fleet))
    fleet.expect_log("SIGKILL")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    with fleet.keeping_descriptors():
        for number, client in enumerate(clients):
            client.settimeout(PATIENCE)
            client.connect(str(control_path(fleet)))
            if number % 2:
                client.sendall(b"POST /reload?wait=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")
            elif number % 3:
                client.sendall(os.urandom(3000))
        killed = fleet.workers()[0]
        os.kill(killed.pid, signal.SIGKILL)
        fleet.wait_workers(lambda workers: len(workers) == 2 and killed not in workers, "it is replaced")
        for client in clients:
            client.close()
        assert wait_until(lambda: ask(fleet, "GET", "/status").status_code == 200, "there is room again")
