"""Services: one process each for the whole server, whatever happens to it, to the workers, and to the master."""

import contextlib
import os
import re
import signal
import threading
from typing import Any

import httpx
import psutil
import pytest

from apps import holding
from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until

GOOD = "from serviced import *\n"
QUICK_RELOADS = int(os.environ.get("DRILL_SERVICE_RELOADS", "3"))
SETTINGS = """
app = "changing:app"
workers = 2
watch-time = {watch_time}
drain-timeout = 10
service-stop-timeout = 5
service-overlap = {overlap}
hook-worker-start = "changing:worker_starts"
hook-worker-exit = "changing:worker_exits"

[service]
consume = "changing:consume"
beat = "changing:beat"
warm = "changing:warm"
"""
Entry = tuple[str, int, int, str]
"""Who, its pid and generation, and what happened."""


def configure(fleet: Fleet, *, watch_time: float = 0.0, overlap: bool = False) -> None:
    fleet.write(
        "asgi-master.toml", SETTINGS.format(watch_time=watch_time, overlap="true" if overlap else "false")
    )


def serve(fleet: Fleet, *arguments: str, reload: str = GOOD) -> Fleet:
    """Serve with all services, and wait until they run."""
    (fleet.directory / "queue").mkdir()
    configure(fleet)
    fleet.write("changing.py", reload)
    places = ("--bind", "127.0.0.1:0", "--control-socket", "control.sock", "--admin-bind", "unix:admin")
    path = ":".join(map(str, (fleet.directory, SOURCE, APPS)))
    fleet.start(*places, *arguments, env={"PYTHONPATH": path}).wait_ready(2)
    wait_running(fleet, 1)
    return fleet


def journal(fleet: Fleet, *names: str) -> list[Entry]:
    """What was noted, by these or by all."""
    path = fleet.directory / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    entries = [
        (who, int(pid), int(gen), what) for who, pid, gen, what in (line.split(" ", 3) for line in lines)
    ]
    return [entry for entry in entries if not names or entry[0] in names]


def ask(fleet: Fleet, socket: str, path: str) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(fleet.directory / socket))
    with httpx.Client(transport=transport, timeout=PATIENCE) as client:
        return client.get(f"http://master{path}")


