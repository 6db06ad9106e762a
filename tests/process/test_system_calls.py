"""Every system call may fail: in a master, a zygote and a worker, one after another (`make drill-faults` does all)."""

import contextlib
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from asgi_master.errors import AsgiMasterError, ExitCode
from drilled_fleet import AUTHORITY, WELL_WITHIN, WORKERS, Drilled, wait
from fleet import APPS, Fleet, wait_until
from syscall_faults import command, failing, recorded, why_not
from system_calls import BOOT, LEFT_OUT, TABLE, Pair, pairs

THOROUGH = bool(os.environ.get("DRILL_SYSTEM_CALLS"))
"""Every pair of the table, in every mode: `make drill-faults` does."""

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.timeout(900),
    pytest.mark.newest_python,
]

MODES = ("3+3", "1", "2", "always") if THOROUGH else ("3+3", "always")
"""Every third call, only the first, only the second, and all for a while."""
MOST_LINES = 150
"""Of the log, for a reload, a crash and some scaling, all of which meet trouble."""
REPRESENTATIVE = {
    "master-getsockopt-ENOBUFS",
    "master-epoll_ctl-ENOMEM",
    "master-recvmsg-ENOMEM",
    "zygote-recvmsg-ENOMEM",
    "zygote-clone-EAGAIN",
    "worker-recvmsg-ENOMEM",
    "worker-accept4-EMFILE",
    "start-socketpair-EMFILE",
    "start-openat-EMFILE",
}


def chosen(role: str, representative: set[str]) -> list[Pair]:
    return [pair for pair in pairs(role) if THOROUGH or str(pair) in representative]


class Drill(Protocol):
    def __call__(
        self, pair: Pair, target: Callable[[Drilled], int], stir: Callable[[Drilled], None]
    ) -> None: ...


@pytest.fixture
def drill(fleet: Fleet, tmp_path: Path, record_property: Any) -> Drill:
    """Fail the call of the target in every mode while the fleet is stirred, and see that it is well afterwards."""

    def run(pair: Pair, target: Callable[[Drilled], int], stir: Callable[[Drilled], None]) -> None:
        record_property("role", pair.role)
        calls = 0
        drilled = Drilled(fleet)
        for mode in MODES:
            lines = len(fleet.lines)
            with failing(
                target(drilled),
                pair.call,
                pair.error,
                mode,
                tmp_path / "record",
                children=pair.role == "boot",
            ) as record:
                stir(drilled)
                wait(1.0)
            calls += record.failed
            said = len(fleet.lines) - lines
            assert said < MOST_LINES, f"the log is flooded: {said} lines\n{fleet.log}"
            drilled.recovered()
            drilled.calm([fleet.pid, *(worker["pid"] for worker in drilled.ready())])
        drilled.still_reloads()
        assert fleet.stop() == ExitCode.OK
        record_property("calls", calls)

    return run


@pytest.mark.parametrize("pair", chosen("master", REPRESENTATIVE), ids=str)
def test_master(drill: Drill, pair: Pair) -> None:
    """It lives on, and does all it was asked for, now or when it is asked again."""
    drill(
        pair,
        lambda drilled: drilled.fleet.pid,
        lambda drilled: drilled.stir(drilled.fleet.workers()[0].pid),
    )


def lose_workers(drilled: Drilled) -> None:
    for worker in drilled.fleet.workers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        wait(0.1)
    drilled.fleet.send(signal.SIGTTIN)


@pytest.mark.parametrize("pair", chosen("zygote", REPRESENTATIVE), ids=str)
def test_zygote(drill: Drill, pair: Pair) -> None:
    """It works on or is replaced."""
    drill(pair, lambda drilled: drilled.zygote(), lose_workers)


@pytest.mark.parametrize("pair", chosen("boot", REPRESENTATIVE), ids=str)
def test_boot(drill: Drill, pair: Pair) -> None:
    """A worker that cannot start is started again."""
    drill(pair, lambda drilled: drilled.zygote(), lose_workers)


@pytest.mark.parametrize("pair", chosen("worker", REPRESENTATIVE), ids=str)
def test_worker(drill: Drill, pair: Pair) -> None:
    """It serves on or is replaced; the other worker is the same as before."""

    def stir(drilled: Drilled) -> None:
        sibling = drilled.fleet.workers()[1]
        AUTHORITY.write(drilled.directory, "site")
        drilled.busy(1.0)
        with contextlib.suppress(AsgiMasterError):
            drilled.control("POST", "/stacks")
        assert sibling in drilled.fleet.workers(), "its sibling was replaced too"
        with contextlib.suppress(AsgiMasterError):
            drilled.control("POST", "/drain", {"slot": 0})
        drilled.busy(0.2)

    drill(pair, lambda drilled: int(drilled.ready()[0]["pid"]), stir)


