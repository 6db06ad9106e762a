"""Listeners and the hand-off queue, which any worker can shut down for all."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from asgi_master.control.health import HealthState, WorkerHealth, check_ready
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.descriptors import refuse
from asgi_master.ipc.messages import UseHandOff, UseListeners
from asgi_master.master.listeners import Listeners
from asgi_master.master.log_files import LogFiles
from asgi_master.master.open_listener import Listener
from asgi_master.master.reopening import listens
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.shared_sockets import SharedSockets
from asgi_master.master.worker_resources import WorkerResources
from asgi_master.settings.model import ApplicationSettings, Settings, SocketSettings
from asgi_master.supervision.states import Role
from forked_children import Household


class Home(Household):
    """With listeners, and a clock that the test turns."""

    def __init__(self, *binds: str) -> None:
        super().__init__()
        self.now = 0.0
        self.settings = Settings(
            application=ApplicationSettings(app="a:b"), sockets=SocketSettings(bind=binds)
        )
        self.listeners = Listeners()
        self.listeners.open(self.settings.sockets)
        running = RunningSettings(self.settings)
        log_files = LogFiles(self.children, running, Path("/"))
        self.resources = WorkerResources(self.listeners, cast("Any", None), log_files)
        self.shared = SharedSockets(
            self.children, running, self.listeners, self.resources, self.hand_off, lambda: self.now
        )

    @property
    def listener(self) -> Listener:
        (found,) = self.listeners.of(self.settings.sockets)
        return found

    def sweep(self) -> None:
        """A second later."""
        self.now += 1.0
        self.shared.sweep()

    def close(self) -> None:
        super().close()
        self.listeners.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Home]:
    home = Home(f"unix:{tmp_path / 'socket'}")
    yield home
    home.close()


@pytest.fixture
def tcp() -> Iterator[Home]:
    home = Home("127.0.0.1:0")
    yield home
    home.close()


def connects(address: Any) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        return client.connect_ex(address) == 0


def copy_of(listener: Listener) -> socket.socket:
    """As a worker has it."""
    return socket.socket(fileno=os.dup(listener.sock.fileno()))


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_tcp_listener_listens_again_at_the_same_place(tcp: Home, how: int) -> None:
    address = tcp.listener.sock.getsockname()
    with copy_of(tcp.listener) as copy:
        copy.shutdown(how)
        tcp.sweep()
        assert connects(address)
        assert listens(tcp.listener)
        with copy.accept()[0] as connection:
            assert connection.getsockname() == address, "workers need not be told"


def test_one_that_was_moved_comes_back(tcp: Home) -> None:
    address = tcp.listener.sock.getsockname()
    with copy_of(tcp.listener) as copy:
        copy.shutdown(socket.SHUT_RDWR)
        copy.bind(("127.0.0.2", 0))
        copy.listen()
        assert tcp.shared.silent() == [tcp.listener]
        tcp.sweep()
        assert connects(address)


def test_one_that_was_made_a_client_is_replaced_and_given_to_the_workers(tcp: Home) -> None:
    address = tcp.listener.sock.getsockname()
    theirs = with_worker(tcp)
    with copy_of(tcp.listener) as copy, socket.create_server(("127.0.0.1", 0)) as other:
        copy.shutdown(socket.SHUT_RDWR)
        assert copy.connect_ex(other.getsockname()) in {0, errno.EINPROGRESS}
        assert tcp.shared.silent() == [tcp.listener]
        tcp.sweep()
    given = received(theirs, UseListeners)
    assert connects(address)
    given.accept()[0].close()
    given.close()
    theirs.close()


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_a_unix_listener_is_replaced_and_given_to_the_workers(unix: Home, how: int) -> None:
    path = unix.listener.sock.getsockname()
    theirs = with_worker(unix)
    with copy_of(unix.listener) as copy:
        copy.shutdown(how)
        assert not connects(path)
        assert unix.shared.silent() == [unix.listener]
        unix.sweep()
    given = received(theirs, UseListeners)
    assert connects(path)
    given.accept()[0].close()
    given.close()
    theirs.close()
    unix.listeners.close()
    assert not Path(path).exists()


def test_what_cannot_be_mended_is_tried_again_and_logged_seldom(
    unix: Home, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(unix.listener.sock.getsockname())
    with copy_of(unix.listener) as copy:
        copy.shutdown(socket.SHUT_RDWR)
    path.unlink()
    path.mkdir()
    for _ in range(20):
        unix.sweep()
    assert caplog.text.count("was shut down by somebody who has it") == 1
    path.rmdir()
    unix.sweep()
    assert connects(str(path))


def test_a_listener_that_is_shut_down_again_and_again_fills_no_disk(
    tcp: Home, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(130):
        with copy_of(tcp.listener) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        tcp.sweep()
    assert 2 <= caplog.text.count("was shut down by somebody who has it") <= 3
    assert "(60 times): it listens again" in caplog.text


def test_a_new_hand_off_queue_is_given_to_all_workers(tcp: Home, caplog: pytest.LogCaptureFixture) -> None:
    theirs = with_worker(tcp)
    before = tcp.hand_off.fds
    for fd in before:
        with socket.socket(fileno=os.dup(fd)) as end:
            end.shutdown(socket.SHUT_RDWR)
    tcp.sweep()
    assert not tcp.hand_off.is_shut_down
    put = received(theirs, UseHandOff)
    client, server = socket.socketpair()
    with put, client, server:
        socket.send_fds(put, [b"c"], [server.fileno()])
        (taken,) = tcp.hand_off.take(1)
        taken.connection.close()
    assert caplog.text.count("the hand-off queue was shut down") == 1
    theirs.close()


def test_a_worker_whose_channel_is_full_gets_it_later(tcp: Home) -> None:
    theirs = with_worker(tcp)
    full = 0
    while tcp.children.give_certificates({1}, 0) and full < 2000:
        full += 1
    with socket.socket(fileno=os.dup(tcp.hand_off.fds[0])) as end:
        end.shutdown(socket.SHUT_RDWR)
    tcp.sweep()
    for _ in range(full + 1):
        found = theirs.receive()
        assert found is not None
        for fd in found.fds:
            os.close(fd)
        tcp.sweep()
        if isinstance(found.message, UseHandOff):
            break
    assert isinstance(found.message, UseHandOff)
    theirs.close()


def test_no_descriptor_comes_in_with_a_request(unix: Home) -> None:
    """Its reader would close it, and wait for that as long as the sender likes."""
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as probe:
        if not refuse(probe):
            pytest.skip("Linux 6.16 and newer")
        client.connect(unix.listener.sock.getsockname())
        with pytest.raises(PermissionError):
            socket.send_fds(client, [b"GET"], [0])
        accepted, _address = unix.listener.sock.accept()
        with accepted, pytest.raises(PermissionError):
            socket.send_fds(client, [b"GET"], [0])


def test_readiness_needs_listeners(tcp: Home) -> None:
    state = HealthState(True, "", 1, (WorkerHealth(0, 1, "ready", 0.1),))
    assert check_ready(state).passes
    with copy_of(tcp.listener) as copy:
        copy.shutdown(socket.SHUT_RDWR)
    silent = HealthState(True, "", 1, state.workers, tuple(listener.url for listener in tcp.shared.silent()))
    result = check_ready(silent)
    assert not result.passes
    assert f"{tcp.listener.url} does not listen: it was shut down" in result.text()


def with_worker(home: Home) -> Channel:
    """A worker that has said nothing yet; returns its end of its channel."""
    home.zygote(1)
    home.children._zygotes[1].boot = home.children._zygotes[1].boot.__class__(1, "/", home.settings)
    home.children.spawn_worker(0, 0, 1, home.resources.lent_to(home.settings, 0), Role.WORKER)
    order = home.zygotes[1].receive()
    assert order is not None
    put, take, channel, stack, *listeners = order.fds
    for fd in (put, take, stack, *listeners):
        os.close(fd)
    theirs = Channel.of_fd(channel)
    theirs.setblocking(False)
    return theirs


def received(channel: Channel, kind: type) -> socket.socket:
    """The first socket that came with such an order."""
    found = channel.receive()
    assert found is not None
    assert isinstance(found.message, kind)
    first, *others = found.fds
    for fd in others:
        os.close(fd)
    return socket.socket(fileno=first)
