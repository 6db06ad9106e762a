"""The selector, with a kernel that refuses."""

import errno
import os
import selectors
import socket

import pytest

from asgi_master.master.selecting import PatientSelector

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Epoll:
    """The kernel's, of which some calls fail."""

    def __init__(self, epoll):
        self._epoll = epoll
        self.refuses = {}
        self.asked = []

    def __getattr__(self, name):
        def ask(*arguments):
            self.asked.append(name)
            if name in self.refuses:
                raise OSError(self.refuses[name], os.strerror(self.refuses[name]))
            return getattr(self._epoll, name)(*arguments)

        return ask


@pytest.fixture
def selector():
    selector = PatientSelector()
    selector._epoll = Epoll(selector._epoll)
    yield selector
    selector.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def ready(selector, timeout=0.0):
    return [(key.data, events) for key, events in selector.select(timeout)]


def test_it_tells_what_is_ready(selector, pair):
    ours, theirs = pair
    selector.register(ours, READ, "ours")
    assert ready(selector) == []
    theirs.send(b"x")
    assert ready(selector) == [("ours", READ)]
    selector.modify(ours, READ | WRITE, "both")
    assert ready(selector) == [("both", READ | WRITE)]
    assert selector.get_key(ours).data == "both"
    selector.unregister(ours)
    assert ready(selector) == []


def test_the_end_of_the_other_side_wakes_every_waiter(selector, pair):
    ours, theirs = pair
    selector.register(ours, WRITE, "ours")
    theirs.close()
    assert ready(selector) == [("ours", WRITE)]


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ENOSPC, errno.EPERM])
def test_what_the_kernel_refuses_is_watched_as_soon_as_it_does_not(selector, pair, error):
    ours, theirs = pair
    selector._epoll.refuses["register"] = error
    selector.register(ours, READ, "ours")
    theirs.send(b"x")
    assert ready(selector) == []
    selector._epoll.refuses.clear()
    assert ready(selector) == [("ours", READ)]
    selector.unregister(ours)
    assert len(selector.get_map()) == 0


def test_a_refused_change_is_made_later(selector, pair):
    ours, _theirs = pair
    selector.register(ours, READ, "reads")
    selector._epoll.refuses["modify"] = errno.ENOMEM
    selector.modify(ours, WRITE, "writes")
    assert ready(selector) == []
    selector._epoll.refuses.clear()
    assert ready(selector) == [("writes", WRITE)]


def test_what_was_refused_can_be_let_go(selector, pair):
    ours, theirs = pair
    selector._epoll.refuses["register"] = errno.ENOMEM
    selector.register(ours, READ, "ours")
    theirs.send(b"x")
    selector.unregister(ours)
    selector._epoll.refuses.clear()
    assert ready(selector) == []


@pytest.mark.timeout(20)
def test_while_something_is_refused_it_does_not_wait_long(selector, pair):
    selector._epoll.refuses["register"] = errno.ENOMEM
    selector.register(pair[0], READ, "ours")
    assert selector.select(None) == []
    assert selector.select(60.0) == []


def test_an_unregistered_file_does_not_wake_it_for_ever(selector, pair):
    ours, theirs = pair
    selector.register(ours, READ, "ours")
    theirs.send(b"x")
    selector._epoll.refuses["unregister"] = errno.ENOMEM
    selector.unregister(ours)
    selector._epoll.refuses.clear()
    assert ready(selector) == []
    selector._epoll.asked.clear()
    assert ready(selector) == []
    assert selector._epoll.asked == ["poll"], "the kernel forgot it too"


def test_a_closed_socket_can_be_let_go(selector, pair):
    ours, _theirs = pair
    selector.register(ours, READ, "ours")
    ours.close()
    selector.unregister(ours)
    assert len(selector.get_map()) == 0


def test_what_can_never_be_watched_is_the_callers_mistake(selector, pair):
    with pytest.raises(OSError, match="Bad file descriptor"):
        selector.register(987654, READ)
    selector.register(pair[0], READ)
    with pytest.raises(KeyError):
        selector.register(pair[0], READ)
    with pytest.raises(KeyError):
        selector.unregister(pair[1])
