"""SIGUSR2: the master becomes the program that is installed now, and no client notices."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until
from mixed_clients import MixedClients
from traffic import Traffic

UPGRADED = r"upgraded to asgi-master (\S+) \(same process"
HOOK = """
import os, pathlib
errand = os.environ.get("_ASGI_MASTER_UPGRADE", "").partition(":")[0]
hook = pathlib.Path(__file__).with_name(f"on_{errand}.py")
if errand and hook.exists():
    exec(hook.read_text())
"""
"""Imported by every interpreter of a fleet before anything else: lets a test step in as the new program starts."""
WAIT = """
import time
for _ in range(2000):
    if pathlib.Path(__file__).with_name("go").exists():
        break
    pathlib.Path(__file__).with_name("here").touch()
    time.sleep(0.01)
"""


def upgrade(fleet: Fleet, workers: int = 2) -> str:
    """Upgrade, and wait until the reload that follows is over; returns the version."""
    after = len(fleet.lines)
    fleet.send(signal.SIGUSR2)
    version = fleet.wait_line(UPGRADED, after=after)[1]
    fleet.wait_line(rf"reloaded: {workers} workers? serving", 2 * PATIENCE, after=after)
    fleet.wait_settled(workers)
    return version


def refused(fleet: Fleet, why: str) -> None:
    """Ask for an upgrade, and see it refused."""
    after = len(fleet.lines)
    fleet.send(signal.SIGUSR2)
    fleet.wait_line(f"upgrade refused: .*{why}", after=after)


def status(fleet: Fleet) -> dict:
    (path,) = fleet.directory.glob("*.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://master") as client:
        return client.get("/status").json()


def metric(fleet: Fleet, name: str) -> float:
    """The sum of the metric's values."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{fleet.directory}/admin")) as client:
        lines = client.get("http://admin/metrics").text.splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith(f"asgi_master_{name}")]
    assert values
    return sum(values)


def with_hooks(fleet: Fleet, *path: str) -> dict[str, str]:
    fleet.write("sitecustomize.py", HOOK)
    return {"PYTHONPATH": ":".join([str(fleet.directory), *path, str(SOURCE), str(APPS)])}


@pytest.mark.timeout(120)
def test_upgrades_in_a_row_under_clients_of_every_kind(fleet: Fleet) -> None:
    fleet.serve(
        "probe:app",
        "--watch-time",
        "0",
        "--drain-timeout",
        "10",
        "--admin-bind",
        f"unix:{fleet.directory}/admin",
        "--control-socket",
        str(fleet.directory / "control.sock"),
        "--pid-file",
        str(fleet.directory / "pid"),
    )
    clients = MixedClients(fleet.port, pause=0.01)
    before, counted = status(fleet), []
    requests = [metric(fleet, "http_requests_total")]

    async def upgrade_twice() -> None:
        for _ in range(2):
            workers = {worker.pid for worker in fleet.workers()}
            after = len(fleet.lines)
            fleet.send(signal.SIGUSR2)
            await asyncio.to_thread(fleet.wait_line, UPGRADED, PATIENCE, after=after)
            assert workers <= {worker.pid for worker in fleet.workers()}, "the workers are still those"
            await asyncio.to_thread(fleet.wait_line, "reloaded: 2 workers", 2 * PATIENCE, after=after)
            await asyncio.to_thread(fleet.wait_settled, 2)
            assert not clients.failures, clients.failures
            counted.append(fleet.descriptors())
            requests.append(metric(fleet, "http_requests_total"))

    asyncio.run(clients.run_while(upgrade_twice()))
    assert not clients.failures
    assert len(clients.answers) >= 6, f"some kind of client had no answer: {clients.answers}"
    wait_until(lambda: fleet.descriptors() <= counted[0], f"no descriptor is left over: {counted}")
    now = status(fleet)
    assert (now["pid"], now["generation"], now["uptime"] > before["uptime"]) == (fleet.pid, 3, True)
    assert now["last_reload"]["generation"] == 3
    assert requests == sorted(requests), "counters never go back"
    assert requests[0] < requests[1]
    assert metric(fleet, 'reloads_total{result="committed"}') == 2
    assert (fleet.directory / "pid").read_text() == f"{fleet.pid}\n"
    assert fleet.stop() == 0
    assert not (fleet.directory / "pid").exists()
    assert not (fleet.directory / "control.sock").exists()


