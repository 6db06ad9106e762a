import os
from bisect import bisect_left
from dataclasses import replace
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.ipc import scoreboard
from asgi_master.ipc.counters import BUCKET_COUNT, DURATION_BOUNDS, GROWING, Field, Stats
from asgi_master.ipc.scoreboard import RowState, Scoreboard, layout, understands


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


def ready(board, connections, beat):
    row = board.allocate()
    row[Field.STATE] = RowState.READY
    row[Field.CONNECTIONS] = connections
    row[Field.HEARTBEAT_NS] = beat
    return row


def test_what_one_process_writes_another_reads(board):
    row = board.allocate()
    pid = os.fork()
    if pid == 0:
        try:
            with_roster = board.roster_for_reading()
            Scoreboard(board.fd, with_roster).row(row.index).write(Stats(requests=42))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert row.read() == Stats(requests=42)


def test_rows_do_not_touch_each_other(board):
    first, second = board.allocate(), board.allocate()
    for field in Field:
        first[field] = 7
    assert [second[field] for field in Field] == [RowState.BOOTING] + [0] * (len(Field) - 1)


def test_a_cleared_row_is_given_out_again(board):
    row = board.allocate()
    row.write(Stats(requests=9))
    board.release(row)
    again = board.allocate()
    assert again.index == row.index
    assert again.read() == Stats()


def test_there_is_an_end_to_the_rows(board):
    for _ in range(Scoreboard.CAPACITY):
        board.allocate()
    with pytest.raises(RuntimeError, match="more than"):
        board.allocate()


FULL = Stats(
    connections=1,
    websockets=2,
    in_flight=3,
    accepted=4,
    requests=5,
    responses=[0, 6, 7, 8, 9, 10],
    application_errors=11,
    late_errors=12,
    tls_failures=13,
    short_responses=14,
    long_responses=[0, *range(15, 14 + BUCKET_COUNT)],
    response_time=0.5,
    streams=30,
    stream_time=1.5,
    websockets_ended=31,
    websocket_time=2.5,
)


def test_numbers_touch_no_other_word_and_no_other_row(board):
    first, second = board.allocate(), board.allocate()
    first.write(FULL)
    assert first.read() == FULL
    assert FULL.buckets == list(range(14, 14 + BUCKET_COUNT))
    assert second.read() == Stats()
    assert [first[field] for field in Field if field != Field.CONNECTIONS] == [RowState.BOOTING, 0, 0, 0]


def test_words_keep_their_places():
    """Masters and workers can be of different versions."""
    earlier = {
        "STATE": 0,
        "HEARTBEAT_NS": 4,
        "CONNECTIONS": 5,
        "WEBSOCKETS": 6,
        "IN_FLIGHT": 7,
        "ACCEPTED": 8,
        "REQUESTS": 9,
        "RESPONSES_1XX": 10,
        "RESPONSES_2XX": 11,
        "RESPONSES_3XX": 12,
        "RESPONSES_4XX": 13,
        "RESPONSES_5XX": 14,
        "APPLICATION_ERRORS": 15,
        "LOOP_LAG_NS": 16,
        "RESPONSE_TIME_NS": 17,
        "STREAMS": 18,
        "STREAM_TIME_NS": 19,
        "WEBSOCKETS_ENDED": 20,
        "WEBSOCKET_TIME_NS": 21,
        "LATE_ERRORS": 22,
        "TLS_FAILURES": 23,
        "PROGRESS_NS": 24,
    }
    assert earlier.items() <= layout()["fields"].items()
    assert dict(FULL.words())[32 + BUCKET_COUNT - 1] == FULL.long_responses[-1]


def test_the_bounds_rise():
    assert list(DURATION_BOUNDS) == sorted(set(DURATION_BOUNDS))
    assert (DURATION_BOUNDS[0], DURATION_BOUNDS[-1]) == (0.001, 60.0)


