import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from asgi_master.errors import BindError
from asgi_master.master.listeners import Listeners
from asgi_master.settings.model import SocketSettings


@pytest.fixture
def listeners():
    listeners = Listeners()
    yield listeners
    listeners.close()


def sockets(*bind, **others):
    return SocketSettings(bind=bind, **others)


def port_of(listener):
    return listener.sock.getsockname()[1]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def refusing(monkeypatch):
    """Have the kernel make no sockets of a family, as where `ipv6.disable=1` or `RestrictAddressFamilies=` is set."""

    def refuse(family, reason=errno.EAFNOSUPPORT):
        class Refusing(socket.socket):
            def __init__(self, asked=-1, *others, **named):
                if asked == family:
                    raise OSError(reason, os.strerror(reason))
                super().__init__(asked, *others, **named)

        monkeypatch.setattr(socket, "socket", Refusing)

    return refuse


@pytest.fixture
def both_families(monkeypatch):
    """Have every host be one of both families."""

    def resolve(_host, port, **_others):
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET, *stream, ("127.0.0.1", port)),
            (socket.AF_INET6, *stream, ("::1", port, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_the_url_shows_the_port_chosen_for_port_0(listeners):
    (listener,) = listeners.open(sockets("127.0.0.1:0"))
    assert listener.url == f"http://127.0.0.1:{port_of(listener)}"
    with socket.create_connection(("127.0.0.1", port_of(listener)), timeout=5):
        pass


def test_version_6_only_listens_on_version_6(listeners):
    (listener,) = listeners.open(sockets("[::1]:0"))
    assert listener.url.startswith("http://[::1]:")
    assert listener.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_taken_port_is_one_line_that_says_what_to_do(listeners):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindError, match=f"cannot bind 127.0.0.1:{port}: already in use") as caught:
            listeners.open(sockets(f"127.0.0.1:{port}"))
    assert "\n" not in str(caught.value)


def test_a_failure_leaves_nothing_open(listeners, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        bad = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(BindError):
            listeners.open(sockets(f"unix:{tmp_path}/a.sock", bad))
    assert not (tmp_path / "a.sock").exists()


def test_slots_have_addresses_of_their_own(listeners, tmp_path):
    settings = sockets("127.0.0.1:0", f"unix:{tmp_path}/{{slot}}.sock")
    listeners.slots = 2
    listeners.open(settings)
    assert [listener.slot for listener in listeners.of(settings)] == [None, 0, 1]
    listeners.slots = 3
    assert [listener.slot for listener in listeners.open(settings)] == [2]
    section = listeners.export_state()
    copied = {name: os.dup(fd) for name, fd in section.fds.items()}
    for known in (each for bind in section.values["binds"].values() for each in bind):
        known["fd"] = copied[str(known["fd"])]
    again = Listeners().import_state(section)
    assert [listener.slot for listener in again.of(settings)] == [None, 0, 1, 2]
    again.slots = 1
    gone = again.keep_only(settings)
    assert sorted(listener.slot for listener in gone) == [1, 2]
    for listener in gone:
        listener.close()
    again.close()


def test_an_unknown_host(listeners):
    with pytest.raises(BindError, match="the host is not known here"):
        listeners.open(sockets("no-such-host.invalid:80"))


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_can_be_none(listeners, host):
    with pytest.raises(BindError, match="the host is not known here"):
        listeners.open(sockets(f"{host}:80"))


def test_a_family_that_is_switched_off_is_passed_over(listeners, refusing, both_families):
    refusing(socket.AF_INET6)
    assert [listener.sock.family for listener in listeners.open(sockets("localhost:0"))] == [socket.AF_INET]


def test_a_disabled_family_is_an_error_if_it_is_the_only_one(listeners, refusing):
    refusing(socket.AF_INET6)
    with pytest.raises(BindError, match=r"cannot bind \[::1\]:0: Address family not supported"):
        listeners.open(sockets("[::1]:0"))


def test_a_socket_that_cannot_be_made_leaves_nothing_open(listeners, refusing, both_families):
    before = descriptors()
    refusing(socket.AF_INET6, errno.EMFILE)
    with pytest.raises(BindError, match="cannot bind localhost:0: Too many open files"):
        listeners.open(sockets("localhost:0"))
    assert descriptors() == before


def test_newcomers_are_turned_away_where_the_sockets_are_ours(listeners, tmp_path):
    path = tmp_path / "app.sock"
    with socket.socket() as passed:
        passed.bind(("127.0.0.1", 0))
        passed.listen()
        tcp, _unix, inherited = listeners.open(
            sockets("127.0.0.1:0", f"unix:{path}", f"fd://{passed.fileno()}")
        )
        addresses = tcp.address, inherited.address
        listeners.refuse_connections()
        assert not path.exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(addresses[0])
    with socket.create_connection(addresses[1]):
        pass
    listeners.refuse_connections()


def test_the_backlog_is_real(listeners):
    (listener,) = listeners.open(sockets("127.0.0.1:0", backlog=1))
    clients = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port_of(listener)))
        clients.append(client)
    # With a backlog of 1 the kernel establishes 2; further handshakes do not complete.
    established = [
        client for client in clients if client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) == 1
    ]
    assert len(established) <= 2
    for client in clients:
        client.close()