def release(fleet: Fleet, number: int, version: str) -> None:
    """A directory that holds a program of this version, as a script; `current` leads there."""
    place = fleet.directory / f"release-{number}"
    shutil.copytree(SOURCE / "asgi_master", place / "asgi_master")
    package = place / "asgi_master" / "__init__.py"
    package.write_text(package.read_text().replace('__version__ = "', f'__version__ = "{version}+'))
    script = place / "serve"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom asgi_master.cli.app import main\n"
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    script.chmod(0o755)
    new = fleet.directory / "new"
    new.symlink_to(place.name)
    new.rename(fleet.directory / "current")


def test_a_deploy_by_symbolic_link_brings_a_new_version(fleet: Fleet) -> None:
    home = fleet.directory
    release(fleet, 1, "1")
    fleet.directory = home / "current"
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        fleet.serve(
            "probe:app",
            "--bind",
            f"fd://{inherited.fileno()}",
            "--bind",
            f"unix:{home}/app.sock",
            program=["./serve"],
            env={
                "PWD": str(fleet.directory),
                "PYTHONPATH": f"{home}/current:{APPS}",
                "PYTHONDONTWRITEBYTECODE": "",
            },
            pass_fds=(inherited.fileno(),),
        )
        fleet.directory = home
        release(fleet, 2, "2")
        assert upgrade(fleet).startswith("2+")
        port = inherited.getsockname()[1]
    assert httpx.get(f"http://127.0.0.1:{port}/who", trust_env=False).json()["generation"] == "2"
    assert httpx.get(f"{fleet.url}/who", trust_env=False).json()["generation"] == "2"
    with httpx.Client(transport=httpx.HTTPTransport(uds=f"{home}/app.sock")) as client:
        assert client.get("http://app/who").json()["generation"] == "2"
    working_directories = {Path(f"/proc/{worker.pid}/cwd").readlink() for worker in fleet.workers()}
    assert working_directories == {home / "release-2"}
    fleet.stop_cleanly()
    assert not (home / "app.sock").exists()


def test_a_program_that_cannot_take_over_is_refused(fleet: Fleet) -> None:
    release(fleet, 1, "1")
    package = fleet.directory / "current" / "asgi_master"
    env = with_hooks(fleet, f"{fleet.directory}/current") | {"PYTHONDONTWRITEBYTECODE": ""}
    fleet.serve("probe:app", "--watch-time", "0", env=env)
    fleet.expect_log("upgrade refused")
    before = fleet.workers()

    def broken(file: str, old: str, new: str, why: str) -> None:
        path = package / file
        good, written = path.read_text(), path.stat().st_mtime_ns
        assert old in good
        path.write_text(good.replace(old, new))
        refused(fleet, why)
        path.write_text(good)
        # Bytecode is validated by the second and the size.
        os.utime(path, ns=(written, written))

    with Traffic(fleet, clients=1) as traffic, fleet.keeping_descriptors():
        broken("master/upgrade.py", "import logging", "import no_such_module", "no_such_module")
        broken(
            "master/upgrade_state.py",
            "VERSION = 1",
            "VERSION = 2",
            "version 1, this program reads 2: restart",
        )
        fleet.write("asgi-master.toml", "backlog = 'many'\nboot-timeout = -1\n")
        refused(fleet, "boot-timeout: .*; backlog: |backlog: .*; boot-timeout: ")
        fleet.write("asgi-master.toml", "")
        traffic.wait_for_more(20)
        assert fleet.workers() == before
        assert upgrade(fleet).startswith("1+")
    assert traffic.failures == []


def test_a_failing_exec_changes_nothing(fleet: Fleet) -> None:
    python = fleet.directory / "bin" / "python"
    python.parent.mkdir()
    target = Path(sys.executable).resolve()
    if sys.prefix != sys.base_prefix:
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", fleet.directory)
        (fleet.directory / "lib").symlink_to(Path(sys.prefix) / "lib")
    python.symlink_to(target)
    # The check is the last that this interpreter does.
    fleet.write("on_check.py", f"os.unlink({str(python)!r})")
    program = [str(python), "-m", "asgi_master"]
    fleet.serve("probe:app", "--watch-time", "0", program=program, env=with_hooks(fleet))
    fleet.expect_log("upgrade failed")
    with Traffic(fleet, clients=2) as traffic, fleet.keeping_descriptors():
        fleet.send(signal.SIGUSR2)
        fleet.wait_line(r"upgrade failed: .*bin/python: No such file.*; the running program goes on")
        assert not [fd for fd in Path(f"/proc/{fleet.pid}/fd").iterdir() if is_inherited(fleet.pid, fd.name)]
        (fleet.directory / "on_check.py").unlink()
        python.symlink_to(target)
        # It still handles signals, reloads, and upgrades.
        fleet.send(signal.SIGHUP)
        fleet.wait_line("reloaded: 2 workers serving generation 2")
        upgrade(fleet)
    assert traffic.failures == []