class TestTotals:
    def fill(self, board, times):
        row = board.allocate()
        row.write(self.multiple(times, connections=5))
        return row

    def multiple(self, times, connections=0):
        return Stats(
            connections=connections,
            accepted=times,
            requests=2 * times,
            responses=[0, 0, 2 * times, 0, 0, times],
            long_responses=[0] * (BUCKET_COUNT - 1) + [times],
            stream_time=times / 4,
            tls_failures=3 * times,
        )

    def assert_totals(self, board, times):
        assert board.totals() == self.multiple(times)

    def test_no_worker_yet(self, board):
        self.assert_totals(board, 0)

    def test_of_all_who_live(self, board):
        self.fill(board, 1)
        self.fill(board, 10)
        self.assert_totals(board, 11)

    def test_of_those_who_are_gone(self, board):
        self.fill(board, 1)
        gone = self.fill(board, 10)
        board.release(gone)
        self.assert_totals(board, 11)
        self.fill(board, 100)
        self.assert_totals(board, 111)

    def test_a_freed_row_is_empty(self, board):
        row = self.fill(board, 1)
        board.release(row)
        assert [row[field] for field in Field] == [0] * len(Field)
        assert row.read() == Stats()

    def test_the_last_row_counts(self, board):
        rows = [board.allocate() for _ in range(Scoreboard.CAPACITY)]
        rows[-1].write(Stats(requests=3))
        assert board.totals() == Stats(requests=3)

    def test_another_program_goes_on_with_them(self, board):
        board.release(self.fill(board, 1))
        lives = self.fill(board, 10)
        successor = Scoreboard.restore(
            os.dup(board.fd), os.dup(board.roster_fd), board.counts_of_gone, layout()
        )
        assert successor.claim(lives.index).read() == lives.read()
        self.assert_totals(successor, 11)
        assert successor.allocate().index != lives.index
        successor.close()

    def test_another_program_that_knows_fewer_counters(self, board):
        board.release(self.fill(board, 1))
        theirs = layout()
        word = theirs["fields"].pop("TLS_FAILURES")
        gone = board.counts_of_gone
        del gone[GROWING.index(word)]
        successor = Scoreboard.restore(os.dup(board.fd), os.dup(board.roster_fd), gone, theirs)
        assert successor.totals() == replace(self.multiple(1), tls_failures=0)
        successor.close()


class TestLeastConnections:
    def test_of_the_others(self, board):
        mine = ready(board, connections=0, beat=100)
        ready(board, connections=5, beat=100)
        ready(board, connections=3, beat=100)
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) == 3

    def test_stale_rows_do_not_count(self, board):
        mine = ready(board, connections=9, beat=100)
        ready(board, connections=0, beat=10)
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) is None

    def test_only_ready_rows_count(self, board):
        mine = ready(board, connections=9, beat=100)
        ready(board, connections=0, beat=100)[Field.STATE] = RowState.DRAINING
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) is None


