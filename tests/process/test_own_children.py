"""Processes that the application starts are as they would be without us, and hold nothing up."""

import signal
import socket

import psutil
import pytest

from fleet import APPS, SOURCE, Fleet

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
STATUS = "import subprocess\nSTATUS = lambda: subprocess.run(['grep', '-E', 'Sig(Ign|Blk)', '/proc/self/status'], capture_output=True, text=True).stdout\n"
EXECUTED = f"""
import asyncio, probe, subprocess, sys
{STATUS}
at_import = STATUS()
long = subprocess.Popen(["sleep", "60"])
long.terminate()
ended = long.wait(10)
async def status(scope, receive, send, query):
    await probe.answer_json(send, [at_import, ended, STATUS()])
async def run(scope, receive, send, query):
    process = await asyncio.create_subprocess_exec("sleep", "60")
    process.send_signal(int(query["signal"]))
    await probe.answer(send, str(await asyncio.wait_for(process.wait(), 10)).encode())
async def trap(scope, receive, send, query):
    script = "trap 'echo trapped' INT; kill -INT $$"
    await probe.answer(send, subprocess.run(["sh", "-c", script], capture_output=True).stdout)
probe.ENDPOINTS |= {{"/status": status, "/run": run, "/trap": trap}}
app = probe.app
"""
FORKED = """
import multiprocessing, os, probe, signal, time
context = multiprocessing.get_context("fork")
begun = context.Event()
def sleep():
    begun.set()
    time.sleep(60)
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep()
def square(number): return number * number
kept = []
async def start(scope, receive, send, query):
    child = context.Process(target=globals()[query["what"]], daemon="daemon" in query, name="helper")
    child.start()
    kept.append(child)
    assert begun.wait(10)
    begun.clear()
    await probe.answer(send, str(child.pid).encode())
async def pool(scope, receive, send, query):
    kept.append(context.Pool(2))
    await probe.answer(send, str(kept[-1].map(square, [1, 2, 3])).encode())
async def end(scope, receive, send, query):
    child = kept[-1]
    os.kill(child.pid, int(query["signal"]))
    child.join(10)
    await probe.answer(send, str(child.exitcode).encode())
probe.ENDPOINTS |= {"/start": start, "/pool": pool, "/end": end}
app = probe.app
"""
LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


def ignored(status: str) -> int:
    """Without the two that the C library keeps for itself."""
    words = status.split()
    return (int(words[1], 16) | int(words[3], 16)) & ((1 << 31) - 1)


@pytest.mark.parametrize("preload", ["auto", "off"])
@LOOPS
def test_a_program_ignores_no_signal(fleet: Fleet, loop: str, preload: str) -> None:
    fleet.serve_source(EXECUTED, "--loop", loop, "--preload", preload, workers=1, env=WITH_PROBE)
    with fleet.client() as client:
        at_import, ended, now = client.get("/status").json()
        assert (ignored(at_import), ended, ignored(now)) == (0, -signal.SIGTERM, 0)
        for signum in (
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGQUIT,
            signal.SIGTERM,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):
            assert client.get("/run", params={"signal": int(signum)}).text == str(-signum)
        assert client.get("/trap").text == "trapped\n"


def test_a_worker_and_a_zygote_pass_them_over_all_the_same(fleet: Fleet) -> None:
    fleet.serve_source(EXECUTED, workers=1, env=WITH_PROBE)
    (worker,) = fleet.workers()
    (zygote,) = fleet.zygotes()
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        psutil.Process(worker.pid).send_signal(signum)
        zygote.send_signal(signum)
    zygote.send_signal(signal.SIGTERM)
    with fleet.client() as client:
        assert client.get("/trap").text == "trapped\n"
    assert fleet.workers() == [worker]
    assert fleet.zygotes() == [zygote]


@LOOPS
def test_a_forked_child_has_default_handlers(fleet: Fleet, loop: str) -> None:
    fleet.serve_source(FORKED, "--loop", loop, "--stall-warn", "0", workers=1, env=WITH_PROBE)
    (worker,) = fleet.workers()
    with fleet.client() as client:
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            client.get("/start", params={"what": "sleep"})
            assert client.get("/end", params={"signal": int(signum)}).text == str(-signum)
    assert fleet.workers() == [worker]
    assert "SIGTERM" not in fleet.log


@pytest.mark.parametrize("what", ["sleep", "stubborn"])
@LOOPS
def test_a_daemon_child_ends_with_its_worker(fleet: Fleet, loop: str, what: str) -> None:
    fleet.serve_source(FORKED, "--loop", loop, "--stall-warn", "0", workers=1, env=WITH_PROBE)
    with fleet.client() as client:
        child = int(client.get("/start", params={"what": what, "daemon": "1"}).text)
    fleet.stop_cleanly()
    assert not psutil.pid_exists(child)


def test_a_false_child_is_left_alone_and_logged(fleet: Fleet) -> None:
    fleet.expect_log(r"WARNING.*leaving a process of the application behind: helper \[\d+\]")
    fleet.serve_source(FORKED, "--stall-warn", "0", workers=1, env=WITH_PROBE)
    with fleet.client() as client:
        child = int(client.get("/start", params={"what": "sleep"}).text)
    port = fleet.port
    fleet.send(signal.SIGTERM)
    fleet.wait_line("stopped: all processes are gone")
    with socket.create_server(("127.0.0.1", port)):
        psutil.Process(child).kill()  # it holds our end of the log
    assert fleet.wait_exit() == 0


def test_a_pool_ends_with_its_worker(fleet: Fleet) -> None:
    fleet.serve_source(FORKED, "--stall-warn", "0", workers=1, env=WITH_PROBE)
    with fleet.client() as client:
        assert client.get("/pool").text == "[1, 4, 9]"
    fleet.stop_cleanly()


HOLDER = """
import contextlib, os, probe, socket, subprocess
async def hold(scope, receive, send, query):
    sockets = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") and socket.socket(fileno=os.dup(fd)).getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sockets.append(fd)
    await probe.answer(send, str(subprocess.Popen(["sleep", "60"], pass_fds=sockets).pid).encode())
probe.ENDPOINTS |= {"/hold": hold}
app = probe.app
"""


def test_who_is_left_and_keeps_the_port_is_named(fleet: Fleet) -> None:
    fleet.expect_log(r"WARNING.*keeps http://127.0.0.1:\d+ in use: sleep 60 \[\d+\]")
    fleet.serve_source(HOLDER, workers=1, env=WITH_PROBE)
    with fleet.client() as client:
        holder = int(client.get("/hold").text)
    port = fleet.port
    fleet.send(signal.SIGTERM)
    try:
        fleet.wait_line(rf"keeps http://127.0.0.1:{port} in use: sleep 60 \[{holder}\]")
    finally:
        psutil.Process(holder).kill()  # it holds our end of the log
    assert fleet.wait_exit() == 0
