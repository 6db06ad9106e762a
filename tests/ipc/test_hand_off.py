import errno
import os
import socket

import pytest

from asgi_master.ipc import descriptors
from asgi_master.ipc.hand_off import HandOff
from descriptor_limit import no_descriptor_left


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
    assert (taken.note, taken.is_tls) == (b"", False)
    assert taken.connection.recv(100) == b"GET / HTTP/1.1\r\n"
    taken.connection.sendall(b"answer")
    assert client.recv(10) == b"answer"
    taken.connection.close()
    client.close()


def test_an_empty_queue_gives_nothing_and_does_not_wait(queue):
    assert list(queue.take(10)) == []


def test_no_more_are_taken_than_asked_for(queue):
    pairs = [socket.socketpair() for _ in range(3)]
    for _client, server in pairs:
        assert queue.put(server)
        server.close()
    taken = [taken.connection for taken in queue.take(2)]
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
    for taken, (client, _server), expected in zip(queue.take(2), pairs, (b"0", b"1"), strict=True):
        assert taken.note == expected * 200
        client.sendall(expected)
        assert taken.connection.recv(1) == expected
        taken.connection.close()
        client.close()


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_new_one_says_whether_it_begins_with_tls(queue, is_tls):
    client, server = socket.socketpair()
    with client, server:
        assert queue.put_new(server, is_tls=is_tls)
    (taken,) = queue.take(10)
    assert (taken.note, taken.is_tls) == (None, is_tls)
    taken.connection.close()


def test_what_there_is_no_descriptor_for_stays_in_the_queue(queue):
    client, server = socket.socketpair()
    with client:
        assert queue.put(server)
        server.close()
        with no_descriptor_left() as held:
            with pytest.raises(OSError) as caught:
                list(queue.take(10))
            assert caught.value.errno == errno.EMFILE
            os.close(held.pop())
            (taken,) = queue.take(1)
        taken.connection.sendall(b"still there")
        assert client.recv(100) == b"still there"
        taken.connection.close()


def test_a_descriptor_that_is_lost_is_told(caplog):
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        socket.send_fds(here, [b"with one"], [here.fileno()])
        with no_descriptor_left():
            assert descriptors.receive(there, 100, 1) == (b"with one", [])
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "RLIMIT_NOFILE" in record.getMessage()