def status(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """The services by name; of two processes of one, the newer."""
    return {row["name"]: row for row in ask(fleet, "control.sock", "/status").json()["services"]}


def metric(fleet: Fleet, name: str, **labels: str) -> float:
    text = ",".join(f'{label}="{value}"' for label, value in labels.items())
    page = ask(fleet, "admin", "/metrics").text
    (value,) = re.findall(rf"^asgi_master_{name}{{{text}}} (\S+)$", page, re.MULTILINE)
    return float(value)


def wait_running(fleet: Fleet, generation: int) -> dict[str, int]:
    """The pids of the services that run, once they are of this generation."""

    def right() -> dict[str, int] | None:
        rows = status(fleet)
        pids = {name: row["pid"] for name, row in rows.items() if row["state"] == "running"}
        is_there = {"beat", "consume"} == pids.keys() and rows["warm"]["state"] == "completed"
        return pids if is_there and {rows[name]["generation"] for name in pids} == {generation} else None

    return wait_until(right, f"the services of generation {generation} run")


def assert_never_twice(fleet: Fleet) -> None:
    """No process of a service has begun before the one before it had ended: each holds a lock for as long as it lives."""
    assert [entry for entry in journal(fleet) if entry[3] == "twice"] == []


def reload(fleet: Fleet, outcome: str = "reloaded: ", signum: signal.Signals = signal.SIGHUP) -> None:
    after = len(fleet.lines)
    fleet.send(signum)
    fleet.wait_line(outcome, 5 * PATIENCE, after=after)


@pytest.mark.timeout(120 + 10 * QUICK_RELOADS)
def test_a_life(fleet: Fleet) -> None:
    serve(fleet)
    pids = wait_running(fleet, 1)
    looks_like_what_it_is(fleet, pids)
    hooks_are_called(fleet)
    pids = failures_are_followed(fleet, pids)
    bad_reloads_change_nothing(fleet, pids)
    generation = good_reloads_and_upgrades_replace(fleet)
    assert_never_twice(fleet)
    generation = many_reloads_at_once(fleet, generation)
    overlap(fleet, generation)
    the_last_request_is_worked_on(fleet)


def looks_like_what_it_is(fleet: Fleet, pids: dict[str, int]) -> None:
    process = psutil.Process(pids["consume"])
    assert process.cmdline()[0].startswith("asgi-master: service consume gen 1 ")
    assert process.ppid() == fleet.pid
    assert process.net_connections("inet") == [], "it holds no listener"
    assert metric(fleet, "service_up", service="beat") == 1
    assert metric(fleet, "service_completed", service="warm") == 1
    with fleet.client() as client:
        assert client.get("/job").status_code == 200
    wait_until(lambda: "did job" in {what for *_, what in journal(fleet, "consume")}, "the job is done")


def hooks_are_called(fleet: Fleet) -> None:
    for slot in (0, 1):
        assert [what for *_, what in journal(fleet, f"worker-{slot}")] == [
            f"starts {slot}",
            "lifespan.startup",
        ]


def failures_are_followed(fleet: Fleet, pids: dict[str, int]) -> dict[str, int]:
    """SIGKILL, SIGTERM from a stranger, exceptions in a row."""
    fleet.expect_log("ERROR.*service beat", "ERROR.*LookupError: as asked", "Traceback")
    os.kill(pids["beat"], signal.SIGKILL)
    fleet.wait_line(
        r"service beat \(generation 1\) ended after .* killed by SIGKILL.*; it starts again at once"
    )
    wait_until(lambda: status(fleet)["beat"]["restarts"] == 1, "it was started again")
    pids = wait_running(fleet, 1)
    for name in ("beat", "consume"):
        os.kill(pids[name], signal.SIGTERM)
    fleet.wait_line(r"service consume \(generation 1\) is told to stop: its process received SIGTERM")
    wait_until(lambda: status(fleet)["consume"]["restarts"] == 1, "it was started again")
    wait_until(lambda: len([e for e in journal(fleet, "consume") if e[3] == "begins"]) == 2, "it begins")
    wait_until(lambda: status(fleet)["beat"]["restarts"] == 2, "it was started again, too")
    wait_running(fleet, 1)
    (fleet.directory / "fault").touch()
    fleet.wait_line(r"service beat gen 1 \[\d+\]  the service failed: LookupError: as asked")
    fleet.wait_line(r"service beat \(generation 1\) ended after .* exit status 1; it starts again in")
    wait_until(lambda: status(fleet)["beat"]["state"] == "waiting", "it waits")
    assert ask(fleet, "admin", "/readyz").status_code == 200, "readiness is that of the workers"
    assert metric(fleet, "service_restarts_total", service="beat", reason="crashed") >= 2
    assert metric(fleet, "service_restarts_total", service="consume", reason="left") == 1
    # One that is started before the file is gone fails, and does not begin.
    begun = len(journal(fleet, "beat"))
    (fleet.directory / "fault").unlink()
    wait_until(lambda: len(journal(fleet, "beat")) > begun, "it begins again")
    pids = wait_running(fleet, 1)
    assert len(fleet.workers()) == 2
    return pids


BAD = {
    "import": GOOD + "del beat\n",
    "hook": GOOD + "def worker_starts(worker):\n    raise OSError('no database')\n",
    "watch": GOOD
    + "import os, threading\ndef worker_starts():\n    threading.Timer(0.1, os._exit, (7,)).start()\n",
}


def bad_reloads_change_nothing(fleet: Fleet, pids: dict[str, int]) -> None:
    configure(fleet, watch_time=0.5)
    fleet.expect_log("reload failed")
    before = journal(fleet, "consume", "beat", "warm")
    for source in BAD.values():
        fleet.write("changing.py", source)
        reload(fleet, "reload failed: ")
        assert {name: row["pid"] for name, row in status(fleet).items() if row["pid"]} == pids
    assert journal(fleet, "consume", "beat", "warm") == before
    configure(fleet)
    fleet.write("changing.py", GOOD)


def good_reloads_and_upgrades_replace(fleet: Fleet) -> int:
    generation = 1 + len(BAD)
    for signum in (signal.SIGHUP, signal.SIGUSR2):
        reload(fleet, signum=signum)
        generation += 1
        pids = wait_running(fleet, generation)
        begun = [e for e in journal(fleet, *pids) if e[2] == generation and e[3] == "begins"]
        assert {(who, pid) for who, pid, *_ in begun} == set(pids.items())
        assert len(journal(fleet, "warm")) == generation - len(BAD)
    return generation


def many_reloads_at_once(fleet: Fleet, generation: int) -> int:
    """Each is requested while services of the one before still begin or end."""
    for _ in range(QUICK_RELOADS):
        reload(fleet)
    generation += QUICK_RELOADS
    wait_running(fleet, generation)
    assert_never_twice(fleet)
    return generation


def overlap(fleet: Fleet, generation: int) -> None:
    """The next one begins while the old one runs; then that ends."""
    configure(fleet, watch_time=1.0, overlap=True)
    before = len(journal(fleet, "beat"))
    reload(fleet)
    wait_until(lambda: journal(fleet, "beat")[-1][3] == "ends", "the old one ends")
    assert [(gen, what) for _, _, gen, what in journal(fleet, "beat")[before:]] == [
        (generation + 1, "twice"),
        (generation + 1, "begins"),
        (generation, "ends"),
    ]
    wait_running(fleet, generation + 1)
    wait_until(lambda: len(service_pids(fleet)) == 2, "one process of each")
    configure(fleet)


def service_pids(fleet: Fleet) -> list[int]:
    found = []
    for child in psutil.Process(fleet.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too
            if "service " in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def the_last_request_is_worked_on(fleet: Fleet) -> None:
    """A request in flight as the stop begins has work for the service, which leaves after it."""
    with fleet.client() as client:
        asking = threading.Thread(target=client.get, args=("/last?held",))
        asking.start()
        wait_until(lambda: holding.arrived(fleet.directory, "last"), "the request is held")
        fleet.send(signal.SIGTERM)
        fleet.wait_line("stopping")
        wait_until(lambda: len(fleet.workers()) == 1, "the other worker has left")
        assert len(service_pids(fleet)) == 2
        holding.release(fleet.directory, "last")
        asking.join(PATIENCE)
    assert fleet.wait_exit() == 0
    last = [(who, what) for who, _, _, what in journal(fleet)]
    assert ("consume", "did last") in last
    slots = {f"worker-{slot}" for slot in (0, 1)}
    end_of_workers = max(index for index, (who, what) in enumerate(last) if who in slots and what == "exits")
    assert {who for who, what in last[end_of_workers:] if what == "ends"} == {"consume", "beat"}


@pytest.mark.parametrize("preload", ["off"])
def test_without_its_master_it_leaves(fleet: Fleet, preload: str) -> None:
    serve(fleet, "--preload", preload)
    fleet.expect_log("the master is gone")
    fleet.kill_master()
    wait_until(
        lambda: {who for who, *_, what in journal(fleet) if what == "ends"} == {"consume", "beat"},
        "both have ended in order",
    )