# -- the start ----------------------------------------------------------------------------------------------------

_CALL = re.compile(r"^(\w+)\(")
_OPTIONS = ("--workers", "2", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0", "--app-dir", str(APPS))
_STATUSES = {ExitCode.FAILURE, ExitCode.USAGE, ExitCode.BOOT_FAILED, ExitCode.BIND_FAILED}


@pytest.fixture(scope="module")
def start_of_a_master(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """The calls of a master from its first step of its own until it is ready, each as its numbers among its like."""
    directory = tmp_path_factory.mktemp("start")
    fleet = Fleet(directory)
    start(fleet, recorded(directory / "record"))
    fleet.wait_ready(WORKERS)
    fleet.close()
    seen: Counter[str] = Counter()
    calls: dict[str, list[int]] = {}
    has_begun = False
    for line in (directory / "record").read_text(errors="replace").splitlines():
        if match := _CALL.match(line):
            seen[match[1]] += 1
            # With the first zygote it begins; what was before is the interpreter's own start.
            has_begun = has_begun or match[1] == "socketpair"
            if has_begun:
                calls.setdefault(match[1], []).append(seen[match[1]])
        if "ready: " in line:
            return calls
    raise AssertionError("the record does not show the start")


def start(fleet: Fleet, traced: list[str]) -> None:
    fleet.start(
        *_OPTIONS,
        *("--control-socket", "control.sock", "--boot-timeout", "60", "probe:app"),
        program=(*traced, sys.executable, "-m", "asgi_master"),
    )


@pytest.mark.parametrize("pair", chosen("start", REPRESENTATIVE), ids=str)
def test_start(
    tmp_path: Path, pair: Pair, start_of_a_master: dict[str, list[int]], record_property: Any
) -> None:
    """It starts all the same, or ends soon, with a line that says why and a status of the documented ones."""
    record_property("role", pair.role)
    numbers = start_of_a_master.get(pair.call, [])
    outcomes: Counter[str] = Counter()
    for number in sorted({numbers[at] for at in (0, len(numbers) // 2, -1)} if numbers else ()):
        directory = tmp_path / str(number)
        directory.mkdir()
        fleet = Fleet(directory)
        fleet.expect_log("")
        traced = command(pair.call, pair.error, str(number), directory / "record")
        start(fleet, [traced[0], "-D", *traced[1:]])
        try:
            outcomes[judge_start(fleet, number)] += 1
        finally:
            fleet.close()
    record_property("calls", outcomes.total())
    record_property("ended", outcomes["ended"])


def judge_start(fleet: Fleet, number: int) -> str:
    def decided() -> str:
        if fleet.has_ended:
            return "ended"
        return "ready" if any("ready: " in line for line in list(fleet.lines)) else ""

    outcome = wait_until(decided, f"it has started or ended, call {number} having failed", WELL_WITHIN)
    if outcome == "ended":
        status = fleet.wait_exit()
        assert status in _STATUSES, f"call {number}: exit status {status}\n{fleet.log}"
        assert "Traceback" not in fleet.log, fleet.log
        assert any("error" in line.lower() for line in fleet.lines), f"it did not say why\n{fleet.log}"
    return outcome


# -- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not THOROUGH, reason="make drill-faults does")
def test_nothing_is_called_that_is_not_in_the_table(fleet: Fleet, tmp_path: Path) -> None:
    drilled = Drilled(fleet, [*recorded(tmp_path / "record"), "-ff"])
    roles = {fleet.pid: "master"}
    for _ in range(2):
        roles |= {zygote.pid: "zygote" for zygote in fleet.zygotes()}
        roles |= {worker.pid: "worker" for worker in fleet.workers()}
        drilled.stir(fleet.workers()[0].pid)
        drilled.recovered()
    fleet.stop()
    for pid, role in roles.items():
        lines = (tmp_path / f"record.{pid}").read_text(errors="replace").splitlines()
        if role != "worker":
            # What comes before the first message is its start.
            lines = lines[next(at for at, line in enumerate(lines) if line.startswith("recvmsg(")) :]
        called = {match[1] for line in lines if (match := _CALL.match(line))}
        unknown = called - TABLE[role].keys() - LEFT_OUT.keys() - (BOOT.keys() if role == "worker" else set())
        assert not unknown, f"a {role} calls {sorted(unknown)}"
