"""When the end of an HTTP/2 connection is announced."""

import pytest

from asgi_master.http.h2.drain import Drain, Step


def step(drain: Drain, now: float, opened: int = 0, running: int = 0, *, others_serve: bool = True) -> Step:
    return drain.next_step(now, opened, running, others_serve=others_serve)


def test_without_another_worker_the_end_is_announced_at_once() -> None:
    drain = Drain(10.0)
    assert step(drain, 10.0, 1, 1, others_serve=False) is Step.ANNOUNCE


def test_the_last_stream_is_named_once_the_peer_had_its_time_to_answer() -> None:
    drain = Drain(10.0)
    drain.announced(10.0)
    assert drain.is_announced
    assert step(drain, 10.9, 1, 1) is Step.WAIT
    assert step(drain, 11.0, 1, 1) is Step.FINISH


def test_a_pause_is_probed_and_an_answer_ends_it() -> None:
    drain = Drain(0.0)
    assert [step(drain, now, 3) for now in (0.0, 0.04, 0.06, 0.1)] == [
        Step.WAIT,
        Step.WAIT,
        Step.PROBE,
        Step.WAIT,
    ]
    assert drain.is_over_when_answered(3, 0)
    drain.announced(0.2)
    assert not drain.is_over_when_answered(3, 0)


@pytest.mark.parametrize(("opened", "running"), [(4, 1), (4, 0)])
def test_an_answer_after_another_stream_ends_nothing(opened: int, running: int) -> None:
    drain = Drain(0.0)
    assert [step(drain, now, 3) for now in (0.0, 0.06)] == [Step.WAIT, Step.PROBE]
    assert not drain.is_over_when_answered(opened, running)


def test_silence_is_an_answer() -> None:
    drain = Drain(0.0)
    assert [step(drain, now, 3) for now in (0.0, 0.06, 0.3, 0.32)] == [
        Step.WAIT,
        Step.PROBE,
        Step.WAIT,
        Step.ANNOUNCE,
    ]


def test_another_stream_begins_the_pause_anew() -> None:
    drain = Drain(0.0)
    assert [step(drain, now, 3) for now in (0.0, 0.06)] == [Step.WAIT, Step.PROBE]
    assert [step(drain, now, 4) for now in (0.1, 0.12, 0.16)] == [Step.WAIT, Step.WAIT, Step.PROBE]


def test_a_response_to_one_stream_at_a_time_takes_the_announcement_along() -> None:
    drain = Drain(0.0)
    assert not drain.owes_response
    drain.stream_opens(is_alone=True)
    assert drain.owes_response
    drain.announced(0.1)
    assert not drain.owes_response
    drain.stream_opens(is_alone=True)
    assert not drain.owes_response


def test_streams_side_by_side_wait_for_a_moment_without_one() -> None:
    drain = Drain(0.0)
    drain.stream_opens(is_alone=True)
    drain.stream_opens(is_alone=False)
    assert not drain.owes_response
    assert step(drain, 0.1, 2, 2) is Step.WAIT
    assert step(drain, 0.2, 2, 0) is Step.ANNOUNCE


def test_streams_that_ran_when_the_drain_began_are_side_by_side_too() -> None:
    drain = Drain(0.0)
    assert [step(drain, 0.0, 2, 2), step(drain, 0.1, 2, 0)] == [Step.WAIT, Step.ANNOUNCE]


def test_a_moment_without_a_stream_is_not_waited_for_forever() -> None:
    drain = Drain(0.0)
    assert [step(drain, 0.9, 1, 1), step(drain, 1.0, 1, 1)] == [Step.WAIT, Step.ANNOUNCE]
