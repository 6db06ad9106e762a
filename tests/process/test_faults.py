"""A process fails at each hand-over: what clients may notice, who serves in the end, and what the log says.

The allowed outcomes are enumerated: a reload that fails, or a worker that cannot start, costs no request at all; a
worker that dies costs what was on its own connections and nothing else.
"""

import asyncio
import os
import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from asgi_master.errors import ExitCode
from fleet import APPS, PATIENCE, Fleet, wait_until
from mixed_clients import MixedClients
from traffic import RawConnection

pytestmark = pytest.mark.newest_python

THOROUGH = bool(os.environ.get("DRILL_FAULTS"))
"""Also what differs little from another case: `make drill` does."""
WORKERS = 2
COMMITTED = r"reloaded: 2 workers serving generation 2\b"
# How the connections of a process that dies end: nothing but this may be seen, and by its own clients only.
CUT = re.compile(
    r"^_\w+: (IncompleteReadError|ConnectionResetError|BrokenPipeError|ConnectionClosedError|InvalidMessage)"
)
KINDS = {"keep-alive", "pipelined", "slow body", "silent, then late", "one-shot", "WebSocket"}


def rolled_back(cause: str) -> str:
    return rf"reload failed: generation 2: {cause}; staying with generation 1"


@dataclass(frozen=True)
class Case:
    fault: str
    says: str
    """The line that follows from the fault."""
    also: tuple[str, ...] = ()
    """What else may be in the log as a complaint."""
    options: tuple[str, ...] = ()
    cuts: bool = False
    """Whether a worker that holds connections dies."""

    def __str__(self) -> str:
        return self.fault.replace(":", " ")


def start(fleet: Fleet, case: Case, armed: Path | None = None) -> MixedClients:
    fault = case.fault
    if armed is not None:
        fault += f"{',' if ':' in fault else ':'}armed={armed}"
    fleet.serve("probe:app", *case.options, workers=WORKERS, env={"ASGI_MASTER_FAULT": fault})
    fleet.expect_log(case.says, *case.also)
    return MixedClients(fleet.port, silence=0.4, pause=0.05)


def drill(fleet: Fleet, case: Case, clients: MixedClients, signum: signal.Signals, *then: str) -> None:
    """Under clients of every kind: signal the master, see what the case says, and then these lines."""

    async def work() -> None:
        await flow(clients)
        mark = len(fleet.lines)
        fleet.send(signum)
        for line in (case.says, *then):
            await asyncio.to_thread(fleet.wait_line, line, PATIENCE, after=mark)
        await flow(clients)

    asyncio.run(clients.run_while(work()))
    judge(fleet, case, clients)


async def flow(clients: MixedClients) -> None:
    """Until every kind of client that did not fail had another answer."""
    before = clients.answers.copy()
    async with asyncio.timeout(PATIENCE):
        while not clients.failures and not (clients.answers - before).keys() >= KINDS:  # noqa: ASYNC110 -- clients count
            await asyncio.sleep(0.01)


def judge(fleet: Fleet, case: Case, clients: MixedClients) -> None:
    if case.cuts:
        strange = [failure for failure in clients.failures if not CUT.match(failure)]
        assert not strange, strange
        assert len(clients.failures) < clients.count, "those of other workers noticed nothing"
        print(f"{len(clients.failures)} cut: {clients.failures}")
    else:
        assert clients.failures == []
    # Whatever happened, it is over: everybody is served.
    for _ in range(20):
        assert httpx.get(f"{fleet.url}/", trust_env=False).status_code == 200


# -- a reload whose new generation fails: nothing may be noticed ----------------------------------------------

KILLED = "killed by SIGKILL .*"

