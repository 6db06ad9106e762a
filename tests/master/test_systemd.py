"""What is said to systemd and when: against a real datagram socket, with the supervisor and the clock in hand."""

import contextlib
import errno
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.errors import BindError
from asgi_master.ipc.counters import Field, Stats
from asgi_master.ipc.scoreboard import RowState, Scoreboard
from asgi_master.master.fd_store import FdStore
from asgi_master.master.listeners import Listeners
from asgi_master.master.sd_notify import Notifier
from asgi_master.master.sd_protocol import (
    datagram,
    notify_address,
    passed_descriptors,
    stored_name,
    watchdog_timeout,
)
from asgi_master.master.systemd import ServiceManager
from asgi_master.settings.bind import KEPT_PREFIX
from asgi_master.settings.model import SocketSettings
from asgi_master.supervision import events
from asgi_master.supervision.actions import Announce, SpawnWorker, StartZygote
from asgi_master.supervision.notices import StopDelayed
from asgi_master.supervision.policy import Policy
from asgi_master.supervision.states import WorkerState
from asgi_master.supervision.supervisor import Supervisor
from asgi_master.telemetry.service_status import describe_service

# --- words


def test_one_line_for_each_word():
    assert datagram({"READY": 1, "STATUS": "2/2 workers ready"}) == b"READY=1\nSTATUS=2/2 workers ready"


def test_a_reason_from_the_application_cannot_say_anything_else():
    assert datagram({"STATUS": "no\nMAINPID=1"}) == b"STATUS=no\\nMAINPID=1"


def test_a_long_reason_is_cut():
    assert len(datagram({"STATUS": "x" * 10_000})) < 600


@pytest.mark.parametrize(
    ("text", "address"), [("/run/systemd/notify", "/run/systemd/notify"), ("@abc", "\0abc"), ("", None)]
)
def test_where_notifications_go(text, address):
    assert notify_address({"NOTIFY_SOCKET": text}) == address


def test_other_kinds_of_address_are_named():
    with pytest.raises(ValueError, match="vsock:2:1234 is neither a path nor an abstract socket"):
        notify_address({"NOTIFY_SOCKET": "vsock:2:1234"})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(environ, seconds):
    assert watchdog_timeout(environ, 42) == seconds


@pytest.mark.parametrize(
    ("environ", "passed"),
    [
        ({"LISTEN_PID": "42", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:admin"}, [(3, "web"), (4, "admin")]),
        ({"LISTEN_PID": "42", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web"}, [(3, "web"), (4, "unknown")]),
        ({"LISTEN_PID": "42", "LISTEN_FDS": "1"}, [(3, "unknown")]),
        ({"LISTEN_PID": "41", "LISTEN_FDS": "1"}, []),
        ({"LISTEN_PID": "42", "LISTEN_FDS": "many"}, []),
        ({"LISTEN_PID": "42"}, []),
        ({}, []),
    ],
)
def test_passed_descriptors(environ, passed):
    assert passed_descriptors(environ, 42) == passed


BINDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=120)
FILES = st.none() | st.tuples(st.integers(0, 2**32), st.integers(0, 2**63))


@settings(deadline=None)
@given(BINDS, FILES)
def test_a_kept_name_is_one_that_systemd_takes(bind, file):
    name = stored_name(bind, file)
    assert re.fullmatch(r"[!-9;-~]{1,255}", name)
    assert name.startswith(KEPT_PREFIX)


@settings(deadline=None)
@given(st.tuples(BINDS, FILES), st.tuples(BINDS, FILES))
def test_a_kept_name_is_of_one_bind_alone(one, other):
    assert (stored_name(*one) == stored_name(*other)) == (one == other)


# --- the line for people


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({}, "8/8 workers ready, generation 7, 312 req/s"),
        ({"ready": 1, "wanted": 1, "rate": 0.25}, "1/1 worker ready, generation 7, 0.2 req/s"),
        ({"rate": None, "generations": ()}, "8/8 workers ready"),
        (
            {"ready": 6, "waiting": 2},
            "6/8 workers ready, generation 7, 312 req/s, 2 held back after failures",
        ),
        (
            {"doing": "reloading", "generations": {8, 7}, "leaving": 1},
            "reloading: 8/8 workers ready, generations 7 and 8, 312 req/s, 1 leaving",
        ),
        (
            {"trouble": "reload failed: no"},
            "reload failed: no; 8/8 workers ready, generation 7, 312 req/s",
        ),
    ],
)
def test_the_status_is_a_line_that_a_person_wants_to_read(words, line):
    assert describe_service(**{"ready": 8, "wanted": 8, "generations": {7}, "rate": 312.4} | words) == line


# --- the notifier


class Manager:
    """The service manager's end."""

    def __init__(self, directory):
        self.path = str(directory / "notify")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.setblocking(False)

    def read(self):
        """The datagrams that came, each as a dictionary."""
        return [words for words, _fds in self.read_with_fds()]

    def read_with_fds(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _flags, _address = socket.recv_fds(self._sock, 65536, 64)
                found.append((dict(line.split("=", 1) for line in data.decode().split("\n")), fds))
        return found

    def take(self, word):
        """The values of one word in what came."""
        return [words[word] for words in self.read() if word in words]

    def close(self):
        self._sock.close()


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def notifier(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})
    yield notifier
    notifier.close()


def test_without_a_service_manager_nothing_happens():
    notifier = Notifier({})
    notifier.send({"READY": 1})
    assert not notifier.is_enabled
    notifier.close()


def test_an_abstract_socket_is_heard(tmp_path):
    name = f"asgi-master-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
        notifier.send({"READY": 1})
        assert sock.recv(100) == b"READY=1"
        notifier.close()


def test_a_full_queue_delays_and_loses_nothing(manager, notifier):
    for number in range(40):
        notifier.send({"STATUS": number})
    seen = []
    while len(seen) < 40:
        came = manager.take("STATUS")
        assert came, "what waits is sent by flush"
        seen += came
        notifier.flush()
    assert seen == [str(number) for number in range(40)]


def test_a_manager_that_went_away_is_logged_once(manager, notifier, caplog):
    manager.close()
    Path(manager.path).unlink()
    notifier.send({"STATUS": "a"})
    notifier.send({"STATUS": "b"})
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot notify systemd at '{manager.path}': No such file or directory"
    ]


