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
    ((taken, note),) = queue.take(10)
    assert note == b""
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
    taken = [connection for connection, _note in queue.take(2)]
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


def test_a_note_travels_with_its_connection(queue):
    pairs = [socket.socketpair() for _ in range(2)]
    for number, (_client, server) in enumerate(pairs):
        assert queue.put(server, b"%d" % number * 200)
        server.close()
    for (taken, note), (client, _server), expected in zip(queue.take(2), pairs, (b"0", b"1"), strict=True):
        assert note == expected * 200
        client.sendall(expected)
        assert taken.recv(1) == expected
        taken.close()
        client.close()
