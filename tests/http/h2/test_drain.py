"""When the end of an HTTP/2 connection is announced."""

import pytest

from asgi_master.http.h2.drain import Drain, Step

WAIT, PROBE, RELEASE, ANNOUNCE, FINISH = Step


def drain_of(
    now: float = 0.0, *, is_serial: bool = True, gives_up: bool = True, others_serve: bool = True
) -> Drain:
    drain = Drain(now, is_serial=is_serial, gives_up=gives_up)
    drain.others_serve = others_serve
    return drain


def steps(drain: Drain, *looks: tuple[float, int, int]) -> list[Step]:
    """What is to be done at each look: its time, how many streams were opened, and how many run."""
    return [drain.next_step(*look) for look in looks]


def test_without_another_worker_the_end_is_announced_at_once() -> None:
    assert steps(drain_of(10.0, others_serve=False), (10.0, 1, 1)) == [ANNOUNCE]


def test_the_last_stream_is_named_once_the_peer_had_its_time_to_answer() -> None:
    drain = drain_of(10.0)
    drain.announced(10.0)
    assert drain.is_announced
    assert steps(drain, (10.9, 1, 1), (11.0, 1, 1)) == [WAIT, FINISH]


def test_the_right_moment_is_not_waited_for_forever() -> None:
    assert steps(drain_of(), (0.9, 1, 1), (1.0, 1, 1)) == [WAIT, ANNOUNCE]


class TestOneStreamAtATime:
    def test_a_pause_is_probed_and_an_answer_ends_it(self) -> None:
        drain = drain_of()
        assert steps(drain, (0.0, 3, 0), (0.04, 3, 0), (0.06, 3, 0), (0.1, 3, 0)) == [WAIT, WAIT, PROBE, WAIT]
        assert drain.probe_answered(0.2, 3, 0) is ANNOUNCE
        drain.announced(0.2)
        assert drain.probe_answered(0.3, 3, 0) is WAIT

    @pytest.mark.parametrize(("opened", "running"), [(4, 1), (4, 0)])
    def test_an_answer_after_another_stream_ends_nothing(self, opened: int, running: int) -> None:
        drain = drain_of()
        assert steps(drain, (0.0, 3, 0), (0.06, 3, 0)) == [WAIT, PROBE]
        assert drain.probe_answered(0.1, opened, running) is WAIT

    def test_the_first_request_of_a_connection_is_waited_for(self) -> None:
        drain = drain_of()
        assert steps(drain, (0.0, 0, 0), (0.5, 0, 0), (0.9, 0, 0)) == [WAIT] * 3
        assert steps(drain, (1.0, 0, 0), (1.1, 0, 0)) == [WAIT, PROBE]

    def test_silence_is_an_answer(self) -> None:
        looks = (0.0, 3, 0), (0.06, 3, 0), (0.3, 3, 0), (0.32, 3, 0)
        assert steps(drain_of(), *looks) == [WAIT, PROBE, WAIT, ANNOUNCE]

    def test_another_stream_begins_the_pause_anew(self) -> None:
        looks = (0.0, 3, 0), (0.06, 3, 0), (0.1, 4, 0), (0.12, 4, 0), (0.16, 4, 0)
        assert steps(drain_of(), *looks) == [WAIT, PROBE, WAIT, WAIT, PROBE]

    def test_a_response_takes_the_announcement_along(self) -> None:
        drain = drain_of()
        assert not drain.owes_response
        drain.stream_opens(0.0, is_alone=True)
        assert drain.owes_response
        assert not drain.is_holding
        drain.announced(0.1)
        assert not drain.owes_response
        drain.stream_opens(0.2, is_alone=True)
        assert not drain.owes_response

    def test_a_pause_that_is_late_is_waited_for(self) -> None:
        """Right behind a response, GOAWAY would cross the next request."""
        assert steps(drain_of(), (1.1, 9, 0), (1.2, 9, 0)) == [WAIT, PROBE]


class TestStreamsSideBySide:
    def test_a_moment_without_one_is_waited_for(self) -> None:
        drain = drain_of(is_serial=False, gives_up=False)
        assert not drain.watches_streams
        assert steps(drain, (0.1, 2, 2), (0.6, 2, 1), (0.7, 2, 0)) == [WAIT, WAIT, ANNOUNCE]
        assert not drain.is_holding


class TestAPeerThatGivesUp:
    def test_they_owe_nothing(self) -> None:
        drain = drain_of()
        drain.stream_opens(0.0, is_alone=True)
        drain.stream_opens(0.0, is_alone=False)
        assert not drain.owes_response
        assert drain.watches_streams
        assert steps(drain, (0.1, 2, 2), (0.2, 2, 0)) == [WAIT, PROBE]

    def test_those_that_run_when_the_drain_begins_are_side_by_side_too(self) -> None:
        assert steps(drain_of(), (0.0, 2, 2), (0.1, 2, 0)) == [WAIT, PROBE]

    def test_after_an_answer_the_peer_has_a_moment_to_ask_for_more(self) -> None:
        drain = drain_of(is_serial=False)
        assert steps(drain, (0.0, 9, 0)) == [PROBE]
        assert drain.is_holding
        drain.stream_opens(0.01, is_alone=True)
        assert drain.probe_answered(0.02, 10, 0) is WAIT
        assert steps(drain, (0.06, 10, 0)) == [WAIT]
        drain.stream_opens(0.06, is_alone=True)
        assert steps(drain, (0.1, 11, 0), (0.12, 11, 0)) == [WAIT, ANNOUNCE]
        drain.announced(0.12)
        assert not drain.is_holding

    def test_a_peer_that_goes_on_asking_is_not_waited_for_forever(self) -> None:
        drain = drain_of(is_serial=False)
        assert steps(drain, (0.0, 9, 0)) == [PROBE]
        drain.probe_answered(0.01, 9, 0)
        for hundredth in range(1, 40):
            drain.stream_opens(hundredth / 100, is_alone=True)
        assert steps(drain, (0.39, 48, 0), (0.41, 48, 0)) == [WAIT, ANNOUNCE]

    def test_a_peer_that_does_not_answer_is_not_waited_for_forever(self) -> None:
        assert steps(drain_of(is_serial=False), (0.0, 9, 0), (0.3, 9, 0), (0.41, 9, 0)) == [
            PROBE,
            WAIT,
            ANNOUNCE,
        ]

    def test_a_moment_without_one_is_made(self) -> None:
        drain = drain_of(is_serial=False)
        assert steps(drain, (0.4, 9, 3)) == [WAIT]
        assert not drain.is_holding
        assert steps(drain, (0.5, 9, 3)) == [WAIT]
        assert drain.is_holding
        assert steps(drain, (0.55, 9, 1), (0.56, 9, 0)) == [WAIT, PROBE]
        assert drain.probe_answered(0.57, 9, 0) is WAIT
        assert steps(drain, (0.65, 9, 0)) == [ANNOUNCE]

    def test_where_streams_take_long_no_moment_is_made(self) -> None:
        drain = drain_of(is_serial=False)
        assert steps(drain, (0.5, 9, 3), (0.55, 9, 3), (0.61, 9, 3)) == [WAIT, WAIT, RELEASE]
        assert not drain.is_holding
        assert steps(drain, (0.65, 9, 3), (0.7, 9, 0)) == [WAIT, PROBE]