def test_what_the_kernel_has_no_memory_for_is_said_later(manager, notifier, monkeypatch, caplog):
    def fails(*_arguments):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(socket.socket, "sendmsg", fails)
    notifier.send({"STATUS": "a"})
    monkeypatch.undo()
    notifier.flush()
    assert manager.take("STATUS") == ["a"]
    assert not caplog.records


def test_a_start_without_a_descriptor_to_notify_with_goes_on(manager, monkeypatch):
    def fails(*_arguments):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", fails)
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})
    notifier.send({"STATUS": "a"})
    monkeypatch.undo()
    notifier.flush()
    assert manager.take("STATUS") == ["a"]
    notifier.close()


# --- what the service manager hears


class Told:
    """A supervisor that is fed by hand, and what systemd hears of it."""

    def __init__(self, manager, notifier, *, workers=2, watchdog=0.0, **policy):
        self.manager = manager
        self.now = 1000.0
        self.scoreboard = Scoreboard.create()
        self.rows = {}
        watch_time = {"watch_time": 0.0}
        self.policy = Policy(workers=workers, **watch_time | policy)
        self.supervisor = Supervisor(self.policy, self.now, lambda: 0.0)
        environ = {"WATCHDOG_USEC": str(int(watchdog * 1e6))} if watchdog else {}
        self.service = ServiceManager(notifier, self.supervisor, lambda: self.rows, environ, lambda: self.now)

    def feed(self, *facts):
        """Facts, and those that follow as long as everything works; returns what was said."""
        queue = list(facts)
        while queue:
            for action in self.supervisor.handle(queue.pop(0), self.now):
                match action:
                    case Announce(notice):
                        self.service.note(notice)
                    case StartZygote(generation):
                        queue.append(events.ZygoteReady(generation))
                    case SpawnWorker(worker):
                        self._beat(worker)
                        queue.append(events.WorkerReady(worker))
        self.service.sweep()
        return self.manager.read()

    def judge(self, fact):
        """A fact, and nothing of what it asks for is done."""
        for action in self.supervisor.handle(fact, self.now):
            if isinstance(action, Announce):
                self.service.note(action.notice)

    def _beat(self, worker):
        row = self.rows.setdefault(worker, None) or self.scoreboard.allocate()
        row[Field.STATE], row[Field.HEARTBEAT_NS] = RowState.READY, int(self.now * 1e9)
        self.rows[worker] = row

    def boot(self):
        said = self.feed(events.TimePassed())
        assert any("READY" in words for words in said), said

    def reload(self):
        """As the master does it."""
        self.service.begin_reload()
        return self.feed(events.ReloadRequested(self.policy))

    def settle(self):
        """Let those leave who were told to; returns what was said."""
        said = []
        for _ in range(10):
            self.now += 0.5
            ready = {worker.id for worker in self.supervisor.fleet.serving()}
            gone = [worker for worker in self.supervisor.fleet.living() if worker.id not in ready]
            for worker in gone:
                self.rows.pop(worker.id).clear()
            for worker in self.rows:
                self._beat(worker)
            stamps = {worker: row[Field.HEARTBEAT_NS] / 1e9 for worker, row in self.rows.items()}
            said += self.feed(
                *[events.WorkerExited(worker.id, 0) for worker in gone], events.HeartbeatsRead(stamps)
            )
        return said

    def pass_time(self, seconds, *, beating=True):
        """Turns of the loop, every half second; returns what was said."""
        said = []
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            if beating:
                for worker in self.rows:
                    self._beat(worker)
            self.service.sweep()
            said += self.manager.read()
        return said


