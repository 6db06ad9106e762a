"""Whoever waits for a reload is told of that reload, whatever else goes on."""

import random

import pytest

from asgi_master.control.reloads import Outcome, Reloads, Result, Ticket
from asgi_master.errors import ExitCode
from asgi_master.supervision.actions import Announce
from asgi_master.supervision.events import (
    ReloadRequested,
    StopRequested,
    TimePassed,
    WorkerExited,
    WorkerReady,
    ZygoteExited,
    ZygoteFailed,
    ZygoteReady,
)
from asgi_master.supervision.notices import (
    BootFailed,
    ImportFailed,
    MasterReady,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadStarted,
    ReloadSuperseded,
    StopLevel,
    Stopped,
    Stopping,
    ZygoteReplaced,
)
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.supervisor import Supervisor

WHY = ImportFailed("it is broken")


def play(reloads: Reloads, *notices: Notice) -> list[tuple[Ticket, Outcome]]:
    return [told for notice in notices for told in reloads.note(notice, 7.0)]


def test_committed() -> None:
    reloads = Reloads()
    assert play(reloads, MasterReady(2, 1)) == []
    assert (reloads.generation, reloads.last) == (1, None)
    ticket = reloads.ask()
    assert play(reloads, ReloadStarted(2)) == []
    assert reloads.starting == 2
    told = play(reloads, ReloadCommitted(2, 2, 0.5))
    assert told == [
        (ticket, Outcome(Result.COMMITTED, 2, "reloaded: 2 workers serving generation 2 after 0.5 s", 7.0))
    ]
    assert (reloads.generation, reloads.starting, reloads.last) == (2, None, told[0][1])


def test_failed() -> None:
    reloads = Reloads(generation=1)
    ticket = reloads.ask()
    [(who, outcome)] = play(reloads, ReloadStarted(2), ReloadFailed(2, WHY, 1))
    assert who is ticket
    assert outcome.result is Result.FAILED
    assert "it is broken" in outcome.message
    assert (reloads.generation, reloads.last) == (1, outcome)


def test_the_end_of_an_earlier_reload_is_not_mine() -> None:
    reloads = Reloads(generation=1)
    earlier = reloads.ask()
    play(reloads, ReloadStarted(2))
    ticket = reloads.ask()
    [(who, outcome)] = play(reloads, ReloadSuperseded(2))
    assert (who, outcome.result) == (earlier, Result.SUPERSEDED)
    [(who, outcome)] = play(reloads, ReloadStarted(3), ReloadCommitted(3, 1, 1.0))
    assert (who, outcome.generation) == (ticket, 3)


def test_requests_before_the_start_melt_into_one() -> None:
    reloads = Reloads(generation=1)
    tickets = [reloads.ask(), reloads.ask()]
    assert [who for who, _ in play(reloads, ReloadStarted(2), ReloadCommitted(2, 1, 1.0))] == tickets


def test_a_stop_ends_all_waiting() -> None:
    reloads = Reloads(generation=1)
    tickets = [reloads.ask()]
    play(reloads, ReloadStarted(2))
    tickets.append(reloads.ask())
    told = play(reloads, Stopping(StopLevel.GRACEFUL, 2))
    assert [who for who, _ in told] == tickets
    assert {outcome.result for _, outcome in told} == {Result.STOPPED}
    assert play(reloads, Stopping(StopLevel.QUICK, 2), Stopped(ExitCode.OK)) == []


def test_a_reload_instead_of_the_first_boot() -> None:
    reloads = Reloads()
    ticket = reloads.ask()
    [(who, outcome)] = play(reloads, ReloadSuperseded(1), ReloadStarted(2), MasterReady(1, 2))
    assert (who, outcome.result, reloads.generation) == (ticket, Result.COMMITTED, 2)


def test_a_reload_of_what_never_came_up() -> None:
    reloads = Reloads()
    assert play(reloads, BootFailed(1, WHY, waits=True)) == []
    ticket = reloads.ask()
    [(who, outcome)] = play(reloads, ReloadStarted(2), BootFailed(2, WHY, waits=True))
    assert (who, outcome.result) == (ticket, Result.FAILED)


def test_who_went_away_is_not_told() -> None:
    reloads = Reloads(generation=1)
    reloads.forget(reloads.ask())
    reloads.forget(Ticket())
    assert play(reloads, ReloadStarted(2), ReloadCommitted(2, 1, 1.0)) == []


def test_a_stand_in_serves() -> None:
    reloads = Reloads(generation=1)
    play(reloads, ZygoteReplaced(1, 2))
    assert (reloads.generation, reloads.last) == (2, None)


def test_bad_settings_are_the_last_result() -> None:
    reloads = Reloads(generation=1)
    outcome = reloads.refuse(["bind: is empty", "app: missing"], 3.0)
    assert (
        reloads.last
        == outcome
        == Outcome(Result.REFUSED, None, "not reloading: bind: is empty; app: missing", 3.0)
    )


@pytest.mark.parametrize("seed", range(60))
def test_everybody_is_told_once_whatever_the_fleet_does(seed: int) -> None:
    """Against the real supervisor, with a random edge: each ticket ends exactly once when things have come to rest."""
    chance = random.Random(seed)
    now = 0.0
    supervisor = Supervisor(Policy(workers=2, watch_time=0.1), now, lambda: 0.5)
    reloads = Reloads()
    open_tickets: list[Ticket] = []
    told: list[Ticket] = []

    def handle(event: object) -> None:
        for action in supervisor.handle(event, now):  # type: ignore[arg-type]
            if isinstance(action, Announce):
                told.extend(ticket for ticket, _ in reloads.note(action.notice, now))

    def work(*, good: bool) -> None:
        """Let the edge answer one order that is open."""
        zygotes = [z for z in supervisor.fleet.zygotes.values() if z.lives]
        workers = [w for w in supervisor.fleet.workers.values() if w.lives]
        facts: list[object] = [ZygoteExited(z.generation, 0) for z in zygotes if z.state == "retiring"]
        facts += [WorkerExited(w.id, 0) for w in workers if w.state in {"draining", "failed", "killed"}]
        facts += [
            ZygoteReady(z.generation) if good or chance.random() < 0.8 else ZygoteFailed(z.generation, "bad")
            for z in zygotes
            if z.state == "importing"
        ]
        facts += [
            WorkerReady(w.id) if good or chance.random() < 0.8 else WorkerExited(w.id, 1)
            for w in workers
            if w.state == "booting"
        ]
        handle(chance.choice(facts) if facts else TimePassed())

    handle(TimePassed())
    for _ in range(60):
        now += chance.choice([0.0, 0.05, 0.5])
        if chance.random() < 0.2 and supervisor.phase not in {"stopping", "stopped"}:
            # As the server does: first the request as a fact, then the ticket, then it is judged.
            open_tickets.append(reloads.ask())
            handle(ReloadRequested(supervisor.policy))
        else:
            work(good=False)
    if chance.random() < 0.3:
        handle(StopRequested())
    for _ in range(200):
        now += 0.2
        work(good=True)
    assert supervisor.phase in {"steady", "stopped"}
    assert sorted(map(id, told)) == sorted(map(id, open_tickets))
