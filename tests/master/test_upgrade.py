"""What passes between a program and the one that replaces it."""

import os
import select
import selectors
import socket
import sys
import time
from pathlib import Path

import pytest

from asgi_master import __version__, codec
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import Boot, WorkerBooted
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.master import child, upgrade_protocol
from asgi_master.master.child import WorkerHandle, ZygoteHandle
from asgi_master.master.fd_store import FdStore
from asgi_master.master.listeners import Listeners
from asgi_master.master.pid_file import PidFile
from asgi_master.master.preflight import Preflight, PreflightResult, judge
from asgi_master.master.process import Process
from asgi_master.master.sd_notify import Notifier
from asgi_master.master.upgrade_protocol import (
    READY_MARKER,
    UpgradeMode,
    check_sections,
    command,
    receive,
    write_state,
)
from asgi_master.master.upgrade_state import VERSION, StateError, StateSection, UpgradeState, decode, encode
from asgi_master.master.variables import UPGRADE
from asgi_master.settings.model import ApplicationSettings, Settings, SocketSettings


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read
    os.close(write)


def is_open(fd):
    return Path(f"/proc/self/fd/{fd}").exists()


# --- sections


def through_json(state: UpgradeState) -> dict[str, StateSection]:
    return decode(encode(state.export(), "1.0"), os.getpid())


def register_counts(state: UpgradeState) -> StateSection:
    """A part that is its own section."""
    return state.register("counts", create=StateSection, restore=lambda left: left, export=lambda part: part)


def test_a_part_is_exported_as_it_is_then_and_restored(pipe):
    state = UpgradeState()
    assert not state.is_upgrade
    counts = register_counts(state)
    assert counts == StateSection()
    counts.values["a"], counts.fds["pipe"] = 2, pipe
    sections = through_json(state)
    os.set_inheritable(pipe, True)
    after = UpgradeState(sections)
    assert after.is_upgrade
    assert not os.get_inheritable(pipe)
    assert register_counts(after) == StateSection({"a": 2}, {"pipe": pipe})
    assert after.close_unknown() == []
    os.close(pipe)


def test_a_part_that_is_not_there_has_no_section():
    state = UpgradeState()
    assert (
        state.register("none", create=lambda: None, restore=lambda _left: None, export=lambda part: part)
        is None
    )
    assert state.export() == {}


def test_sections_of_unknown_parts_are_closed_and_named(pipe):
    state = UpgradeState({"of old": StateSection({}, {"pipe": pipe}), "words": StateSection()})
    assert state.close_unknown() == ["of old", "words"]
    assert not is_open(pipe)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{}", "cannot be read: KeyError"),
        (b'{"version": 1, "program": "1", "pid": 7, "sections": {"a": 3}}', "cannot be read"),
        (
            b'{"version": 99, "program": "3.1", "pid": 7}',
            "asgi-master 3.1 has version 99, this program reads 1",
        ),
        (b'{"version": 1, "program": "1", "pid": 8, "sections": {}}', "that of process 8, not of 7"),
    ],
)
def test_a_state_that_is_not_ours_is_refused(state, why):
    assert VERSION == 1
    with pytest.raises(StateError, match=why):
        decode(state, 7)


# --- the variable and the state


def test_the_state_reaches_the_same_process_once(pipe):
    fd = write_state({"a": StateSection({"b": [1]}, {"pipe": pipe})})
    environ = {UPGRADE: f"take:{fd}", "HOME": "/"}
    found = receive(environ)
    assert found is not None
    assert (found.mode, found.sections) == (
        UpgradeMode.TAKE_OVER,
        {"a": StateSection({"b": [1]}, {"pipe": pipe})},
    )
    assert environ == {"HOME": "/"}
    assert not is_open(fd)
    assert receive(environ) is None
    os.close(pipe)


@pytest.mark.parametrize("text", ["", "take", "take:", "take:x", "take:9999", "dance:0"])
def test_a_variable_that_leads_nowhere_is_an_error_not_an_ordinary_start(text):
    with pytest.raises(StateError, match="cannot be read"):
        receive({UPGRADE: text})