def is_inherited(pid: int, fd: str) -> bool:
    """Whether a program that the process executes would get it (the standard streams apart)."""
    flags = dict(
        line.split(":\t")
        for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
        if ":\t" in line
    )["flags"]
    return int(fd) > 2 and not int(flags, 8) & os.O_CLOEXEC


def test_what_happens_while_no_program_listens(fleet: Fleet) -> None:
    """Between the exec and the new program's first look: a worker is killed, a reload and a scaling are asked for."""
    fleet.serve("probe:app", "--watch-time", "0", env=with_hooks(fleet))
    fleet.expect_log("worker 0 .*lost|killed by SIGKILL")
    fleet.write("on_take.py", WAIT)
    fleet.send(signal.SIGUSR2)
    wait_until((fleet.directory / "here").exists, "the new program starts")
    os.kill(fleet.workers()[0].pid, signal.SIGKILL)
    fleet.send(signal.SIGTTIN)
    fleet.send(signal.SIGUSR2)
    fleet.write("go", "")
    fleet.wait_line("killed by SIGKILL")
    fleet.wait_workers(lambda seen: len(seen) >= 2, "it is replaced")
    fleet.wait_line(UPGRADED)
    fleet.wait_line("SIGUSR2: upgrading after the reload")
    (fleet.directory / "on_take.py").unlink()
    fleet.wait_line("reloaded: 3 workers serving generation 2")
    fleet.wait_line("reloaded: [23] workers serving generation 3", 2 * PATIENCE)
    assert sum("killed by SIGKILL" in line for line in fleet.lines) == 1
    assert sum("upgraded to" in line for line in fleet.lines) == 2


def test_a_stop_that_comes_during_the_exec(fleet: Fleet) -> None:
    fleet.serve(env=with_hooks(fleet))
    fleet.write("on_take.py", WAIT)
    fleet.send(signal.SIGUSR2)
    wait_until((fleet.directory / "here").exists, "the new program starts")
    fleet.send(signal.SIGTERM)
    fleet.write("go", "")
    assert fleet.wait_exit() == 0
    assert any("upgraded to" in line for line in fleet.lines)


def test_the_new_master_goes_on_with_old_workers_if_new_ones_fail(fleet: Fleet) -> None:
    fleet.serve_source("from probe import app\n", env=with_hooks(fleet))
    fleet.expect_log("bad deploy", "Traceback", "reload failed", "SIGKILL")
    before = fleet.workers()
    fleet.write("changing.py", "raise RuntimeError('bad deploy')\n")
    fleet.send(signal.SIGUSR2)
    fleet.wait_line(UPGRADED)
    fleet.wait_line("(?i)reload.*fail|fail.*reload")
    fleet.wait_settled(2)
    assert fleet.workers() == before
    # The zygote of the old program, which holds the good code, still forks for the new one.
    os.kill(before[0].pid, signal.SIGKILL)
    fleet.wait_workers(
        lambda seen: len(seen) == 2 and before[0] not in seen and seen[0].generation == 1, "it is replaced"
    )


def test_when_it_is_not_the_time(fleet: Fleet) -> None:
    fleet.expect_log("upgrade refused")
    fleet.write("on_check.py", WAIT)
    fleet.write(
        "slow.py",
        "import pathlib, time\n"
        "while not pathlib.Path('boot').exists(): time.sleep(0.01)\n"
        "from probe import app\n",
    )
    fleet.start("--workers", "1", "--bind", "127.0.0.1:0", "slow:app", env=with_hooks(fleet))
    fleet.wait_line("starts 1 worker")
    refused(fleet, "still starting")
    fleet.write("boot", "")
    fleet.wait_ready(1)
    for _ in range(3):
        fleet.send(signal.SIGUSR2)
    wait_until((fleet.directory / "here").exists, "the check has begun")
    # One that is under way does not hold a reload up, and follows it.
    fleet.send(signal.SIGHUP)
    fleet.wait_line("reloaded: 1 worker serving generation 2")
    fleet.write("go", "")
    fleet.wait_line(UPGRADED)
    (fleet.directory / "here").unlink()
    (fleet.directory / "go").unlink()
    fleet.wait_line("reloaded: 1 worker serving generation 3")
    # Nor does it hold up a stop.
    fleet.send(signal.SIGUSR2)
    wait_until((fleet.directory / "here").exists, "the check has begun")
    assert fleet.stop() == 0
    assert sum("upgraded to" in line for line in fleet.lines) == 1
