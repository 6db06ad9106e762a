"""What is left behind is told by name; what can be shared is not."""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path

import pytest
import uvloop

from asgi_master.worker.fork_hazards import ForkHazards
from asgi_master.worker.native_threads import NativeThread, Region, libraries_on

Leave = Callable[[contextlib.ExitStack, Path], object]


def found(leave: Leave, directory: Path) -> list[str]:
    with contextlib.ExitStack() as stack:
        with ForkHazards() as hazards:
            kept = leave(stack, directory)
        lines = hazards.found()
        del kept
        return lines


def python_thread(stack, directory):
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="pusher")
    thread.start()
    stack.callback(thread.join)
    stack.callback(ended.set)


def raw_thread(stack, directory):
    import _thread

    started, ended = threading.Lock(), threading.Lock()
    started.acquire()
    ended.acquire()

    def run():
        started.release()
        ended.acquire()

    _thread.start_new_thread(run, ())
    started.acquire()
    stack.callback(ended.release)


def native_thread(stack, directory):
    """A thread that only the C library knows."""
    library = ctypes.CDLL(None)
    thread = ctypes.c_void_p()
    assert library.pthread_create(ctypes.byref(thread), None, library.sleep, ctypes.c_void_p(60)) == 0

    def end():
        library.pthread_cancel(thread)
        library.pthread_join(thread, None)

    stack.callback(end)


def tcp_connection(stack, directory):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    stack.enter_context(socket.create_connection(server.getsockname()))


def udp_connection(stack, directory):
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.connect(("127.0.0.1", 9))


def unix_connection(stack, directory):
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(str(directory / "db.sock"))
    server.listen()
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(str(directory / "db.sock"))


def socket_pair(stack, directory):
    for end in socket.socketpair():
        stack.enter_context(end)


def epoll(stack, directory):
    stack.enter_context(select.epoll())


def inotify(stack, directory):
    stack.callback(os.close, ctypes.CDLL(None).inotify_init())


def asyncio_loop(stack, directory):
    stack.callback(asyncio.new_event_loop().close)


def uvloop_loop(stack, directory):
    stack.callback(uvloop.new_event_loop().close)


def sqlite(stack, directory):
    database = sqlite3.connect(directory / "a.db")
    database.execute("create table t (x)")
    stack.callback(database.close)


def zip_file(stack, directory):
    (directory / "words").write_bytes(bytes(100_000))
    file = stack.enter_context(open(directory / "words", "rb", buffering=0))  # noqa: PTH123, SIM115
    file.read(10)


def child_process(stack, directory):
    process = subprocess.Popen(["sleep", "60"])
    stack.callback(process.wait)
    stack.callback(process.kill)


def alarm(stack, directory):
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 600)
    stack.callback(signal.signal, signal.SIGALRM, before)
    stack.callback(signal.setitimer, signal.ITIMER_REAL, 0)


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        (python_thread, "thread 'pusher'"),
        (raw_thread, "a thread"),
        (native_thread, "a thread of native code"),
        (tcp_connection, "a connection to 127.0.0.1:"),
        (udp_connection, "a connection to 127.0.0.1:9"),
        (unix_connection, "db.sock"),
        (socket_pair, "2 times a connected Unix socket"),
        (epoll, "an epoll instance"),
        (inotify, "an inotify instance"),
        (asyncio_loop, "an epoll instance"),
        (uvloop_loop, "an epoll instance"),
        (sqlite, "a.db, open to read and write"),
        (zip_file, "words, read in part"),
        (child_process, "a child process (sleep)"),
        (alarm, "an alarm"),
    ],
)
def test_it_is_found_and_named(leave, named, tmp_path):
    lines = found(leave, tmp_path)
    assert [line for line in lines if named in line], lines


def listener(stack, directory):
    stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def syslog(stack, directory):
    server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    server.bind(str(directory / "log"))
    stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).connect(str(directory / "log"))


def log_file(stack, directory):
    stack.enter_context(open(directory / "app.log", "a")).write("begun")  # noqa: PTH123, SIM115


def fresh_file(stack, directory):
    (directory / "words").write_text("hello")
    stack.enter_context(open(directory / "words"))  # noqa: PTH123, SIM115


def spent_file(stack, directory):
    (directory / "words").write_text("hello")
    stack.enter_context(open(directory / "words")).read()  # noqa: PTH123, SIM115


def shared(stack, directory):
    memory = shared_memory.SharedMemory(create=True, size=100)
    stack.callback(memory.unlink)
    stack.callback(memory.close)


