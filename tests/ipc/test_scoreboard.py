import os

import pytest

from asgi_master.ipc.scoreboard import (
    BUCKET_COUNT,
    COUNTERS,
    DURATION_BOUNDS,
    Field,
    RowState,
    Scoreboard,
)


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
        Scoreboard(board.fd).row(row.index)[Field.REQUESTS] = 42
        os._exit(0)
    os.waitpid(pid, 0)
    assert row[Field.REQUESTS] == 42


def test_rows_do_not_touch_each_other(board):
    first, second = board.allocate(), board.allocate()
    for field in Field:
        first[field] = 7
    assert [second[field] for field in Field] == [RowState.BOOTING] + [0] * (len(Field) - 1)


def test_a_cleared_row_is_given_out_again(board):
    row = board.allocate()
    row[Field.REQUESTS] = 9
    row.clear()
    again = board.allocate()
    assert again.index == row.index
    assert again[Field.REQUESTS] == 0


def test_there_is_an_end_to_the_rows(board):
    for _ in range(Scoreboard.CAPACITY):
        board.allocate()
    with pytest.raises(RuntimeError, match="more than"):
        board.allocate()


def test_buckets_do_not_touch_the_fields_or_the_next_row(board):
    first, second = board.allocate(), board.allocate()
    first.write_buckets(range(1, BUCKET_COUNT + 1))
    assert first.buckets == list(range(1, BUCKET_COUNT + 1))
    assert second.buckets == [0] * BUCKET_COUNT
    assert [first[field] for field in Field] == [RowState.BOOTING] + [0] * (len(Field) - 1)


def test_the_bounds_rise():
    assert list(DURATION_BOUNDS) == sorted(set(DURATION_BOUNDS))
    assert (DURATION_BOUNDS[0], DURATION_BOUNDS[-1]) == (0.001, 60.0)


class TestTotals:
    def fill(self, board, times):
        row = board.allocate()
        for field in COUNTERS:
            row[field] = times * field
        row.write_buckets([times * number for number in range(BUCKET_COUNT)])
        row[Field.CONNECTIONS] = 5
        return row

    def assert_totals(self, board, times):
        counters, buckets = board.totals()
        assert counters == {field: times * field for field in COUNTERS}
        assert buckets == [times * number for number in range(BUCKET_COUNT)]

    def test_nobody_yet(self, board):
        self.assert_totals(board, 0)

    def test_of_all_who_live(self, board):
        self.fill(board, 1)
        self.fill(board, 10)
        self.assert_totals(board, 11)

    def test_of_those_who_are_gone(self, board):
        self.fill(board, 1)
        gone = self.fill(board, 10)
        gone.clear()
        self.assert_totals(board, 11)
        self.fill(board, 100)
        self.assert_totals(board, 111)

    def test_a_freed_row_is_empty(self, board):
        row = self.fill(board, 1)
        row.clear()
        assert [row[field] for field in Field] == [0] * len(Field)
        assert row.buckets == [0] * BUCKET_COUNT

    def test_the_last_row_counts(self, board):
        rows = [board.allocate() for _ in range(Scoreboard.CAPACITY)]
        rows[-1][Field.REQUESTS] = 3
        assert board.totals()[0][Field.REQUESTS] == 3

    def test_another_program_goes_on_with_them(self, board):
        self.fill(board, 1).clear()
        successor = Scoreboard(os.dup(board.fd))
        self.assert_totals(successor, 1)
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
