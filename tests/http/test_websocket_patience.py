"""How long a WebSocket peer may be silent or not read."""

import math

from asgi_master.http.limits import WebSocketLimits
from asgi_master.http.websocket.keepalive import KeepAlive, Verdict, WriteStall
from asgi_master.http.websocket.peer_watch import Action, PeerWatch


def verdicts(keep_alive: KeepAlive, *steps: tuple[float, bool]) -> list[Verdict]:
    return [keep_alive.judge(now, heard=heard) for now, heard in steps]


class TestKeepAlive:
    def test_a_talkative_peer_is_never_asked(self):
        keep_alive = KeepAlive(interval=20, timeout=20)
        assert verdicts(keep_alive, *((now, True) for now in range(0, 1000, 10))) == [Verdict.WAIT] * 100

    def test_a_silent_peer_is_asked_once_and_given_up(self):
        keep_alive = KeepAlive(interval=20, timeout=10)
        steps = [(0, True), (19, False), (20, False), (29, False), (30, False)]
        assert verdicts(keep_alive, *steps) == [
            Verdict.WAIT,
            Verdict.WAIT,
            Verdict.PING,
            Verdict.WAIT,
            Verdict.GIVE_UP,
        ]

    def test_a_peer_that_answers_is_asked_again_later(self):
        keep_alive = KeepAlive(interval=20, timeout=10)
        steps = [(0, True), (20, False), (29, True), (48, False), (49, False)]
        assert verdicts(keep_alive, *steps) == [
            Verdict.WAIT,
            Verdict.PING,
            Verdict.WAIT,
            Verdict.WAIT,
            Verdict.PING,
        ]

    def test_without_interval_nobody_is_asked(self):
        keep_alive = KeepAlive(interval=0, timeout=10)
        assert verdicts(keep_alive, (0, True), (1e6, False)) == [Verdict.WAIT] * 2

    def test_without_timeout_nobody_is_given_up(self):
        keep_alive = KeepAlive(interval=20, timeout=0)
        assert verdicts(keep_alive, (0, True), (20, False), (1e6, False)) == [
            Verdict.WAIT,
            Verdict.PING,
            Verdict.WAIT,
        ]

    def test_the_next_judgement_is_due_at_the_ping_and_at_its_timeout(self):
        keep_alive = KeepAlive(interval=20, timeout=10)
        keep_alive.judge(5, heard=True)
        assert keep_alive.due == 25
        assert keep_alive.judge(keep_alive.due, heard=False) is Verdict.PING
        assert keep_alive.due == 35
        assert keep_alive.judge(keep_alive.due, heard=False) is Verdict.GIVE_UP

    def test_without_interval_no_judgement_is_due(self):
        keep_alive = KeepAlive(interval=0, timeout=10)
        keep_alive.judge(5, heard=True)
        assert keep_alive.due == math.inf


class TestWriteStall:
    def test_who_takes_nothing(self):
        stall = WriteStall(100, 5000, timeout=30)
        assert [stall.is_over(now, 5000) for now in (101, 129, 130)] == [False, False, True]

    def test_who_takes_little(self):
        stall = WriteStall(100, 5000, timeout=30)
        assert [stall.is_over(now, 5000 - now) for now in range(101, 1000, 29)] == [False] * 31

    def test_who_stops_taking(self):
        stall = WriteStall(100, 5000, timeout=30)
        assert [stall.is_over(now, 4000) for now in (110, 139, 140)] == [False, False, True]

    def test_what_we_add_is_no_progress_of_the_peer(self):
        stall = WriteStall(100, 5000, timeout=30)
        assert [stall.is_over(now, 5000 + now) for now in (110, 129, 130)] == [False, False, True]

    def test_without_timeout(self):
        assert not WriteStall(0, 1, timeout=0).is_over(1e6, 1)


class TestPeerWatch:
    LIMITS = WebSocketLimits(ping_interval=20, ping_timeout=10, write_timeout=5, close_timeout=3)

    def judge(self, watch, now, unsent=0, *, heard=False, is_open=True):
        return watch.judge(now, unsent, was_heard=heard, is_open=is_open)

    def test_silence_is_followed_by_a_ping_and_a_close(self):
        watch = PeerWatch(self.LIMITS)
        actions = [self.judge(watch, now, heard=now == 0) for now in (0, 10, 20, 25, 30)]
        assert actions == [Action.NOTHING, Action.NOTHING, Action.PING, Action.NOTHING, Action.CLOSE]

    def test_a_peer_that_may_be_silent_is_judged_when_that_ends(self):
        watch = PeerWatch(self.LIMITS)
        self.judge(watch, 7, heard=True)
        assert watch.due == 27

    def test_what_waits_for_a_peer_must_get_less(self):
        watch = PeerWatch(self.LIMITS)
        watch.writing_paused(0, 100)
        assert watch.due == 0
        actions = [self.judge(watch, *looks) for looks in ((4, 99), (8, 99), (9, 99))]
        assert actions == [Action.NOTHING, Action.NOTHING, Action.ABORT]

    def test_a_peer_that_reads_again_is_judged_by_what_it_says(self):
        watch = PeerWatch(self.LIMITS)
        watch.writing_paused(0, 100)
        watch.writing_resumed(4)
        assert self.judge(watch, 9, heard=True) is Action.NOTHING
        assert watch.due == 29

    def test_a_close_is_answered_in_time(self):
        watch = PeerWatch(self.LIMITS)
        watch.close_expected(10)
        assert watch.due == 0
        assert self.judge(watch, 12, is_open=False) is Action.NOTHING
        assert self.judge(watch, 13, is_open=False) is Action.ABORT

    def test_time_to_close_begins_anew_once_the_peer_has_read(self):
        watch = PeerWatch(self.LIMITS)
        watch.close_expected(10)
        watch.writing_paused(11, 100)
        assert self.judge(watch, 14, is_open=False) is Action.NOTHING
        watch.writing_resumed(14)
        assert self.judge(watch, 16, is_open=False) is Action.NOTHING
        assert self.judge(watch, 17, is_open=False) is Action.ABORT
