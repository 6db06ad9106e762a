import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_master.ipc import descriptors
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import (
    ApplicationImported,
    Boot,
    Drain,
    Fork,
    ReplacementRequested,
    StartAccepting,
    TasksReported,
    Unknown,
    UseHandOff,
    WorkerBooted,
    WorkerBootFailed,
    WorkerForked,
    dump,
    load,
)
from asgi_master.settings.model import HttpSettings, Settings


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
    ours.send(WorkerBooted())
    ours.close()
    assert theirs.receive().message == WorkerBooted()
    assert theirs.receive() is None


def test_sending_to_a_dead_process_returns_false(pair):
    ours, theirs = pair
    theirs.close()
    assert not ours.send(WorkerBooted())


def test_sending_on_a_closed_end_returns_false(pair):
    ours, _theirs = pair
    ours.close()
    assert not ours.send(WorkerBooted())


def test_a_full_queue_returns_false_at_once(pair):
    ours, _theirs = pair
    ours.setblocking(False)
    sent = 0
    while ours.send(WorkerForked(1)):
        sent += 1
        assert sent < 100_000
    assert sent > 0


def test_the_largest_settings_fit(pair):
    ours, theirs = pair
    boot = Boot(1, "/srv", Settings(http=HttpSettings(header=("x" * 1000,) * 150)))
    assert ours.send(boot)
    assert theirs.receive().message == boot


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (ApplicationImported(), "ApplicationImported"),
        (WorkerBooted(), "BecameReady"),
        (ReplacementRequested("age"), "WantsToLeave"),
        (StartAccepting(), "Accept"),
        (UseHandOff(), "TakeHandOff"),
    ],
)
def test_names_on_the_wire_are_those_that_other_versions_know(message, name):
    assert json.loads(dump(message))[0] == name
    assert load(dump(message)) == message


def test_words_of_a_newer_version_are_ignored_and_missing_ones_take_their_defaults():
    assert load(b'["ApplicationImported", {"colour": "blue"}]').hazards == []
    assert load(b'["Sing", {"song": "Summertime"}]') == Unknown("Sing")


@pytest.mark.parametrize(
    "datagram",
    [
        b'["Sing", []]',
        b'["sing", {}]',
        b'["Si ng", {}]',
        b'["S' + b"i" * 100 + b'ng", {}]',
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
        b'["TasksTold", {"number": 1, "groups": [{"count": []}]}]',
        b'["TasksTold", {"number": 1, "groups": [{"stack": [1]}]}]',
        b'["TasksTold", {"number": 1, "groups": [{"more_served": 1e400}]}]',
        b'["ApplicationImported", {"hazards": [[]]}]',
        b'["Forked", {"pid": 9223372036854775808}]',
        b'["Drain", {"timeout": NaN, "hand_off": true}]',
        b'["Drain", {"timeout": Infinity, "hand_off": true}]',
        b'["Drain", {"timeout": 1e999, "hand_off": true}]',
        b"\xff\x00",
        b"[" * 100_000,
    ],
)
def test_what_no_version_says_is_refused(datagram):
    with pytest.raises(ValueError):
        load(datagram)


@pytest.mark.parametrize("message", [WorkerBooted(), Drain(0.0, hand_off=False), Boot(3, "/", Settings())])
def test_the_wire_form_round_trips(message):
    assert load(dump(message)) == message


@pytest.mark.parametrize("size", [0, 1, 999, 10_000, 90_000])
def test_texts_are_cut_to_size_on_both_ends(size):
    text = "\N{GRINNING FACE}" * size
    datagram = json.dumps(["BootFailed", {"reason": text, "traceback": text}]).encode()
    heard = load(datagram)
    assert len(heard.reason) <= 1010
    assert len(heard.traceback) <= 13_000
    assert load(dump(WorkerBootFailed(text, text))) == heard
    assert len(dump(WorkerBootFailed(text, text))) < 200 * 1024


def test_lists_are_cut_to_size():
    heard = load(dump(ApplicationImported(["x" * 5000] * 5000)))
    assert len(heard.hazards) <= 10
    assert all(len(hazard) <= 1010 for hazard in heard.hazards)
    group = {"count": 1, "names": ["n" * 5000] * 5000, "unheard of": [[]]}
    (shown,) = load(json.dumps(["TasksTold", {"number": 1, "groups": [group]}]).encode()).groups
    assert shown.count == 1
    assert len(shown.names) <= 100
    assert all(len(name) <= 1010 for name in shown.names)
    assert len(load(json.dumps(["TasksTold", {"number": 1, "groups": [{}] * 9999}]).encode()).groups) <= 1000


def old_kernel(monkeypatch):
    monkeypatch.setattr(descriptors, "_SO_PASSRIGHTS", 0x7FFF)


class TestRefusedDescriptors:
    def test_the_kernel_refuses_them_where_it_can(self, pair):
        ours, theirs = pair
        ours.refuse_descriptors()
        if ours.may_hold_descriptors:
            pytest.skip("Linux 6.16 and newer")
        assert not theirs.send(WorkerBooted(), (0,))
        assert theirs.send(WorkerBooted())
        assert ours.receive().message == WorkerBooted()

    def test_elsewhere_they_do_not_come_in(self, pair, monkeypatch):
        old_kernel(monkeypatch)
        ours, theirs = pair
        ours.refuse_descriptors()
        assert ours.may_hold_descriptors
        assert theirs.send(WorkerBooted())
        assert theirs.send(WorkerBooted(), (0, 1, 2))
        assert ours.receive().message == WorkerBooted()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(ValueError, match="a message with descriptors"):
            ours.receive()
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_without_any_it_is_a_channel_like_others(self, pair, monkeypatch):
        old_kernel(monkeypatch)
        ours, theirs = pair
        ours.refuse_descriptors()
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.receive()
        theirs.send(WorkerBooted())
        assert ours.receive().message == WorkerBooted()
        theirs.close()
        assert ours.receive() is None


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


def test_an_inherited_end_is_not_passed_on(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    fd = os.dup(theirs.fileno())
    os.set_inheritable(fd, True)
    inherited = Channel.of_fd(fd)
    assert not os.get_inheritable(fd)
    assert ours.send(WorkerBooted())
    received = inherited.receive()
    assert received is not None
    assert received.message == WorkerBooted()
    inherited.close()


def test_the_other_side_died_with_messages_unread(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert ours.send(WorkerBooted())
    theirs.close()
    assert ours.receive() is None


def test_an_end_that_is_left_open_is_closed_with_its_process(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    fd = ours.fileno()
    ours.leave_open()
    assert ours.fileno() == -1
    os.close(fd)
    assert theirs.receive() is None


def test_stacks_of_threads_are_cut_to_size() -> None:
    heard = load(dump(TasksReported(1, threads="\N{GRINNING FACE} in " + "x" * 100_000)))
    assert isinstance(heard, TasksReported)
    assert heard.threads.startswith("\\U0001f600 in xx")
    assert len(heard.threads) == 32 * 1024