@pytest.fixture
def told(manager, notifier):
    return Told(manager, notifier)


def words(said, *names):
    """Which of these words were said, in their order."""
    return [name for datagram in said for name in datagram if name in names]


def test_starting_asks_for_time_until_every_worker_is_ready(told):
    (said,) = told.manager.read()
    assert said == {"STATUS": "starting: 0/2 workers ready", "EXTEND_TIMEOUT_USEC": "15000000"}
    said = told.pass_time(20)
    assert len(words(said, "EXTEND_TIMEOUT_USEC")) == 4
    assert not words(said, "READY")
    told.boot()
    assert not words(told.pass_time(20), "EXTEND_TIMEOUT_USEC", "READY")


def test_the_status_tells_the_rate(told):
    told.boot()
    for row in told.rows.values():
        row.write(Stats(requests=500))
    # It was last measured 5.5 seconds ago.
    assert told.pass_time(6)[-1]["STATUS"] == "2/2 workers ready, generation 1, 182 req/s"


def test_a_reload_begins_and_ends(told):
    told.boot()
    said = told.reload()
    assert said[0]["RELOADING"] == "1"
    assert int(said[0]["MONOTONIC_USEC"]) == 1_000_000_000
    assert said[0]["STATUS"].startswith("reloading: ")
    assert words(said + told.settle(), "RELOADING", "READY") == ["RELOADING", "READY"]


def test_a_reload_on_top_of_another_is_one_more_beginning_and_one_end(told):
    told.boot()
    told.service.begin_reload()
    told.judge(events.ReloadRequested(told.policy))
    told.now += 0.1
    said = told.reload() + told.feed(events.ZygoteExited(2, 0)) + told.settle()
    assert words(said, "RELOADING", "READY") == ["RELOADING", "RELOADING", "READY"]
    assert len({datagram["MONOTONIC_USEC"] for datagram in said if "RELOADING" in datagram}) == 2


def test_a_reload_that_fails_says_why_until_one_works(told):
    told.boot()
    told.service.begin_reload()
    said = _fail_import(told)
    assert words(said, "RELOADING", "READY") == ["RELOADING", "READY"]
    trouble = "reload failed: generation 2: no such module; staying with generation 1"
    assert next(one["STATUS"] for one in said if "READY" in one).startswith(f"{trouble}; 2/2 workers ready")
    assert all(status.startswith(trouble) for status in [one["STATUS"] for one in told.pass_time(10)])
    told.reload()
    told.feed(events.ZygoteExited(2, 3))
    told.settle()
    assert told.pass_time(5)[-1]["STATUS"].startswith("2/2 workers ready, generation 3")


def _fail_import(told):
    told.judge(events.ReloadRequested(told.policy))
    return told.manager.read() + told.feed(events.ZygoteFailed(2, "no such module"))