CANDIDATES = [
    Case("raise@before_zygote:generation=2", rolled_back("cannot start a zygote: .*")),
    Case("kill@after_import:generation=2", rolled_back(f"its zygote died: {KILLED}")),
    Case("kill@before_fork:generation=2", rolled_back(".*")),
    Case(
        "hang@before_fork:generation=2",
        rolled_back("worker 0 was not ready after 8.* s.*"),
        options=("--boot-timeout", "8"),
    ),
    Case("kill@after_fork:generation=2", rolled_back("worker 0 died before it was ready: .*")),
    Case(
        "hang@before_ready:generation=2",
        rolled_back("worker 0 was not ready after 8.* s.*"),
        also=("is stuck",),
        options=("--boot-timeout", "8"),
    ),
    Case("kill@after_ready:generation=2", rolled_back(f"worker 0 died after serving for .*: {KILLED}")),
    Case(
        "kill@before_ready:generation=2,slot=1", rolled_back(f"worker 1 died before it was ready: {KILLED}")
    ),
    Case(
        "kill@after_take:generation=2",
        rolled_back(rf"worker \d died after serving for .*: {KILLED}"),
        cuts=True,
    ),
]
if THOROUGH:
    CANDIDATES += [
        Case(
            "hang@after_import:generation=2",
            rolled_back("importing the application took longer than 8 s"),
            options=("--boot-timeout", "8"),
        ),
        Case(
            "raise@before_spawn_order:generation=2",
            rolled_back("worker 0 could not start: no channel for it: .*"),
        ),
        Case(
            "raise@before_fork:generation=2",
            rolled_back("worker 0 could not start: fork failed: fault point before_fork"),
        ),
        Case("kill@after_forked:generation=2", rolled_back(f"worker 0 died before it was ready: {KILLED}")),
        Case(
            "exit@before_lifespan:generation=2",
            rolled_back("worker 0 died before it was ready: exit status 70"),
        ),
        Case(
            "raise@before_ready:generation=2",
            rolled_back("worker 0 died before it was ready: exit status 1"),
            also=("Traceback",),
        ),
        Case("kill@before_ready:generation=2", rolled_back(f"worker 0 died before it was ready: {KILLED}")),
    ]


@pytest.mark.parametrize("case", CANDIDATES, ids=str)
def test_a_candidate_that_fails(fleet: Fleet, tmp_path: Path, case: Case) -> None:
    armed = tmp_path / "armed"
    armed.touch()
    clients = start(fleet, case, armed)
    with fleet.keeping_descriptors():
        drill(fleet, case, clients, signal.SIGHUP)
        fleet.wait_settled(WORKERS)
    assert {worker.generation for worker in fleet.workers()} == {1}
    assert not armed.exists(), "the fault happened"


# -- a reload whose leaving worker fails: the new generation serves all the same -------------------------------

DIED_LEAVING = rf"worker \d \(generation 1\) died while leaving: {KILLED}"

LEAVERS = [
    Case("kill@mid_fork", COMMITTED),  # the worker lives, and says so itself
    Case("kill@drain_start", DIED_LEAVING, cuts=True),
    Case("raise@before_hand_off", COMMITTED),
    Case("kill@mid_hand_off", DIED_LEAVING, cuts=True),
    Case(
        "hang@mid_hand_off",
        r"worker \d \(generation 1\) had not left after .*; killed",
        options=("--drain-timeout", "2", "--shutdown-timeout", "0.5", "--kill-grace", "0.5"),
        also=("is stuck",),
        cuts=True,
    ),
    Case("kill@drain_end", DIED_LEAVING),
]
if THOROUGH:
    LEAVERS += [
        Case("kill@before_hand_off", DIED_LEAVING, cuts=True),
        Case("kill@before_exit", DIED_LEAVING),
    ]


@pytest.mark.parametrize("case", LEAVERS, ids=str)
def test_a_fault_that_the_reload_survives(fleet: Fleet, tmp_path: Path, case: Case) -> None:
    armed = tmp_path / "armed"
    clients = start(fleet, case, armed)
    armed.touch()
    with fleet.keeping_descriptors():
        drill(fleet, case, clients, signal.SIGHUP, COMMITTED)
        fleet.wait_settled(WORKERS)
    assert {worker.generation for worker in fleet.workers()} == {2}
    assert not armed.exists(), "the fault happened"


# -- a worker is replaced, and its successor or it fails -------------------------------------------------------

SUCCESSOR = r"worker 0 \(generation 1\) {}; a replacement starts .*"
IS_REPLACED = r"worker 0 \(generation 1\) is being replaced: SIGTERM"

RECYCLED = [
    Case("raise@before_fork", SUCCESSOR.format("could not start: fork failed: fault point before_fork")),
    Case(
        "kill@before_fork",
        r"the zygote of generation 1 is gone: .*; another starts at once",
        also=(SUCCESSOR.format(".*"),),
    ),
    Case(
        "kill@after_take",
        rf"worker \d \(generation 1\) died after serving for .*: {KILLED}; a replacement .*",
        cuts=True,
    ),
]
if THOROUGH:
    RECYCLED += [
        Case("kill@before_ready", SUCCESSOR.format(f"died before it was ready: {KILLED}")),
        Case("kill@drain_start", DIED_LEAVING, cuts=True),
        Case("kill@mid_hand_off", DIED_LEAVING, cuts=True),
    ]


