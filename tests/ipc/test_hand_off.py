import errno
import os
import select
import socket
import struct
from pathlib import Path

import pytest

from asgi_master import faults
from asgi_master.ipc import descriptors
from asgi_master.ipc.hand_off import LARGE_METADATA, HandOff, Outcome, PutEnd
from descriptor_limit import no_descriptor_left


@pytest.fixture
def queue():
    queue = HandOff.create()
    yield queue
    queue.close()


def test_unread_bytes_travel_with_the_connection(queue):
    client, server = socket.socketpair()
    client.sendall(b"GET / HTTP/1.1\r\n")
    assert queue.put(server, b"")
    server.close()
    (taken,) = queue.take(10)
    assert (taken.metadata, taken.is_tls) == (b"", False)
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
        assert queue.put(server, b"")
        server.close()
    taken = [taken.connection for taken in queue.take(2)]
    assert len(taken) == 2
    for connection in [*taken, *(client for client, _server in pairs)]:
        connection.close()


def test_a_full_queue_refuses(queue):
    client, server = socket.socketpair()
    offered = 0
    while queue.put(server, b""):
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
        assert taken.metadata == expected * 200
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
    assert (taken.metadata, taken.is_tls) == (None, is_tls)
    taken.connection.close()


def test_what_there_is_no_descriptor_for_stays_in_the_queue(queue):
    client, server = socket.socketpair()
    with client:
        assert queue.put(server, b"")
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


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def give(queue, data, fd):
    with socket.socket(fileno=os.dup(queue.fds[0])) as end:
        socket.send_fds(end, [data], [fd])


def things():
    """Descriptors of what is no connection, each closed by the caller."""
    yield from os.pipe()
    yield os.open("/", os.O_RDONLY)
    yield os.open("/dev/zero", os.O_RDWR)
    yield os.memfd_create("thing")
    with select.epoll() as epoll:
        yield os.dup(epoll.fileno())
    yield socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
    yield socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    yield socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach()
    yield socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach()
    yield socket.socket().detach()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    yield listening.detach()


def test_what_is_no_connection_is_closed_and_nobody_waits_for_it(queue):
    given = list(things())
    before = open_descriptors()
    for fd in given:
        for data in (b"c", b"n", b"t", b"c{}", b"x", b""):
            give(queue, data, fd)
        os.close(fd)
    client, server = socket.socketpair()
    assert queue.put(server, b"")
    server.close()
    taken = []
    while not taken:
        taken += queue.take(4)
    assert taken[0].connection.family == socket.AF_UNIX
    assert queue.refused >= 40
    for connection in (client, taken[0].connection):
        connection.close()
    assert open_descriptors() == before - len(given)


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
@pytest.mark.parametrize("end", [0, 1])
def test_whoever_shut_it_down_is_found_out(queue, end, how):
    assert not queue.is_shut_down
    with socket.socket(fileno=os.dup(queue.fds[end])) as shut:
        shut.shutdown(how)
    assert queue.is_shut_down


def test_what_was_in_a_queue_that_was_shut_down_can_be_taken(queue):
    client, server = socket.socketpair()
    queue.put(server, b"")
    server.close()
    with socket.socket(fileno=os.dup(queue.fds[0])) as end:
        end.shutdown(socket.SHUT_RDWR)
    (taken,) = queue.take(10)
    assert queue.is_over
    assert list(queue.take(10)) == []
    taken.connection.close()
    client.close()


def test_a_queue_becomes_another(queue):
    with socket.socket(fileno=os.dup(queue.fds[0])) as end:
        end.shutdown(socket.SHUT_RDWR)
    assert list(queue.take(1)) == []
    queue.become(HandOff.create()).close()
    assert not queue.is_over
    assert not queue.is_shut_down
    client, server = socket.socketpair()
    assert queue.put(server, b"")
    (taken,) = queue.take(10)
    for connection in (client, server, taken.connection):
        connection.close()


def test_nobody_waits_whatever_others_made_of_it(queue):
    """Whether a socket waits is the same for all who have it."""
    client, server = socket.socketpair()
    for fd in queue.fds:
        os.set_blocking(fd, True)
    assert list(queue.take(10)) == []
    while queue.put(server, b""):
        pass
    client.close()
    server.close()


def test_who_takes_one_does_not_wait_when_it_closes_it(queue):
    client, server = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        lingering = socket.create_connection(listening.getsockname())
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 15))
        assert queue.put(lingering, b"")
        lingering.close()
        (taken,) = queue.take(1)
        linger = taken.connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger)[0] == 0
        taken.connection.close()
    client.close()
    server.close()


def test_the_ends_are_passed_on_as_descriptors(queue: HandOff) -> None:
    another = HandOff.of_fds(*map(os.dup, queue.fds))
    client, server = socket.socketpair()
    with client, server:
        assert queue.put(server, b"note")
    (taken,) = another.take(1)
    assert taken.metadata == b"note"
    taken.connection.close()
    another.close()


def test_a_process_that_exits_closes_nothing_itself(queue: HandOff) -> None:
    another = HandOff.of_fds(*map(os.dup, queue.fds))
    fds = another.fds
    another.leave_to_exit()
    for fd in fds:
        os.close(fd)  # it was open


def test_a_connection_that_cannot_be_offered_stays(queue: HandOff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_fault", faults.parse("raise@before_hand_off"))
    client, server = socket.socketpair()
    with client, server:
        assert not queue.put(server, b"")
    assert list(queue.take(1)) == []


def test_what_comes_with_a_datagram_beside_descriptors_is_passed_over() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        assert descriptors.name_senders(there)
        descriptors.send(here, b"named", [here.fileno()])
        data, (fd,) = descriptors.receive(there, 100, 10)
        assert data == b"named"
        descriptors.close(fd)
        descriptors.close(fd)  # twice: nothing to tell


def test_a_descriptor_is_no_sender() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
        socket.send_fds(here, [b"x"], [here.fileno()])
        assert descriptors.receive_named(there, 100) == (b"x", 0)
        for name in {entry.name for entry in Path("/proc/self/fd").iterdir()} - before:
            descriptors.close(int(name))
    assert not descriptors.name_senders(there)


class TestPutEnd:
    """The queue of one worker, which others only put into."""

    def test_what_is_put_there_is_taken_with_much_metadata(self):
        queue = HandOff(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), LARGE_METADATA)
        put_end = PutEnd(os.dup(queue.fds[0]))
        client, server = socket.socketpair()
        assert put_end.put(server, b"x" * LARGE_METADATA) is Outcome.SENT
        server.close()
        (taken,) = queue.take(10)
        assert taken.metadata == b"x" * LARGE_METADATA
        taken.connection.close()
        client.close()
        put_end.close()
        queue.close()

    def test_a_full_queue_and_one_that_ended(self, queue):
        put_end = PutEnd(os.dup(queue.fds[0]))
        client, server = socket.socketpair()
        put = 0
        while (outcome := put_end.put(server, b"")) is Outcome.SENT:
            put += 1
        assert outcome is Outcome.FULL
        queue.end()
        assert put_end.put(server, b"") is Outcome.OVER
        # What was there can be taken, and then it is over.
        taken = list(queue.take(1 << 16))
        assert (len(taken), queue.is_over) == (put, True)
        queue.end()
        for each in taken:
            each.connection.close()
        client.close()
        server.close()
        put_end.close()
        assert put_end.put(client, b"") is Outcome.OVER

    def test_both_ends_by_their_descriptors(self, queue):
        again = HandOff.of_fds(*map(os.dup, queue.fds), LARGE_METADATA)
        assert list(again.take(1)) == []
        again.close()