def test_refused_settings_are_a_reload_that_failed(told):
    told.boot()
    said = told.feed(events.ReloadRefused("SIGHUP", ("workers: no number", "bind: no address")))
    assert words(said, "RELOADING", "READY") == ["RELOADING", "READY"]
    assert said[-1]["STATUS"].startswith("reload failed: workers: no number; bind: no address; 2/2 workers")


def test_refused_settings_do_not_end_the_reload_that_is_under_way(told):
    told.boot()
    told.judge(events.ReloadRequested(told.policy))
    refused = events.ReloadRefused("SIGHUP", ("workers: no number",))
    assert words(told.manager.read() + told.feed(refused), "RELOADING", "READY") == ["RELOADING", "RELOADING"]


def test_nothing_is_reloaded_before_it_is_ready_or_while_it_stops(told):
    told.service.begin_reload()
    assert not words(told.manager.read(), "RELOADING")
    told.boot()
    said = told.feed(events.StopRequested())
    assert words(said, "STOPPING") == ["STOPPING"]
    assert re.fullmatch(r"stopping: 0/2 workers ready(, 0 req/s)?, 2 leaving", said[0]["STATUS"])
    told.service.begin_reload()
    refused = events.ReloadRefused("SIGHUP", ("no",))
    assert not words(told.manager.read() + told.feed(refused), "RELOADING", "READY")


def test_a_spare_that_stands_by_is_not_leaving(manager, notifier):
    told = Told(manager, notifier, workers=1, spares=1)
    told.boot()
    assert told.pass_time(6)[-1]["STATUS"] == "1/1 worker ready, generation 1, 0 req/s"


def test_a_spare_that_serves_on_beside_a_new_worker_is_not_one_too_many(manager, notifier):
    told = Told(manager, notifier, workers=1, spares=1, watch_time=60.0)
    told.boot()
    first, _spare = told.rows
    told.rows.pop(first).clear()
    told.feed(events.WorkerExited(first, -9))
    assert sum(worker.is_ready for worker in told.supervisor.fleet.living()) == 2
    assert told.pass_time(6)[-1]["STATUS"] == "1/1 worker ready, generation 1, 0 req/s"


def test_a_delayed_stop_is_reported_at_once(told):
    told.boot()
    told.service.note(StopDelayed(20.0))
    (said,) = told.manager.read()
    assert said["STOPPING"] == "1"
    assert said["STATUS"].startswith("stopping: 2/2 workers ready, generation 1")
    assert len(words(told.pass_time(20), "EXTEND_TIMEOUT_USEC")) >= 4


# --- watchdog


@pytest.fixture
def watched(manager, notifier):
    told = Told(manager, notifier, watchdog=10.0, boot_timeout=30.0)
    told.boot()
    return told


def test_the_watchdog_is_fed_at_half_of_its_time(watched):
    assert len(words(watched.pass_time(30), "WATCHDOG")) == 6


def test_the_watchdog_is_not_fed_while_no_loop_turns(watched):
    assert len(words(watched.pass_time(60, beating=False), "WATCHDOG")) == 1
    # One worker that serves on is enough, and is reported at once.
    watched.now += 0.5
    watched._beat(next(iter(watched.rows)))
    watched.service.sweep()
    assert words(watched.manager.read(), "WATCHDOG") == ["WATCHDOG"]


def test_who_boots_is_waited_for_but_not_for_ever(watched):
    for worker in list(watched.rows):
        watched.judge(events.WorkerExited(worker, -9))
    watched.rows.clear()
    fed = len(words(watched.pass_time(200), "WATCHDOG"))
    assert 4 <= fed <= 30 / 5


def test_the_successor_of_a_worker_that_hung_has_its_time(manager, notifier):
    told = Told(manager, notifier, workers=1, watchdog=45.0, boot_timeout=20.0)
    told.boot()
    told.pass_time(22)
    assert len(words(told.pass_time(32, beating=False), "WATCHDOG")) == 1
    (hung,) = told.rows
    told.rows.pop(hung).clear()
    told.judge(events.WorkerExited(hung, -9))
    # The last word was 31.5 seconds ago: it has all of its boot timeout, not what the other left of it.
    assert len(words(told.pass_time(1), "WATCHDOG")) == 1
    assert not words(told.pass_time(60), "WATCHDOG")


