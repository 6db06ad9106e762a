"""One import per generation where that is safe; one per worker where the import leaves threads behind."""

from fleet import APPS, SOURCE, Fleet

WITH_PROBE = {"PYTHONPATH": f"{SOURCE}:{APPS}"}
SAFE = "import os, probe\nprobe.IMPORTED_BY = os.getpid()\nprobe.ENDPOINTS['/imported'] = lambda s, r, send, q: probe.answer(send, str(probe.IMPORTED_BY).encode())\napp = probe.app\n"
WITH_THREAD = f"{SAFE}import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='metrics-pusher').start()\n"


def imported_by_itself(fleet: Fleet) -> bool:
    with fleet.client() as client:
        return int(client.get("/imported").text) == client.get("/who").json()["pid"]


def test_the_zygote_imports_for_all(fleet: Fleet) -> None:
    fleet.serve_source(SAFE, env=WITH_PROBE)
    assert not imported_by_itself(fleet)


def test_off_imports_in_each_worker(fleet: Fleet) -> None:
    fleet.serve_source(SAFE, "--preload", "off", env=WITH_PROBE)
    assert imported_by_itself(fleet)


def test_a_thread_at_import_is_named_and_workers_import_for_themselves(fleet: Fleet) -> None:
    fleet.expect_log("WARNING.*metrics-pusher")
    fleet.serve_source(WITH_THREAD, env=WITH_PROBE)
    assert len([line for line in fleet.lines if "metrics-pusher" in line]) == 1
    assert imported_by_itself(fleet)


def test_on_forks_all_the_same(fleet: Fleet) -> None:
    fleet.expect_log("WARNING.*metrics-pusher", "DeprecationWarning")
    fleet.serve_source(WITH_THREAD, "--preload", "on", env=WITH_PROBE)
    assert not imported_by_itself(fleet)
