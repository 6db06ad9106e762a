"""A caller that waits for a reload gets the outcome of that reload, whatever else happens."""

import random

import pytest

from asgi_master.control.reloads import Outcome, Reloads, Result, Ticket
from asgi_master.errors import ExitCode
from asgi_master.supervision.actions import Announce
from asgi_master.supervision.events import (
    ReloadRequested,
    RollbackRequested,
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
    NothingToRollBackTo,
    Notice,
    ReloadCommitted,
    ReloadFailed,
    ReloadRefused,
    ReloadStarted,
    ReloadSuperseded,
    RollbackAsked,
    RollbackStarted,
    StopLevel,
    Stopped,
    Stopping,
    ZygoteReplaced,
)
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.supervisor import Supervisor

WHY = ImportFailed("it is broken")


def play(reloads: Reloads, *notices: Notice) -> None:
    for notice in notices:
        reloads.note(notice, 7.0)


def result_of(ticket: Ticket) -> Result | None:
    return None if ticket.outcome is None else ticket.outcome.result


def test_committed() -> None:
    reloads = Reloads()
    play(reloads, MasterReady(2, 1))
    assert (reloads.generation, reloads.last) == (1, None)
    ticket = reloads.open_ticket()
    play(reloads, ReloadStarted(2))
    assert (reloads.starting, ticket.outcome) == (2, None)
    play(reloads, ReloadCommitted(2, 2, 0.5))
    message = "reloaded: 2 workers serving generation 2 after 0.5 s"
    assert ticket.outcome == Outcome(Result.COMMITTED, 2, message, 7.0)
    assert (reloads.generation, reloads.starting, reloads.last) == (2, None, ticket.outcome)


def test_failed() -> None:
    reloads = Reloads(generation=1)
    ticket = reloads.open_ticket()
    play(reloads, ReloadStarted(2), ReloadFailed(2, WHY, 1))
    assert ticket.outcome is not None
    assert ticket.outcome.result is Result.FAILED
    assert "it is broken" in ticket.outcome.message
    assert (reloads.generation, reloads.last) == (1, ticket.outcome)


def test_the_end_of_an_earlier_reload_is_not_mine() -> None:
    reloads = Reloads(generation=1)
    earlier = reloads.open_ticket()
    play(reloads, ReloadStarted(2))
    ticket = reloads.open_ticket()
    play(reloads, ReloadSuperseded(2))
    assert (result_of(earlier), ticket.outcome) == (Result.SUPERSEDED, None)
    play(reloads, ReloadStarted(3), ReloadCommitted(3, 1, 1.0))
    assert (result_of(ticket), ticket.generation) == (Result.COMMITTED, 3)


def test_requests_before_the_start_melt_into_one() -> None:
    reloads = Reloads(generation=1)
    tickets = [reloads.open_ticket(), reloads.open_ticket()]
    play(reloads, ReloadStarted(2), ReloadCommitted(2, 1, 1.0))
    assert [result_of(ticket) for ticket in tickets] == [Result.COMMITTED] * 2


def test_a_stop_ends_all_waiting() -> None:
    reloads = Reloads(generation=1)
    tickets = [reloads.open_ticket()]
    play(reloads, ReloadStarted(2))
    tickets += [reloads.open_ticket(), reloads.open_ticket(rollback=True)]
    play(reloads, Stopping(StopLevel.GRACEFUL, 2), Stopping(StopLevel.QUICK, 2), Stopped(ExitCode.OK))
    assert [result_of(ticket) for ticket in tickets] == [Result.STOPPED] * 3


def test_a_reload_instead_of_the_first_boot() -> None:
    reloads = Reloads()
    ticket = reloads.open_ticket()
    play(reloads, ReloadSuperseded(1), ReloadStarted(2), MasterReady(1, 2))
    assert (result_of(ticket), reloads.generation) == (Result.COMMITTED, 2)


def test_a_reload_of_what_never_came_up() -> None:
    reloads = Reloads()
    play(reloads, BootFailed(1, WHY, waits=True))
    ticket = reloads.open_ticket()
    play(reloads, ReloadStarted(2), BootFailed(2, WHY, waits=True))
    assert result_of(ticket) is Result.FAILED


def test_who_went_away_is_not_told() -> None:
    reloads = Reloads(generation=1)
    ticket = reloads.open_ticket()
    reloads.cancel(ticket)
    reloads.cancel(Ticket())
    play(reloads, ReloadStarted(2), ReloadCommitted(2, 1, 1.0))
    assert ticket.outcome is None