@pytest.mark.parametrize("case", RECYCLED, ids=str)
def test_a_worker_that_is_replaced(fleet: Fleet, tmp_path: Path, case: Case) -> None:
    """Once its successor failed it is tried again; once the old one failed, the successor is there already."""
    armed = tmp_path / "armed"
    clients = start(fleet, case, armed)
    old = fleet.workers()[0]
    armed.touch()

    async def work() -> None:
        await flow(clients)
        mark = len(fleet.lines)
        os.kill(old.pid, signal.SIGTERM)
        for line in (IS_REPLACED, case.says):
            await asyncio.to_thread(fleet.wait_line, line, PATIENCE, after=mark)
        await asyncio.to_thread(
            fleet.wait_workers,
            lambda seen: len(seen) == WORKERS and old not in seen,
            "the old one was replaced",
        )
        await flow(clients)

    with fleet.keeping_descriptors():
        asyncio.run(clients.run_while(work()))
    judge(fleet, case, clients)
    assert not armed.exists(), "the fault happened"


# -- scaling down ----------------------------------------------------------------------------------------------


def test_a_worker_that_dies_as_it_makes_room(fleet: Fleet, tmp_path: Path) -> None:
    armed = tmp_path / "armed"
    case = Case("kill@before_hand_off", rf"worker 1 \(generation 1\) died while leaving: {KILLED}", cuts=True)
    clients = start(fleet, case, armed)
    armed.touch()
    drill(fleet, case, clients, signal.SIGTTOU)
    fleet.wait_workers(lambda seen: [worker.slot for worker in seen] == [0], "only worker 0 is left")
    assert not armed.exists(), "the fault happened"


# -- the first boot: it ends, soon, and says why ---------------------------------------------------------------

DID_NOT_START = r"generation 1 did not start: {}; giving up"

FIRST_BOOTS = [
    Case("raise@before_zygote", DID_NOT_START.format("cannot start a zygote: .*")),
    Case("kill@after_import", DID_NOT_START.format(f"its zygote died: {KILLED}")),
    Case("raise@before_spawn_order", DID_NOT_START.format("worker 0 could not start: .*")),
    Case("kill@after_fork:slot=1", DID_NOT_START.format("worker 1 died before it was ready: .*")),
    Case("exit@before_ready:slot=0", DID_NOT_START.format("worker 0 died before it was ready: .*")),
    Case(
        "hang@before_lifespan",
        DID_NOT_START.format("worker . was not ready after .*"),
        options=("--boot-timeout", "6"),
    ),
]


@pytest.mark.parametrize("case", FIRST_BOOTS, ids=str)
def test_a_first_boot_that_fails(fleet: Fleet, case: Case) -> None:
    options = ("--workers", "2", "--bind", "127.0.0.1:0", "--app-dir", str(APPS), *case.options)
    fleet.start(*options, "probe:app", env={"ASGI_MASTER_FAULT": case.fault})
    fleet.expect_log(case.says, "is stuck", r"worker . .* had not left")
    assert fleet.wait_exit() == ExitCode.BOOT_FAILED
    fleet.wait_line(case.says)


# -- the master ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["after_spawn_order", "before_drain_order", "before_commit"])
def test_a_master_that_dies_in_a_reload(fleet: Fleet, point: str) -> None:
    """Every process finishes and exits; nothing stays behind, and the port is free again."""
    of = 1 if point == "before_drain_order" else 2
    case = Case(f"kill@{point}:generation={of}", "leaving: the master is gone", cuts=True)
    start(fleet, case)
    port = fleet.port
    with RawConnection(port) as idle:
        idle.ask()
        fleet.send(signal.SIGHUP)
        assert fleet.wait_exit() == -signal.SIGKILL
        fleet.wait_line("leaving: the master is gone")

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_until(refused, "nobody listens on the port")


def test_a_master_that_is_stuck(fleet: Fleet) -> None:
    """The workers serve without supervision: the service does not depend on the master."""
    case = Case("hang@before_commit:generation=2", "leaving: the master is gone")
    clients = start(fleet, case)

    async def work() -> None:
        await flow(clients)
        fleet.send(signal.SIGHUP)
        await asyncio.to_thread(fleet.wait_line, COMMITTED)
        await flow(clients)
        await flow(clients)

    asyncio.run(clients.run_while(work()))
    judge(fleet, case, clients)
    fleet.kill_master()
