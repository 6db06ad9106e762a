"""`--reload`: change, see; break, read why; repair, see."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from fleet import APPS, SOURCE, Fleet, wait_until

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
PAGE = "import probe\nprobe.ENDPOINTS['/version'] = lambda s, r, send, q: probe.answer(send, b'{version}')\napp = probe.app\n"


def wait_watched(fleet: Fleet) -> None:
    """Until the watcher has told the kernel what to watch: an earlier change would go unseen."""

    def watches() -> bool:
        for child in psutil.Process(fleet.pid).children():
            with contextlib.suppress(OSError, psutil.Error):
                if "asgi_master.reloader" in child.cmdline():
                    return any(
                        "inotify wd" in info.read_text()
                        for info in Path(f"/proc/{child.pid}/fdinfo").iterdir()
                    )
        return False

    wait_until(watches, "the watcher watches")


def serves(fleet: Fleet, version: str) -> None:
    def right() -> bool:
        with fleet.client() as client:
            return client.get("/version").text == version

    wait_until(right, f"version {version} is served")


def test_the_development_loop(fleet: Fleet) -> None:
    fleet.serve_source(PAGE.format(version="one"), "--reload", workers=1, env=WITH_PROBE)
    fleet.expect_log("WARNING", "ERROR", "Traceback")
    serves(fleet, "one")
    wait_watched(fleet)
    fleet.write("changing.py", PAGE.format(version="two"))
    serves(fleet, "two")
    fleet.wait_line(r"reloaded in .* s: changing.py \((warm|cold)")
    mark = len(fleet.lines)
    fleet.write("changing.py", "def broken(:\n")
    fleet.wait_line(r"reload failed in .* s: changing.py \(.*SyntaxError: invalid syntax", after=mark)
    fleet.wait_line("  SyntaxError: invalid syntax", after=mark)
    with fleet.client() as client:
        for_browsers = client.get("/version", headers={"accept": "text/html,*/*;q=0.8"})
        assert for_browsers.status_code == 500
        assert "<mark>    1 def broken(:</mark>" in for_browsers.text
        assert "<code>changing.py</code>" in for_browsers.text
        assert client.get("/", headers={"accept": "application/json"}).json()["changed"] == ["changing.py"]
        assert "SyntaxError: invalid syntax" in client.get("/").text
    fleet.write("changing.py", PAGE.format(version="three"))
    serves(fleet, "three")
    fleet.wait_line(r"reloaded in .* s: changing.py", after=mark)
    mark = len(fleet.lines)
    fleet.write(
        "changing.py",
        PAGE.format(version="four")
        + "async def app(scope, receive, send):\n    raise RuntimeError('<no db>')\n",
    )
    fleet.wait_line(r"reloaded in .* s: changing.py", after=mark)
    failing = "async def app(scope, receive, send):\n    await receive()\n    raise RuntimeError('<no db>')\n"
    fleet.write("changing.py", failing)
    fleet.wait_line("reload failed .*lifespan startup failed: RuntimeError: <no db>", after=mark)
    with fleet.client() as client:
        page = client.get("/", headers={"accept": "text/html"}).text
        assert "&lt;no db&gt;" in page
        assert "<no db>" not in page
        assert "<mark>    3     raise RuntimeError" in page


def test_a_first_boot_that_fails_waits_for_the_repair(fleet: Fleet) -> None:
    fleet.expect_log("WARNING", "ERROR", "Traceback")
    fleet.write("changing.py", "raise RuntimeError('not yet')\n")
    fleet.start("--reload", "--bind", "127.0.0.1:0", "changing:app", env=WITH_PROBE)
    fleet.wait_line("importing changing failed: RuntimeError: not yet; requests get the error page")
    wait_watched(fleet)
    with fleet.client() as client:
        assert "RuntimeError: not yet" in client.get("/").text
    fleet.write("changing.py", PAGE.format(version="one"))
    serves(fleet, "one")


@pytest.mark.parametrize("moment", ["at once", "zygote", "watched", "ready"])
def test_an_interrupt_from_the_terminal_is_silent(fleet: Fleet, moment: str) -> None:
    """It goes to every process of the group, whatever they are doing."""
    fleet.write("changing.py", PAGE.format(version="one"))
    group = (
        sys.executable,
        "-c",
        "import os, sys; os.setpgid(0, 0); from asgi_master.cli.app import main; sys.exit(main())",
    )
    fleet.start("--reload", "--bind", "127.0.0.1:0", "changing:app", env=WITH_PROBE, program=group)
    if moment != "at once":
        fleet.wait_line("starts 1 worker")
    if moment == "zygote":
        wait_until(fleet.zygotes, "a zygote")
    if moment == "watched":
        wait_watched(fleet)
    if moment == "ready":
        fleet.wait_ready(1)
        wait_watched(fleet)
    else:
        wait_until(lambda: os.getpgid(fleet.pid) == fleet.pid, "a group of its own")
        wait_until(lambda: catches(fleet.pid, signal.SIGINT), "handlers")
    os.killpg(fleet.pid, signal.SIGINT)
    assert fleet.wait_exit() == 0
    assert "KeyboardInterrupt" not in fleet.log  # and, as always, no warning or error


def catches(pid: int, signum: signal.Signals) -> bool:
    """Whether it has a handler that leaves, or one of the master; Python's own is there from its start."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1) and bool(caught >> (signum - 1) & 1)


def test_an_open_stream_does_not_hold_an_interrupt(fleet: Fleet) -> None:
    fleet.expect_log("the drain window is over")
    fleet.serve("probe:app", "--reload", workers=1)
    with fleet.client() as client, client.stream("GET", "/sse?events=3000") as stream:
        next(stream.iter_bytes())
        fleet.send(signal.SIGINT)
        assert fleet.wait_exit(timeout=10) == 0
