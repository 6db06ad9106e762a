"""The messages of a lifespan: what may be sent in each phase, and what is received."""

from itertools import product

import pytest

from asgi_master.asgi.lifespan_session import LifespanSession, Phase

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
COMPLETE, FAILED = "lifespan.startup.complete", "lifespan.startup.failed"
SHUTDOWN_COMPLETE, SHUTDOWN_FAILED = "lifespan.shutdown.complete", "lifespan.shutdown.failed"

FOLLOWS = {
    (Phase.STARTING, COMPLETE): Phase.STARTED,
    (Phase.STARTING, FAILED): Phase.FAILED,
    (Phase.STARTED, SHUTDOWN_FAILED): Phase.ENDED,
    (Phase.STOPPING, SHUTDOWN_COMPLETE): Phase.STOPPED,
    (Phase.STOPPING, SHUTDOWN_FAILED): Phase.STOPPED,
}


def session_in(phase: Phase) -> LifespanSession:
    session = LifespanSession()
    session.phase = phase
    return session


@pytest.mark.parametrize(
    ("phase", "kind"),
    list(product(Phase, [COMPLETE, FAILED, SHUTDOWN_COMPLETE, SHUTDOWN_FAILED, "lifespan.else"])),
)
def test_every_message_in_every_phase(phase: Phase, kind: str) -> None:
    session = session_in(phase)
    if (phase, kind) in FOLLOWS:
        session.handle({"type": kind})
        assert session.phase is FOLLOWS[phase, kind]
    else:
        with pytest.raises(RuntimeError, match=f"{kind!r} sent while the lifespan is {phase}"):
            session.handle({"type": kind})
        assert session.phase is phase
    assert session.is_aware


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"message": "no database"}, "no database"),
        ({"message": ""}, "no reason given"),
        ({}, "no reason given"),
    ],
)
def test_a_failure_has_a_reason(message: dict[str, str], reason: str) -> None:
    session = LifespanSession()
    session.handle({"type": FAILED, **message})
    assert session.reason == reason


def test_an_answer_to_a_request_is_no_lifespan() -> None:
    session = LifespanSession()
    session.next_message()
    with pytest.raises(RuntimeError, match=r"'http\.response\.start' sent to a lifespan scope"):
        session.handle({"type": "http.response.start"})
    assert not session.is_aware


def test_each_message_is_received_once() -> None:
    session = LifespanSession()
    assert not session.is_aware
    assert (session.next_message(), session.next_message()) == (STARTUP, None)
    session.handle({"type": COMPLETE})
    assert session.next_message() is None
    session.request_shutdown()
    assert (session.next_message(), session.next_message()) == (SHUTDOWN, None)
    assert session.is_aware


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.ENDED, Phase.STOPPED])
def test_nothing_is_received_after_the_end(phase: Phase) -> None:
    session = session_in(phase)
    assert session.is_over
    assert session.next_message() is None