def test_a_check_belongs_to_its_parent():
    fd = write_state({})
    with pytest.raises(StateError, match=f"is that of process {os.getpid()}"):
        receive({UPGRADE: f"check:{fd}"})


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/v/bin/python", "-m", "asgi_master", "a:b"], ["/v/bin/python", "-m", "asgi_master", "a:b"]),
        (["v/bin/python", "v/bin/asgi-master"], ["v/bin/python", "v/bin/asgi-master"]),
        (["python3", "-X", "dev", "serve.py"], [sys.executable, "-X", "dev", "serve.py"]),
        ([], [sys.executable]),
    ],
)
def test_the_command_is_that_of_the_start(monkeypatch, argv, expected):
    monkeypatch.setattr(sys, "orig_argv", argv)
    assert command() == expected


def test_descriptors_are_inherited_inside_only(pipe):
    with pytest.raises(OSError, match="no exec"), upgrade_protocol.inherited({pipe}):
        assert os.get_inheritable(pipe)
        raise OSError("no exec")
    assert not os.get_inheritable(pipe)
    os.close(pipe)


def test_inside_a_directory_and_back(tmp_path):
    before = Path.cwd()
    with upgrade_protocol.inside(str(tmp_path)):
        assert Path.cwd() == tmp_path
    assert Path.cwd() == before
    with pytest.raises(FileNotFoundError), upgrade_protocol.inside(str(tmp_path / "gone")):
        pass
    assert Path.cwd() == before


def test_sections_without_what_is_needed_are_refused():
    with pytest.raises(StateError, match="lacks what this program needs"):
        check_sections({})
    settings = {"executor": StateSection({"settings": codec.dump(Settings())})}
    with pytest.raises(StateError, match="'supervisor'"):
        check_sections(settings)
    with pytest.raises(StateError, match="state of the running master"):
        check_sections({**settings, "supervisor": StateSection({"fleet": {}})})


def test_children_that_cannot_be_read_are_refused():
    child.load(StateSection({"zygotes": [], "workers": []}))
    with pytest.raises(ValueError, match=r"SavedWorker\.slot is missing"):
        child.load(StateSection({"zygotes": [], "workers": [{"worker": 1}]}))
    with pytest.raises(TypeError, match="WorkerForked is not what a zygote is booted with"):
        boot = '["Forked", {"pid": 1}]'
        zygote = {"generation": 1, "pid": 2, "channel": 3, "boot": boot}
        child.load(StateSection({"zygotes": [zygote], "workers": []}))


# --- the result


@pytest.mark.parametrize(
    ("status", "output", "result"),
    [
        (0, f"a warning\n{READY_MARKER}{__version__}\n", PreflightResult(version=__version__)),
        (0, "", PreflightResult(refusal="the new program does not know how to take over: restart instead")),
        (
            0,
            f"{READY_MARKER}1\nand more",
            PreflightResult(refusal="the new program does not know how to take over: restart instead"),
        ),
        (
            1,
            f"{READY_MARKER}1\n",
            PreflightResult(refusal=f"the new program ended with exit status 1: {READY_MARKER}1"),
        ),
        (
            2,
            "asgi-master: error: one\nasgi-master: error: two\n",
            PreflightResult(refusal="one; two"),
        ),
        (
            -9,
            "",
            PreflightResult(
                refusal="the new program ended with killed by SIGKILL (the kernel's OOM killer, or someone's kill -9)"
            ),
        ),
        (
            1,
            "Traceback\n  File\nImportError: \x1b[1mno\n",
            PreflightResult(refusal="the new program ended with exit status 1: ImportError: \\x1b[1mno"),
        ),
    ],
)
def test_the_verdict(status, output, result):
    assert judge(status, output) == result