def test_a_spare_that_was_admitted_serves(manager, notifier):
    told = Told(manager, notifier, workers=1, spares=1, watchdog=10.0, boot_timeout=5.0)
    told.boot()
    first, _spare = told.rows
    told.rows.pop(first).clear()
    told.judge(events.WorkerExited(first, -9))
    _fail_boots(told, 10)
    said = told.pass_time(20)
    assert len(words(said, "WATCHDOG")) == 4
    statuses = [one["STATUS"] for one in said if "STATUS" in one]
    assert statuses[0] == "1/1 worker ready, generation 1, 0 req/s, 1 held back after failures"
    told.pass_time(5, beating=False)
    assert not words(told.pass_time(60, beating=False), "WATCHDOG")


def _fail_boots(told, times):
    """Each successor of a worker that was lost fails to boot, until its slot is held back for long."""
    for _ in range(times):
        told.now += told.policy.backoff_cap
        told.judge(events.TimePassed())
        for worker in told.supervisor.fleet.living():
            if worker.state is WorkerState.BOOTING:
                told.judge(events.WorkerFailed(worker.id, "no"))
                told.judge(events.WorkerExited(worker.id, 3))


def test_without_a_watchdog_it_is_not_fed(told):
    told.boot()
    assert not words(told.pass_time(30), "WATCHDOG")


# --- sockets that are kept


def settings_of(*bind, **others):
    return SocketSettings(bind=bind, **others)


class Store:
    """systemd's store: keeps what it is given, and passes it on to the next."""

    def __init__(self, manager):
        self._manager = manager
        self.kept = []

    def receive(self):
        for words, fds in self._manager.read_with_fds():
            if "FDSTORE" in words:
                assert words["FDPOLL"] == "0"
                self.kept += [(words["FDNAME"], fd) for fd in fds]
            if "FDSTOREREMOVE" in words:
                self.kept = [(name, fd) for name, fd in self.kept if name != words["FDNAME"] or os.close(fd)]

    def names(self):
        self.receive()
        return [name for name, _fd in self.kept]

    def pass_on(self, notifier, monkeypatch, *others):
        """What another master gets."""
        passed = [(os.dup(fd), name) for name, fd in self.kept] + list(others)
        monkeypatch.setattr("asgi_master.master.fd_store.passed_descriptors", lambda _environ, _pid: passed)
        return FdStore(notifier, {}, os.getpid())

    def close(self):
        for _name, fd in self.kept:
            os.close(fd)


@pytest.fixture
def store(manager):
    store = Store(manager)
    yield store
    store.close()


def identity(listener):
    return os.fstat(listener.sock.fileno()).st_ino


def test_listeners_outlive_their_master(store, notifier, monkeypatch, tmp_path):
    binds = settings_of("127.0.0.1:0", f"unix:{tmp_path}/a.sock")
    first = Listeners(FdStore(notifier, {}, 0))
    before = [identity(listener) for listener in first.open(binds)]
    store.receive()
    first.close()
    assert (tmp_path / "a.sock").exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a.sock"))  # between two masters
        second = Listeners(store.pass_on(notifier, monkeypatch))
        assert [identity(listener) for listener in second.open(binds)] == before
        second._fd_store.discard_unused()
        connection, _ = second.of(binds)[1].sock.accept()
        connection.close()
    assert len(store.names()) == 4  # given again: systemd knows what it has
    second.close()


def test_a_socket_file_that_was_replaced_is_bound_anew(store, notifier, monkeypatch, tmp_path):
    binds = settings_of(f"unix:{tmp_path}/a.sock")
    first = Listeners(FdStore(notifier, {}, 0))
    (before,) = [identity(listener) for listener in first.open(binds)]
    (name,) = store.names()
    first.close()
    (tmp_path / "a.sock").unlink()
    (tmp_path / "b").touch()  # takes the inode's number
    second = Listeners(store.pass_on(notifier, monkeypatch))
    (listener,) = second.open(binds)
    assert identity(listener) != before
    second._fd_store.discard_unused()
    assert name not in store.names()
    second.close()


def test_what_no_bind_names_is_dropped(store, notifier, monkeypatch):
    first = Listeners(FdStore(notifier, {}, 0))
    first.open(settings_of("127.0.0.1:0", "[::1]:0"))
    store.receive()
    first.close()
    second = Listeners(store.pass_on(notifier, monkeypatch))
    second.open(settings_of("[::1]:0"))
    second._fd_store.discard_unused()
    assert set(store.names()) == {stored_name("[::1]:0", None)}
    for listener in second.keep_only(settings_of()):
        listener.close()
    assert store.names() == []
    second.close()


