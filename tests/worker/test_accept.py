"""To whom a waiting connection is left, and for how long."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.scoreboard import Field, Row, RowState, Scoreboard
from asgi_master.worker.accept import Acceptor
from asgi_master.worker.context import Stats
from fleet import wait_until


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def sibling(board: Scoreboard) -> Row:
    """Ready, with a fresh heartbeat and no connection."""
    row = board.allocate()
    row[Field.STATE] = RowState.READY
    stir(row)
    return row


@pytest.fixture
def acceptor(board: Scoreboard, sibling: Row) -> Iterator[Acceptor]:
    """Of a worker that has clearly more."""
    context = cast("Any", SimpleNamespace(loop=None, stats=Stats(connections=5)))
    hand_off = HandOff.create()
    yield Acceptor(context, [], hand_off, board, board.allocate(), max_connections=0)
    hand_off.close()


def stir(row: Row) -> None:
    row[Field.HEARTBEAT_NS] = time.monotonic_ns()


def test_a_connection_is_left_to_who_has_fewer(acceptor: Acceptor, sibling: Row) -> None:
    assert acceptor._defers()
    sibling[Field.CONNECTIONS] = 4
    assert not acceptor._defers()


def waits(acceptor: Acceptor) -> float:
    """For how many seconds a connection is left waiting."""
    began = time.monotonic()
    wait_until(lambda: not acceptor._defers(), "it does not wait for ever")
    return time.monotonic() - began


def test_after_one_that_waited_some_are_taken_at_once(acceptor: Acceptor) -> None:
    assert waits(acceptor) >= 0.005
    for _ in range(3):
        assert not acceptor._defers()
    assert acceptor._defers()


def test_a_sibling_that_does_not_stir_is_hardly_waited_for_again(acceptor: Acceptor, sibling: Row) -> None:
    waits(acceptor)
    for _ in range(3):
        assert not acceptor._defers()
    assert acceptor._defers()
    time.sleep(0.001)  # the time that is asserted: longer than it may take now, shorter than at first
    assert not acceptor._defers()
    for _ in range(3):
        assert not acceptor._defers()
    assert acceptor._defers()
    stir(sibling)
    assert waits(acceptor) >= 0.004, "until it shows that it lives"


def test_who_judges_shows_that_it_lives(acceptor: Acceptor, board: Scoreboard) -> None:
    before = time.monotonic_ns()
    acceptor._defers()
    assert board.row(2)[Field.HEARTBEAT_NS] >= before
    assert board.row(2)[Field.CONNECTIONS] == 5


def test_nobody_alive_is_nobody_to_wait_for(acceptor: Acceptor, sibling: Row) -> None:
    sibling[Field.HEARTBEAT_NS] = 1
    assert not acceptor._defers()