def fly(monkeypatch, directory, code, timeout=20.0):
    """The result of a real check whose new program is this code."""
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-S", "-c", code])
    with selectors.DefaultSelector() as selector:
        waiting = {}
        state = write_state({})
        flight = Preflight(
            selector,
            waiting.__setitem__,
            command=command(),
            directory=str(directory),
            state_fd=state,
            timeout=timeout,
            now=time.monotonic(),
        )
        ((pid, told),) = waiting.items()
        while not select.select([child_fd := os.pidfd_open(pid)], [], [], 0)[0]:
            os.close(child_fd)
            for key, _events in selector.select(0.01):
                key.data()
            flight.sweep(time.monotonic())
        os.close(child_fd)
        told(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        flight.close()
        assert not os.get_inheritable(state)
        os.close(state)
        return flight.result


SAY = f"print('{READY_MARKER}2.0')"


def test_the_check_runs_in_its_directory_with_the_state_alone(monkeypatch, tmp_path):
    # The process that runs the tests may have passed on some of its own.
    known = {fd for fd in range(3, 1024) if is_open(fd) and os.get_inheritable(fd)}
    code = f"""
import os
errand, fd = os.environ["{UPGRADE}"].split(":")
assert errand == "check" and os.getcwd() == {str(tmp_path)!r}
assert b'"version": 1' in os.pread(int(fd), 1000, 0)
listing = os.open("/proc/self/fd", os.O_RDONLY)
assert set(map(int, os.listdir(listing))) <= {known | {0, 1, 2}} | {{int(fd), listing, listing + 1}}, os.listdir(listing)
{SAY}"""
    before = Path.cwd()
    assert fly(monkeypatch, tmp_path, code) == PreflightResult(version="2.0")
    assert Path.cwd() == before


def test_the_check_knows_which_sockets_systemd_passed_and_takes_none(monkeypatch, tmp_path):
    """They are what is served where no `bind` is set: settings that lack them may not be right."""
    for name, value in {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "LISTEN_PID": str(os.getpid())}.items():
        monkeypatch.setenv(name, value)
    code = f"""
import os
told = {{name: value for name, value in os.environ.items() if name.startswith("LISTEN_")}}
assert told == {{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}}, told
{SAY}"""
    assert fly(monkeypatch, tmp_path, code) == PreflightResult(version="2.0")


def test_much_that_is_said_before_does_no_harm(monkeypatch, tmp_path):
    code = f"print('x' * 999 + chr(10), end='')\nfor _ in range(999): print('y' * 999)\n{SAY}"
    assert fly(monkeypatch, tmp_path, code) == PreflightResult(version="2.0")


def test_what_the_check_leaves_running_is_not_waited_for(monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "end")
    end = os.open(tmp_path / "end", os.O_RDWR)
    code = f"{SAY[:-1]}, flush=True)\nimport os\nend = open('end')\nif os.fork() == 0: end.read(1)"
    assert fly(monkeypatch, tmp_path, code) == PreflightResult(version="2.0")
    os.write(end, b"x")
    os.close(end)


def test_a_check_that_does_not_end_is_ended(monkeypatch, tmp_path):
    result = fly(monkeypatch, tmp_path, "import time; time.sleep(60)", timeout=0.1)
    assert result == PreflightResult(refusal="the new program did not answer within 0.1 s")


def test_a_check_that_crashes(monkeypatch, tmp_path):
    result = fly(monkeypatch, tmp_path, "import os; os.kill(os.getpid(), 11)")
    assert "SIGSEGV" in result.refusal


def test_a_program_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "orig_argv", [str(tmp_path / "python")])
    with selectors.DefaultSelector() as selector, pytest.raises(FileNotFoundError):
        Preflight(selector, {}.__setitem__, command=command(), directory="/", state_fd=2, timeout=1, now=0)


def test_a_reason_is_bounded():
    assert len(judge(1, "x" * 10_000).refusal) <= 500


# --- the parts