class TestUnix:
    def test_mode_and_removal(self, listeners, tmp_path):
        path = tmp_path / "app.sock"
        (listener,) = listeners.open(sockets(f"unix:{path}", uds_mode=0o640))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert listener.url == f"unix:{path}"
        listeners.close()
        assert not path.exists()

    def test_owner(self, listeners, tmp_path):
        if os.geteuid() != 0:
            pytest.skip("only root may give files away")
        path = tmp_path / "app.sock"
        listeners.open(sockets(f"unix:{path}", uds_owner="nobody:12"))
        assert path.stat().st_gid == 12
        assert path.stat().st_uid != 0

    def test_an_unknown_owner_is_named(self, listeners, tmp_path):
        with pytest.raises(BindError, match="no user or group 'nobody-at-all'"):
            listeners.open(sockets(f"unix:{tmp_path}/a", uds_owner="nobody-at-all"))
        assert not (tmp_path / "a").exists()

    def test_a_stale_file_is_replaced(self, listeners, tmp_path):
        path = tmp_path / "app.sock"
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(path))
        dead.close()
        listeners.open(sockets(f"unix:{path}"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    def test_a_living_one_is_refused_and_left_alone(self, listeners, tmp_path):
        path = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
            other.bind(str(path))
            other.listen()
            with pytest.raises(BindError, match="another process listens there"):
                listeners.open(sockets(f"unix:{path}"))
            client.connect(str(path))

    def test_a_file_that_is_no_socket_is_refused_and_left_alone(self, listeners, tmp_path):
        path = tmp_path / "app.sock"
        path.write_text("precious")
        with pytest.raises(BindError, match="not a socket"):
            listeners.open(sockets(f"unix:{path}"))
        assert path.read_text() == "precious"

    def test_somebody_elses_file_in_our_place_is_not_removed(self, listeners, tmp_path):
        path = tmp_path / "app.sock"
        listeners.open(sockets(f"unix:{path}"))
        path.unlink()
        path.write_text("theirs")
        listeners.close()
        assert path.read_text() == "theirs"

    @pytest.mark.parametrize("is_stale", [False, True])
    def test_a_socket_that_cannot_be_made(self, listeners, refusing, tmp_path, is_stale):
        path = tmp_path / "app.sock"
        if is_stale:
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
        refusing(socket.AF_UNIX)
        with pytest.raises(BindError, match=r"app\.sock: Address family not supported"):
            listeners.open(sockets(f"unix:{path}"))
        assert path.exists() == is_stale

    def test_a_stale_file_that_may_not_be_removed(self, listeners, monkeypatch, tmp_path):
        path = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))

        def refuse(_path, **_others):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "unlink", refuse)
        with pytest.raises(BindError, match=r"app\.sock: Permission denied"):
            listeners.open(sockets(f"unix:{path}"))

    def test_a_missing_directory(self, listeners, tmp_path):
        with pytest.raises(BindError, match="No such file or directory"):
            listeners.open(sockets(f"unix:{tmp_path}/none/app.sock"))


class TestInherited:
    def test_a_listening_descriptor_is_used_as_it_is(self, listeners):
        with socket.create_server(("127.0.0.1", 0)) as given:
            given.set_inheritable(True)
            (listener,) = listeners.open(sockets(f"fd://{given.fileno()}"))
            assert port_of(listener) == given.getsockname()[1]
            assert not listener.sock.get_inheritable()
            assert not given.get_inheritable()

    def test_a_bound_one_is_made_to_listen(self, listeners):
        with socket.socket() as given:
            given.bind(("127.0.0.1", 0))
            (listener,) = listeners.open(sockets(f"fd://{given.fileno()}"))
        with socket.create_connection(listener.sock.getsockname(), timeout=5):
            pass

    def test_one_that_was_dropped_can_be_named_again(self, listeners):
        with socket.create_server(("127.0.0.1", 0)) as given:
            binds = sockets(f"fd://{given.fileno()}")
            for _ in range(2):
                (listener,) = listeners.open(binds)
                assert port_of(listener) == given.getsockname()[1]
                assert listeners.keep_only(sockets()) == [listener]
                listener.close()

    def test_a_closed_one_is_named(self, listeners):
        with pytest.raises(BindError, match="cannot use fd://4000"):
            listeners.open(sockets("fd://4000"))

    def test_a_datagram_socket_is_refused(self, listeners):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as given,
            pytest.raises(BindError, match="not a stream socket"),
        ):
            listeners.open(sockets(f"fd://{given.fileno()}"))


class TestReload:
    def test_kept_ones_stay_open_and_new_ones_come(self, listeners):
        (kept,) = listeners.open(sockets("127.0.0.1:0"))
        wanted = sockets("127.0.0.1:0", "[::1]:0")
        (new,) = listeners.open(wanted)
        assert listeners.of(wanted) == [kept, new]

    def test_what_is_no_longer_asked_for_is_let_go(self, listeners):
        first, second = listeners.open(sockets("127.0.0.1:0", "[::1]:0"))
        assert listeners.keep_only(sockets("[::1]:0")) == [first]
        assert listeners.of(sockets("127.0.0.1:0", "[::1]:0")) == [second]
        first.close()
