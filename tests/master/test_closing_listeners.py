"""What waits in the queue of a bind that is taken away."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from asgi_master.ipc.hand_off import HandOff
from asgi_master.master.closing_listeners import ClosingListeners
from asgi_master.master.listeners import Listeners
from asgi_master.master.open_listener import Listener
from asgi_master.master.running_settings import RunningSettings
from asgi_master.settings.model import Settings, SocketSettings


@pytest.fixture
def hand_off() -> Iterator[HandOff]:
    hand_off = HandOff.create()
    yield hand_off
    hand_off.close()


@pytest.fixture
def removed(hand_off: HandOff) -> Iterator[ClosingListeners]:
    removed = ClosingListeners(RunningSettings(Settings()), Listeners(), hand_off)
    yield removed
    removed.close()


def listening(bind: str = "127.0.0.1:0") -> Listener:
    (listener,) = Listeners().open(SocketSettings(bind=(bind,)))
    return listener


def connect(listener: Listener) -> socket.socket:
    return socket.create_connection(listener.sock.getsockname(), 5)


def test_who_waits_is_given_away_as_new_and_then_it_closes(
    hand_off: HandOff, removed: ClosingListeners
) -> None:
    listener = listening()
    with connect(listener) as client:
        client.sendall(b"said early")
        removed.add(listener)
        assert listener.sock.fileno() == -1
        (taken,) = hand_off.take(10)
        with taken.connection:
            assert (taken.metadata, taken.is_tls) == (None, False)
            assert taken.connection.recv(100) == b"said early"


def test_the_receiver_knows_of_tls(hand_off: HandOff, removed: ClosingListeners) -> None:
    listener = listening("https://127.0.0.1:0")
    with connect(listener):
        removed.add(listener)
        (taken,) = hand_off.take(10)
        with taken.connection:
            assert (taken.metadata, taken.is_tls) == (None, True)


def test_what_the_full_queue_does_not_take_waits_for_the_next_turn(
    hand_off: HandOff, removed: ClosingListeners
) -> None:
    listener = listening()
    filler, other = socket.socketpair()
    with filler, other, connect(listener) as client:
        filled = 0
        while hand_off.put(filler, b""):
            filled += 1
        removed.add(listener)
        assert listener.sock.fileno() >= 0, "it stays open as long as somebody waits"
        for taken in hand_off.take(filled):
            taken.connection.close()
        removed.sweep()
        assert listener.sock.fileno() == -1
        (taken,) = hand_off.take(10)
        with taken.connection:
            assert taken.metadata is None
            assert taken.connection.getpeername() == client.getsockname()


def test_a_blocking_listener_does_not_block_the_master(hand_off: HandOff, removed: ClosingListeners) -> None:
    """Whether a socket waits is the same for all who have it."""
    listener = listening()
    with listener.sock.dup() as workers, connect(listener):
        os.set_blocking(workers.fileno(), True)
        removed.add(listener)
        assert removed.is_done
        (taken,) = hand_off.take(10)
        taken.connection.close()


def test_a_connection_that_inherited_a_linger_is_closed_at_once(
    hand_off: HandOff, removed: ClosingListeners
) -> None:
    listener = listening()
    listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 900))
    with connect(listener):
        removed.add(listener)
        (taken,) = hand_off.take(10)
        with taken.connection:
            linger = taken.connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
            assert struct.unpack("ii", linger)[0] == 0