def test_children_cross_with_their_channels():
    board = Scoreboard.create()
    ours, theirs = Channel.pair()
    hung_up, other = Channel.pair()
    hung_up.close()
    other.close()
    boot = Boot(3, "/srv", Settings(ApplicationSettings(app="a:b")))
    workers = [
        WorkerHandle(7, 1, 3, board.row(2), ours, stack_fd=-1, process=Process(99)),
        WorkerHandle(8, 0, 3, board.row(1), hung_up, -1),
    ]
    left = child.export_state([ZygoteHandle(3, Process(98), hung_up, boot)], workers)
    (section,) = decode(encode({"children": left}, "1"), os.getpid()).values()
    assert list(section.fds.values()) == [ours.fileno()]
    saved = child.load(section)
    (zygote,) = child.zygotes_of(saved)
    assert (zygote.generation, zygote.process.pid, zygote.boot) == (3, 98, boot)
    assert zygote.channel.fileno() == -1
    first, second = child.workers_of(saved, board)
    assert (first.worker, first.slot, first.generation, first.row.index, first.pid) == (7, 1, 3, 2, 99)
    assert (second.channel.fileno(), second.pid) == (-1, None)
    assert theirs.send(WorkerBooted())
    received = first.channel.receive()
    assert received is not None
    assert received.message == WorkerBooted()
    with pytest.raises(BlockingIOError):
        first.channel.receive()
    first.channel.close()
    ours._socket.detach()
    theirs.close()
    board.close()


def section_of(listeners: Listeners) -> StateSection:
    """As the next program finds it."""
    (section,) = decode(encode({"listeners": listeners.export_state()}, "1"), os.getpid()).values()
    return section


def test_listeners_cross_with_their_files(tmp_path):
    path = tmp_path / "app.sock"
    before = Listeners()
    settings = SocketSettings(bind=(f"unix:{path}", "127.0.0.1:0"))
    urls = [listener.url for listener in before.open(settings)]
    after = Listeners().import_state(section_of(before))
    for listener in before.of(settings):
        listener.sock.detach()
    assert after.open(settings) == []
    assert [listener.url for listener in after.of(settings)] == urls
    assert path.exists()
    after.close()
    assert not path.exists()


def test_what_was_passed_crosses_whether_it_is_served_or_not(monkeypatch, caplog):
    web, admin, other = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    passed = [(web.fileno(), "web"), (admin.fileno(), "admin")]
    monkeypatch.setattr("asgi_master.master.fd_store.passed_descriptors", lambda _environ, _pid: passed)
    before = Listeners(FdStore(Notifier({}), {}, 0))
    binds = SocketSettings(bind=("systemd:web", f"fd://{other.fileno()}"))
    opened = before.open(binds)
    for listener in before.keep_only(SocketSettings(bind=(f"fd://{other.fileno()}",))):
        listener.close()
    section = section_of(before)
    given = {sock.fileno() for sock in (web, admin, other)}
    assert given < set(section.fds.values())
    monkeypatch.setattr("asgi_master.master.fd_store.passed_descriptors", lambda _environ, _pid: [])
    fd_store = FdStore(Notifier({}), {}, 0)
    after = Listeners(fd_store).import_state(section)
    opened[1].sock.detach()
    after.open(binds)
    after.open(SocketSettings(bind=("systemd:admin",)))
    fd_store.discard_unused()
    assert caplog.records == [], "it was said at the start"
    urls = [listener.sock.getsockname() for listener in after.of(binds)]
    assert urls == [web.getsockname(), other.getsockname()]
    assert all(listener.is_passed for listener in after.of(binds))
    assert given == set(fd_store.export_state().fds.values())
    after.close()
    for sock in (web, admin, other):
        sock.close()


def test_a_program_that_did_not_keep_what_was_passed_can_be_followed(monkeypatch):
    before = Listeners()
    (listener,) = before.open(SocketSettings(bind=("127.0.0.1:0",)))
    section = section_of(before)
    del section.values["passed"]
    after = Listeners().import_state(section)
    listener.sock.detach()
    assert after.open(SocketSettings(bind=("127.0.0.1:0",))) == []
    after.close()


def test_a_pid_file_stays_locked(tmp_path):
    before = PidFile.write(tmp_path / "pid")
    after = PidFile.import_state(before.export_state())
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    after.remove()
    assert not (tmp_path / "pid").exists()
