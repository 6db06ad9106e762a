"""One import per generation where that is safe; one per worker where the import leaves behind what is not."""

import pytest

from fleet import APPS, SOURCE, Fleet, wait_until

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
    fleet.expect_log("WARNING.*metrics-pusher")
    fleet.serve_source(WITH_THREAD, "--preload", "on", env=WITH_PROBE)
    assert not imported_by_itself(fleet)
    assert "DeprecationWarning" not in fleet.log


NATIVE_THREAD = f"{SAFE}import ctypes\nthread = ctypes.c_void_p()\nctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, ctypes.CDLL(None).sleep, ctypes.c_void_p(600))\n"
CONNECTION = f"{SAFE}import socket\nserver = socket.create_server(('127.0.0.1', 0))\nconnection = socket.create_connection(server.getsockname())\n"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (NATIVE_THREAD, r"a thread of native code \(changing\)"),
        (CONNECTION, r"a connection to 127\.0\.0\.1:\d+ \(changing\)"),
    ],
)
def test_what_does_not_survive_a_fork_is_named_and_workers_import_for_themselves(
    fleet: Fleet, source: str, named: str
) -> None:
    fleet.expect_log(f"WARNING.*{named}")
    fleet.serve_source(source, env=WITH_PROBE)
    fleet.wait_line(named)
    assert imported_by_itself(fleet)


def test_numpy_is_imported_once(fleet: Fleet) -> None:
    """The threads that it leaves are of OpenBLAS, which sees to forks itself."""
    pytest.importorskip("numpy")
    fleet.serve_source(
        f"{SAFE}import numpy\nones = numpy.ones((300, 300))\nones @ ones\n"
        "probe.ENDPOINTS['/product'] = lambda s, r, send, q: probe.answer(send, str((ones @ ones)[0, 0]).encode())\n",
        env=WITH_PROBE,
    )
    assert not imported_by_itself(fleet)
    with fleet.client() as client:
        assert client.get("/product").text == "300.0"


DRAWS = """
import random, secrets, ssl, uuid
own = random.Random()
uuid.uuid1(), random.random(), own.random(), secrets.token_hex(), ssl.RAND_bytes(8)
drawn = {
    "random": random.random,
    "own": own.random,
    "secrets": secrets.token_hex,
    "ssl": lambda: ssl.RAND_bytes(8).hex(),
    "uuid4": lambda: str(uuid.uuid4()),
}
"""
NUMPY_DRAWS = """
import numpy
numpy.random.rand()
unseeded, seeded, philox = numpy.random.default_rng(), numpy.random.default_rng(7), numpy.random.Generator(numpy.random.Philox())
old = numpy.random.RandomState()
drawn |= {"numpy": numpy.random.rand, "unseeded": unseeded.random, "philox": philox.random, "old": old.rand, "seeded": seeded.random}
"""
ANSWER = """
first = {}
async def answer(scope, receive, send, query):
    if not first:
        first.update({name: str(draw()) for name, draw in drawn.items()})
    await probe.answer_json(send, first | {"pid": os.getpid(), "clock": uuid.uuid1().clock_seq})
probe.ENDPOINTS['/drawn'] = answer
"""


def _drawn_by_each(fleet: Fleet, workers: int) -> list[dict[str, str]]:
    seen: dict[str, dict[str, str]] = {}

    def all_seen() -> bool:
        with fleet.client() as client:
            found = client.get("/drawn").json()
        seen[found.pop("pid")] = found
        return len(seen) == workers

    wait_until(all_seen, "an answer of each worker")
    return list(seen.values())


def test_random_generators_differ_in_each_worker(fleet: Fleet) -> None:
    fleet.serve_source(f"{SAFE}{DRAWS}{ANSWER}", workers=3, env=WITH_PROBE)
    assert not imported_by_itself(fleet)
    drawn = _drawn_by_each(fleet, 3)
    for name in drawn[0]:
        assert len({worker[name] for worker in drawn}) == 3, name


def test_those_of_numpy_too_unless_the_application_gave_the_seed(fleet: Fleet) -> None:
    pytest.importorskip("numpy")
    fleet.serve_source(f"{SAFE}{DRAWS}{NUMPY_DRAWS}{ANSWER}", workers=3, env=WITH_PROBE)
    assert not imported_by_itself(fleet)
    drawn = _drawn_by_each(fleet, 3)
    for name in drawn[0]:
        assert len({worker[name] for worker in drawn}) == (1 if name == "seeded" else 3), name
