import os

import pytest

from asgi_master.ipc.scoreboard import Field, RowState, Scoreboard


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
