import socket

import pytest

from asgi_master.ipc.hand_off import HandOff


@pytest.fixture
def queue():
    queue = HandOff.create()
    yield queue
    queue.close()


def test_unread_bytes_travel_with_the_connection(queue):
    client, server = socket.socketpair()
    client.sendall(b"GET / HTTP/1.1\r\n")
    assert queue.put(server)
    server.close()
    (taken,) = queue.take(10)
    assert taken.recv(100) == b"GET / HTTP/1.1\r\n"
    taken.sendall(b"answer")
    assert client.recv(10) == b"answer"
    taken.close()
    client.close()


def test_an_empty_queue_gives_nothing_and_does_not_wait(queue):
    assert list(queue.take(10)) == []


def test_no_more_are_taken_than_asked_for(queue):
    pairs = [socket.socketpair() for _ in range(3)]
    for _client, server in pairs:
        assert queue.put(server)
        server.close()
    taken = list(queue.take(2))
    assert len(taken) == 2
    for connection in [*taken, *(client for client, _server in pairs)]:
        connection.close()


def test_a_full_queue_refuses(queue):
    client, server = socket.socketpair()
    offered = 0
    while queue.put(server):
        offered += 1
        assert offered < 100_000
    assert offered > 0
    client.close()
    server.close()