def test_a_stand_in_serves() -> None:
    reloads = Reloads(generation=1)
    play(reloads, ZygoteReplaced(1, 2))
    assert (reloads.generation, reloads.last) == (2, None)


def test_bad_settings_are_the_last_result() -> None:
    reloads = Reloads(generation=1)
    reloads.note(ReloadRefused("SIGHUP", ("bind: is empty", "app: missing")), 3.0)
    assert reloads.last == Outcome(Result.REFUSED, None, "not reloading: bind: is empty; app: missing", 3.0)


def test_a_rollback_ends_as_a_reload_does() -> None:
    for end, result in (
        (ReloadCommitted(1, 2, 0.5), Result.COMMITTED),
        (ReloadFailed(1, WHY, 2), Result.FAILED),
        (ReloadSuperseded(1), Result.SUPERSEDED),
    ):
        reloads = Reloads(generation=2)
        ticket = reloads.open_ticket(rollback=True)
        play(reloads, RollbackStarted(1, 2))
        assert reloads.starting == 1
        play(reloads, end)
        assert result_of(ticket) is result
        assert reloads.starting is None
        assert reloads.last == ticket.outcome


def test_a_rollback_calls_off_the_reload_under_way() -> None:
    reloads = Reloads(generation=1)
    reloading = reloads.open_ticket()
    play(reloads, ReloadStarted(2))
    going_back = reloads.open_ticket(rollback=True)
    play(reloads, ReloadFailed(2, RollbackAsked(), 1))
    assert (result_of(reloading), result_of(going_back)) == (Result.FAILED, Result.CALLED_OFF)
    assert reloads.last is not None
    assert reloads.last.result is Result.FAILED


def test_a_rollback_has_nothing_to_do_with_a_reload_that_fails_by_itself() -> None:
    reloads = Reloads(generation=2)
    going_back = reloads.open_ticket(rollback=True)
    play(reloads, RollbackStarted(1, 2))
    reloading = reloads.open_ticket()
    play(reloads, ReloadSuperseded(1), ReloadStarted(3))
    later = reloads.open_ticket(rollback=True)
    play(reloads, ReloadFailed(3, WHY, 2))
    assert [result_of(t) for t in (going_back, reloading, later)] == [Result.SUPERSEDED, Result.FAILED, None]


def test_a_rollback_to_nothing() -> None:
    reloads = Reloads(generation=2)
    reloading, ticket = reloads.open_ticket(), reloads.open_ticket(rollback=True)
    play(reloads, NothingToRollBackTo(2))
    assert (result_of(ticket), reloading.outcome) == (Result.FAILED, None)


@pytest.mark.parametrize("seed", range(60))
def test_each_caller_gets_one_outcome_whatever_the_fleet_does(seed: int) -> None:
    """Against the real supervisor, with a random edge: each ticket ends exactly once when things have come to rest."""
    chance = random.Random(seed)
    now = 0.0
    supervisor = Supervisor(Policy(workers=2, watch_time=0.1, rollback_window=5.0), now, lambda: 0.5)
    reloads = Reloads()
    open_tickets: list[Ticket] = []

    def handle(event: object) -> None:
        for action in supervisor.handle(event, now):  # type: ignore[arg-type]
            if isinstance(action, Announce):
                ended = {id(ticket): ticket.outcome for ticket in open_tickets if ticket.outcome}
                reloads.note(action.notice, now)
                assert all(ticket.outcome is ended.get(id(ticket), ticket.outcome) for ticket in open_tickets)

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
        if chance.random() < 0.1 and supervisor.can_roll_back:
            open_tickets.append(reloads.open_ticket(rollback=True))
            handle(RollbackRequested())
        elif chance.random() < 0.2 and supervisor.phase not in {"stopping", "stopped"}:
            # As the server does: first the request as a fact, then the ticket, then it is judged.
            open_tickets.append(reloads.open_ticket())
            handle(ReloadRequested(supervisor.policy))
        else:
            work(good=False)
    if chance.random() < 0.3:
        handle(StopRequested())
    for _ in range(200):
        now += 0.2
        work(good=True)
    assert supervisor.phase in {"steady", "stopped"}
    assert all(ticket.outcome is not None for ticket in open_tickets)
