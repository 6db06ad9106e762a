"""`--reload`: change, see; break, read why; repair, see."""

import contextlib
from pathlib import Path

import psutil

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
    fleet.wait_line("reloaded: ")  # until then, what fails next falls back to version one
    mark = len(fleet.lines)
    fleet.write("changing.py", "def broken(:\n")
    fleet.wait_line("SyntaxError|invalid syntax", after=mark)
    serves(fleet, "two")
    fleet.write("changing.py", PAGE.format(version="three"))
    serves(fleet, "three")


def test_a_first_boot_that_fails_waits_for_the_repair(fleet: Fleet) -> None:
    fleet.expect_log("WARNING", "ERROR", "Traceback")
    fleet.write("changing.py", "raise RuntimeError('not yet')\n")
    fleet.start("--reload", "--bind", "127.0.0.1:0", "changing:app", env=WITH_PROBE)
    fleet.wait_line("RuntimeError: not yet")
    wait_watched(fleet)
    fleet.write("changing.py", PAGE.format(version="one"))
    serves(fleet, "one")
