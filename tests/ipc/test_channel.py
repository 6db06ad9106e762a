import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import BecameReady, Boot, Drain, Fork, Forked, decode, encode


@pytest.fixture
def pair():
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_arrives_as_it_was_sent(pair):
    ours, theirs = pair
    assert ours.send(Drain(2.5, hand_off=True))
    assert theirs.receive().message == Drain(2.5, hand_off=True)


def test_descriptors_ride_along_and_are_closed_on_exec(pair):
    ours, theirs = pair
    read, write = os.pipe()
    ours.send(Fork(worker=1, slot=0, row=1), (write,))
    os.close(write)
    received = theirs.receive()
    (fd,) = received.fds
    os.write(fd, b"through")
    assert os.read(read, 10) == b"through"
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(read)


def test_end_of_file_is_none(pair):
    ours, theirs = pair
    ours.close()
    assert theirs.receive() is None


def test_what_was_said_before_the_end_is_still_heard(pair):
    ours, theirs = pair
    ours.send(BecameReady())
    ours.close()
    assert theirs.receive().message == BecameReady()
    assert theirs.receive() is None


def test_sending_to_the_dead_is_told_not_raised(pair):
    ours, theirs = pair
    theirs.close()
    assert not ours.send(BecameReady())


def test_sending_on_a_closed_end_is_told_not_raised(pair):
    ours, _theirs = pair
    ours.close()
    assert not ours.send(BecameReady())


def test_a_full_queue_is_told_not_waited_for(pair):
    ours, _theirs = pair
    ours.setblocking(False)
    sent = 0
    while ours.send(Forked(1)):
        sent += 1
        assert sent < 100_000
    assert sent > 0


def test_the_largest_settings_fit(pair):
    ours, theirs = pair
    boot = Boot(1, "/srv", {"headers": ["x" * 1000] * 150})
    assert ours.send(boot)
    assert theirs.receive().message == boot


def test_words_of_a_newer_version_are_ignored_and_missing_ones_take_their_defaults():
    assert decode(b'["ApplicationImported", {"colour": "blue"}]').hazards == []


@pytest.mark.parametrize(
    "datagram",
    [
        b'["Sing", {}]',
        b"5",
        b"[]",
        b'["Forked"]',
        b'["Forked", {}]',
        b'["Forked", 3]',
        b'["Forked", {"pid": "1"}]',
        b'["Forked", {"pid": true}]',
        b'[["Forked"], {"pid": 1}]',
        b'["Drain", {"timeout": "long", "hand_off": true}]',
        b'["TasksTold", {"number": 1, "groups": {}}]',
        b"\xff\x00",
        b"[" * 100_000,
    ],
)
def test_what_no_version_says_is_refused(datagram):
    with pytest.raises(ValueError):
        decode(datagram)


@pytest.mark.parametrize(
    "message", [BecameReady(), Drain(0.0, hand_off=False), Boot(3, "/", {"a": {"b": [1, None]}})]
)
def test_the_wire_form_round_trips(message):
    assert decode(encode(message)) == message


def test_descriptors_of_what_is_no_message_are_closed(pair):
    ours, theirs = pair
    with socket.socket() as sent:
        before = len(list(Path("/proc/self/fd").iterdir()))
        socket.send_fds(ours._socket, [b"nonsense"], [sent.fileno()] * 3)
        with pytest.raises(ValueError):
            theirs.receive()
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_program_started_by_the_application_does_not_hold_our_channel(pair):
    ours, theirs = pair
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        ours.close()
        assert theirs.receive() is None
    finally:
        child.communicate(b"\n", timeout=20)