WORDS = st.sampled_from([0, 1, 2, -1, 2**40, 2**52, 2**62, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)


class TestWhatOthersWrote:
    """A process that has the board can write anything anywhere in its rows."""

    def spoil(self, board, word):
        """Every word of every row, that of the header included."""
        words = memoryview(board._map).cast("q")
        words[:] = memoryview(bytes(8 * len(words))).cast("q")
        if word:
            for index in range(16 * 64):
                words[index] = word
        words.release()

    @given(word=WORDS)
    def test_no_word_is_believed_out_of_bounds(self, word):
        board = Scoreboard.create()
        try:
            first, second = board.allocate(), board.allocate()
            self.spoil(board, word)
            for row in (first, second):
                for field in Field:
                    assert 0 <= row[field] <= 2**62
                assert row[Field.STATE] in set(RowState)
                assert all(0 <= count <= 2**62 for _, count in row.read().words())
                assert all(0 <= count <= 2**52 for count in row.read().buckets)
                assert row.heartbeat(12.5) is None or 0 < row.heartbeat(12.5) <= 12.5
            assert all(0 <= count < 2**63 for _, count in board.totals().words())
            board.release(first)
            board.release(second)
            assert board.allocate().index == 1
            assert all(0 <= count < 2**63 for _, count in board.totals().words())
        finally:
            board.close()

    @given(word=WORDS)
    def test_siblings_judge_by_the_rows_that_are_taken(self, word):
        board = Scoreboard.create()
        reader = Scoreboard(os.dup(board.fd), board.roster_for_reading())
        try:
            mine, _other = board.allocate(), board.allocate()
            self.spoil(board, word)
            least = reader.least_connections(apart_from=mine.index, fresh_after_ns=-1)
            assert least is None or 0 <= least <= 2**52
        finally:
            reader.close()
            board.close()

    def test_the_header_says_nothing(self, board):
        mine = ready(board, connections=0, beat=100)
        ready(board, connections=4, beat=100)
        self_words = memoryview(board._map).cast("q")
        self_words[0] = 2**40
        self_words.release()
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) == 4

    def test_who_says_that_it_is_ready_without_a_row_is_not_seen(self, board):
        mine = ready(board, connections=9, beat=100)
        free = board.row(7)
        free[Field.STATE], free[Field.HEARTBEAT_NS] = RowState.READY, 100
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) is None

    def test_workers_cannot_write_to_the_roster(self, board):
        reader = Scoreboard(os.dup(board.fd), board.roster_for_reading())
        with pytest.raises(TypeError):
            reader._roster[0] = 3
        with pytest.raises(OSError, match="Bad file"):
            os.pwrite(reader.roster_fd, b"1", 0)
        reader.close()

    def test_a_reopened_roster_misleads_no_worker(self, board):
        """Where the master is the same user as its workers, they can."""
        mine = ready(board, connections=9, beat=100)
        board._roster[0] = 2**40
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) is None
        board._roster[0] = -5
        assert board.least_connections(apart_from=mine.index, fresh_after_ns=50) is None
        assert board.allocate().index == 2

    def test_totals_do_not_go_back(self, board):
        row = board.allocate()
        row.write(Stats(requests=50))
        assert board.totals().requests == 50
        row.write(Stats(requests=20))
        assert board.totals().requests == 50
        board.release(row)
        assert board.totals().requests == 50


def test_a_scoreboard_may_gain_fields_but_not_move_them() -> None:
    ours = layout()
    assert understands(ours)
    known = dict(ours["fields"])
    known.pop("APPLICATION_ERRORS")
    assert understands({**ours, "fields": known})
    assert not understands({**ours, "fields": {**known, "APPLICATION_ERRORS": 31}})
    assert not understands({**ours, "fields": {**ours["fields"], "NOVELTY": 31}})
    assert not understands({**ours, "rows": 1})
    without_roster = {**ours, "words": 64}
    assert not understands(without_roster), "an older program has none, nor would it go on with ours"


def test_progress_is_never_ahead_of_the_clock(board: Scoreboard) -> None:
    row = board.allocate()
    assert row.progress(5.0) == 0.0
    row[Field.PROGRESS_NS] = 3_000_000_000
    assert row.progress(5.0) == 3.0
    assert row.progress(2.0) == 2.0


def test_without_proc_the_roster_is_the_same_descriptor(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_fd: int) -> NoReturn:
        raise FileNotFoundError

    monkeypatch.setattr(scoreboard, "for_reading", nowhere)
    fd = board.roster_for_reading()
    assert os.fstat(fd).st_ino == os.fstat(board.roster_fd).st_ino
    os.close(fd)


def test_what_ended_is_counted_by_its_kind() -> None:
    stats = Stats()
    stats.response_ended(0.3, is_stream=False)
    stats.response_ended(2.0, is_stream=True)
    stats.websocket_ended(4.0)
    assert (stats.response_time, stats.streams, stats.stream_time) == (0.3, 1, 2.0)
    assert stats.buckets[bisect_left(DURATION_BOUNDS, 0.3)] == sum(stats.buckets) == 1
    assert (stats.websockets_ended, stats.websocket_time) == (1, 4.0)