@pytest.fixture
def taken():
    """A bind that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


@pytest.mark.parametrize("why", ["a taken port", "an unknown owner"])
def test_a_start_that_fails_leaves_the_files_of_kept_sockets(
    store, notifier, monkeypatch, tmp_path, taken, why
):
    kept, new = f"unix:{tmp_path}/kept.sock", f"unix:{tmp_path}/new.sock"
    first = Listeners(FdStore(notifier, {}, 0))
    (before,) = [identity(listener) for listener in first.open(settings_of(kept))]
    store.receive()
    first.close()
    second = Listeners(store.pass_on(notifier, monkeypatch))
    bad = settings_of(new, kept, taken)
    if why == "an unknown owner":
        bad = settings_of(kept, uds_owner="nobody-at-all")
    with pytest.raises(BindError):
        second.open(bad)
    second.close()
    assert not (tmp_path / "new.sock").exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "kept.sock"))  # it waits for a master that starts
        third = Listeners(store.pass_on(notifier, monkeypatch))
        assert [identity(listener) for listener in third.open(settings_of(kept))] == [before]
    third.close()


# --- a host whose addresses change


class Host:
    """What a name resolves to."""

    def __init__(self):
        self.addresses = []

    def resolve(self, _host, port, **_others):
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, (address, port)) for address in self.addresses]


@pytest.fixture
def host(monkeypatch):
    host = Host()
    monkeypatch.setattr(socket, "getaddrinfo", host.resolve)
    return host


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["127.0.0.1"], ["127.0.0.1"]),
        (["127.0.0.1"], ["127.0.0.2"]),
        (["127.0.0.1", "127.0.0.2"], ["127.0.0.3", "127.0.0.2"]),
        (["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]),
        (["127.0.0.1", "127.0.0.2"], ["127.0.0.2"]),
    ],
)
def test_the_addresses_of_a_host_change_between_two_masters(
    store, notifier, monkeypatch, host, before, after
):
    binds = settings_of("app.test:0")
    host.addresses = before
    first = Listeners(FdStore(notifier, {}, 0))
    known = {listener.sock.getsockname(): identity(listener) for listener in first.open(binds)}
    store.receive()
    first.close()
    host.addresses = after
    second = Listeners(store.pass_on(notifier, monkeypatch))
    opened = second.open(binds)
    second._fd_store.discard_unused()
    assert [listener.sock.getsockname()[0] for listener in opened] == after
    for listener in opened:
        address = listener.sock.getsockname()
        assert known.get(address, identity(listener)) == identity(listener)
        if set(before) & set(after):
            assert address[1] in {port for _host, port in known}, "one port for all"
    # What is kept is what is listened on; systemd sees by itself what it has already.
    assert set(store.names()) == {stored_name("app.test:0", None)}
    assert {os.fstat(fd).st_ino for _name, fd in store.kept} == {identity(listener) for listener in opened}
    for address in known:
        if address[0] not in after:
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect(address)
    second.close()


def test_a_start_that_fails_changes_nothing_of_what_is_kept(store, notifier, monkeypatch, host, taken):
    host.addresses = ["127.0.0.1", "127.0.0.2"]
    first = Listeners(FdStore(notifier, {}, 0))
    first.open(settings_of("app.test:0"))
    before = store.names()
    first.close()
    host.addresses = ["127.0.0.1"]
    second = Listeners(store.pass_on(notifier, monkeypatch))
    with pytest.raises(BindError):
        second.open(settings_of("app.test:0", taken))
    second.close()
    assert store.names() == before


def test_without_a_service_manager_socket_files_are_removed(tmp_path):
    listeners = Listeners()
    listeners.open(settings_of(f"unix:{tmp_path}/a.sock"))
    listeners.close()
    assert not (tmp_path / "a.sock").exists()


# --- sockets of socket units


def test_sockets_are_chosen_by_name(store, notifier, monkeypatch, caplog):
    one, two, other = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    for sock in (one, two, other):
        sock.set_inheritable(True)
    passed = [(one.fileno(), "web"), (two.fileno(), "web"), (other.fileno(), "admin")]
    fd_store = store.pass_on(notifier, monkeypatch, *passed)
    listeners = Listeners(fd_store)
    found = listeners.open(settings_of("systemd:web", backlog=100))
    assert [listener.sock.getsockname() for listener in found] == [one.getsockname(), two.getsockname()]
    assert not any(listener.sock.get_inheritable() for listener in found)
    assert not any(sock.get_inheritable() for sock in (one, two, other))
    fd_store.discard_unused()
    assert [record.getMessage() for record in caplog.records] == [
        "systemd passed the socket admin, which is not served: add --bind systemd:admin"
    ]
    # systemd has them anyway.
    assert store.names() == []
    listeners.close()
    for sock in (one, two, other):
        sock.close()


@pytest.fixture
def web():
    """A socket that a socket unit passes."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_socket_that_was_not_served_can_be_bound_later(store, notifier, monkeypatch, web, caplog):
    fd_store = store.pass_on(notifier, monkeypatch, (web.fileno(), "web"))
    listeners = Listeners(fd_store)
    listeners.open(settings_of("127.0.0.1:0"))
    fd_store.discard_unused()
    assert "systemd passed the socket web, which is not served" in caplog.text
    (listener,) = listeners.open(settings_of("127.0.0.1:0", "systemd:web"))
    assert listener.sock.getsockname() == web.getsockname()
    listeners.close()