def counter(stack, directory):
    return multiprocessing.Value("i"), multiprocessing.Lock()


def pool_that_was_closed(stack, directory):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(str, range(100)))


def nothing(stack, directory):
    assert socket.gethostbyname("localhost")


@pytest.mark.parametrize(
    "leave",
    [
        nothing,
        listener,
        syslog,
        log_file,
        fresh_file,
        spent_file,
        shared,
        counter,
        pool_that_was_closed,
    ],
)
def test_what_can_be_shared_is_left_alone(leave, tmp_path):
    assert found(leave, tmp_path) == []


def test_a_child_that_has_ended_is_no_matter(tmp_path):
    with ForkHazards() as hazards:
        ended = subprocess.Popen(["true"])
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert hazards.found() == []
    ended.wait()


def test_what_was_there_before_is_not_the_imports_doing(tmp_path):
    with contextlib.ExitStack() as stack:
        python_thread(stack, tmp_path)
        native_thread(stack, tmp_path)
        tcp_connection(stack, tmp_path)
        child_process(stack, tmp_path)
        with ForkHazards() as hazards:
            pass
        assert hazards.found() == []


@pytest.fixture
def _modules(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.usefixtures("_modules")
def test_the_module_in_whose_import_it_came_is_named(tmp_path):
    (tmp_path / "shop").mkdir()
    pair = "import socket\npair = socket.socketpair()\n"
    (tmp_path / "shop/__init__.py").write_text(f"{pair}from shop import inner\n")
    (tmp_path / "shop/inner.py").write_text("import os\n")
    (tmp_path / "shop/loops.py").write_text("import shop.inner, select\nepoll = select.epoll()\n")
    with ForkHazards() as hazards:
        import shop.loops
    assert hazards.found() == [
        "2 times a connected Unix socket (shop)",
        "an epoll instance, as event loops have one (shop.loops)",
    ]
    shop.loops.epoll.close()
    for end in shop.pair:
        end.close()


@pytest.mark.usefixtures("_modules")
def test_a_traceback_and_a_warning_of_an_import_look_as_ever(tmp_path, recwarn):
    (tmp_path / "old.py").write_text(
        "import warnings\nwarnings.warn('go', UserWarning, stacklevel=2)\n1 / 0\n"
    )
    with ForkHazards(), pytest.raises(ZeroDivisionError) as caught:
        import old  # noqa: F401
    frames = [frame.path for frame in caught.traceback]
    assert [Path(frame).name for frame in frames] == [Path(__file__).name, "old.py"]
    assert recwarn.pop(UserWarning).filename == __file__


CODE = [
    Region(0x1000, 0x2000, "/lib/x86_64-linux-gnu/libc.so.6", is_code=True),
    Region(0x3000, 0x4000, "/site/numpy.libs/libscipy_openblas64_-4b.so", is_code=True),
    Region(0x4000, 0x5000, "/site/numpy.libs/libscipy_openblas64_-4b.so", is_code=False),
    Region(0x5000, 0x6000, "/site/torch/lib/libgomp.so.1", is_code=True),
]


def stack_of(*words: int) -> bytes:
    return b"".join(word.to_bytes(8, sys.byteorder) for word in words)


@pytest.mark.parametrize(
    ("words", "libraries", "survives"),
    [
        ((0x1500, 0x3500, 0x1600), ["libscipy_openblas64_-4b.so"], True),
        ((0x3500, 0x5500, 0x1600), ["libgomp.so.1", "libscipy_openblas64_-4b.so"], False),
        ((0x4500, 0x1500), [], False),
        ((), [], False),
    ],
)
def test_a_stack_tells_whose_thread_it_is(words, libraries, survives):
    found = libraries_on(stack_of(*words), CODE)
    assert [Path(path).name for path in found] == libraries
    assert NativeThread(1, found).survives_fork is survives


@pytest.mark.parametrize(
    ("path", "survives"),
    [
        ("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3", True),
        ("/conda/lib/libopenblasp-r0.3.21.so", True),
        ("/site/numpy.libs/libopenblas64_p-r0-0cf96a72.3.23.dev.so", True),
        ("/srv/openblas/app/lib/libgomp.so.1", False),
        ("/conda/lib/libmkl_rt.so", False),
    ],
)
def test_libraries_that_see_to_forks_themselves(path, survives):
    assert NativeThread(1, (path,)).survives_fork is survives
