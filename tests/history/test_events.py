"""Which notices are events."""

import logging
from typing import get_args

import pytest

from asgi_master.history.events import MOST_EVENTS, Event, Events, Kind
from asgi_master.supervision import notices as n

LOST = n.WorkerLost(5, 1, 3, n.Died(1, -11, 4.0), 0.5)


@pytest.mark.parametrize(
    ("notice", "kind"),
    [
        (n.ReloadCommitted(2, 4, 1.5), Kind.DEPLOY),
        (n.ReloadFailed(2, n.RollbackAsked(), 1), Kind.DEPLOY),
        (n.ScaledTo(3, 2), Kind.SCALING),
        (n.WorkerReplacementStarted(5, 1, 3, "old"), Kind.RECYCLING),
        (n.StopDelayed(3.0), Kind.STOP),
        (LOST, Kind.FAILURE),
        (n.ZygoteLost(1, -9, 0.0), Kind.FAILURE),
        (n.ServiceCompleted(5, "cron", 3, 60.0), Kind.SERVICE),
        (n.ServiceKilled(5, "cron", 3, 9.0), Kind.FAILURE),
        (n.WorkerBecameReady(5, 1, 3), None),
        (n.HeldLetGo(1, n.WhyLetGo.EXPIRED), None),
    ],
)
def test_kinds(notice: n.Notice, kind: Kind | None) -> None:
    events = Events()
    events.note(notice, logging.INFO, "what happened", 12.5)
    assert [event.kind for event in events.after(0)] == ([] if kind is None else [kind])


def test_every_kind_of_notice_is_decided() -> None:
    assert len(get_args(n.Notice)) == 36, "a new one: is it an event, and of which kind?"


def test_an_event_says_who() -> None:
    events = Events()
    events.note(LOST, logging.ERROR, "x" * 1000, 12.5)
    events.note(n.ScaledTo(3, 2), 5, "scaled", 13.5)
    first, second = events.after(0)
    assert first == Event(1, 12.5, Kind.FAILURE, "error", "x" * 300, 1, 3)
    assert second == Event(2, 13.5, Kind.SCALING, "info", "scaled")
    assert events.after(1) == [second]


def test_they_are_bounded_and_survive_an_upgrade() -> None:
    events = Events()
    for number in range(MOST_EVENTS + 50):
        events.note(n.ScaledTo(number + 1, number), logging.INFO, "scaled", 1.0)
    after = Events.load(events.dump())
    assert after.after(0) == events.after(0)
    assert len(after.after(0)) == MOST_EVENTS
    assert after.last_number == MOST_EVENTS + 50
    assert Events.load({}).after(0) == []
    assert Events.load({"events": [{"kind": "unheard of"}]}).after(0) == []