@pytest.mark.parametrize("bind", ["systemd:web", "fd://{fd}"])
def test_a_socket_that_a_reload_took_away_can_be_opened_again(
    store, notifier, monkeypatch, web, caplog, bind
):
    fd_store = store.pass_on(notifier, monkeypatch, (web.fileno(), "web"))
    listeners = Listeners(fd_store)
    binds = settings_of(bind.format(fd=web.fileno()))
    (first,) = listeners.open(binds)
    fd_store.discard_unused()
    (gone,) = listeners.keep_only(settings_of("127.0.0.1:0"))
    assert gone is first
    assert gone.is_passed
    gone.close()
    with socket.create_connection(web.getsockname(), timeout=5):  # it waits
        (again,) = listeners.open(binds)
        connection, _ = again.sock.accept()
        connection.close()
    assert caplog.records == []
    listeners.close()


def test_a_reload_that_is_refused_does_not_cost_the_socket(store, notifier, monkeypatch, web, taken):
    fd_store = store.pass_on(notifier, monkeypatch, (web.fileno(), "web"))
    listeners = Listeners(fd_store)
    fd_store.discard_unused()
    with pytest.raises(BindError):
        listeners.open(settings_of("systemd:web", taken))
    (listener,) = listeners.open(settings_of("systemd:web"))
    assert listener.sock.getsockname() == web.getsockname()
    listeners.close()


def test_all_sockets_of_a_name_are_used_or_none(store, notifier, monkeypatch, web):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        fd_store = store.pass_on(notifier, monkeypatch, (web.fileno(), "web"), (other.fileno(), "web"))
        with pytest.raises(BindError, match="cannot use systemd:web: it is not a stream socket"):
            Listeners(fd_store).open(settings_of("systemd:web"))
        assert other.fileno() >= 0


def test_a_name_that_was_not_passed_says_what_to_do():
    with pytest.raises(BindError, match="cannot use systemd:web: systemd passed no socket of that name"):
        Listeners().open(settings_of("systemd:web"))


def test_a_descriptor_can_still_be_named_by_its_number(store, notifier, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as web:
        fd_store = store.pass_on(notifier, monkeypatch, (web.fileno(), "web"))
        listeners = Listeners(fd_store)
        (listener,) = listeners.open(settings_of(f"fd://{web.fileno()}"))
        fd_store.discard_unused()
        assert not caplog.records
        assert listener.sock.getsockname() == web.getsockname()
        listeners.close()


def test_a_descriptor_that_is_none_is_passed_over(store, notifier, monkeypatch, tmp_path):
    """Stored under our name, but not a socket: we bind our own, whatever put it there."""
    fd = os.open(tmp_path, os.O_RDONLY)
    fd_store = store.pass_on(notifier, monkeypatch, (fd, stored_name("127.0.0.1:0", None)), (9999, "gone"))
    listeners = Listeners(fd_store)
    (listener,) = listeners.open(settings_of("127.0.0.1:0"))
    assert listener.url.startswith("http://127.0.0.1:")
    listeners.close()
