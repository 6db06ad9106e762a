"""A WSGI application in a real fleet: reloads under traffic, also to ASGI and back, what is seen of it, and its stop."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from apps import holding
from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until
from traffic import Traffic

WSGI, ASGI = "from wsgi_app import app\n", "from probe import app\n"
PATHS = {"PYTHONPATH": f"{SOURCE}:{APPS}"}


def ctl(fleet: Fleet, *arguments: str) -> str:
    call = "import sys; from asgi_master.cli.ctl import main; sys.exit(main())"
    command = [sys.executable, "-c", call, *arguments, "--socket", str(fleet.directory / "control.sock")]
    env = {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=env)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())  # as wide as the terminal is


def ask(fleet: Fleet, path: str) -> httpx.Response:
    return httpx.get(fleet.url + path, timeout=PATIENCE, trust_env=False)


def test_the_life_of_a_wsgi_application(fleet: Fleet) -> None:
    fleet.write("changing.py", WSGI)
    fleet.start(
        *("--workers", "2", "--threads", "3", "--bind", "127.0.0.1:0", "--admin-bind", "unix:admin"),
        *(
            "--control-socket",
            "control.sock",
            "--health-path",
            "/who",
            "--stall-warn",
            "0",
            "--app-dir",
            ".",
            "changing:app",
        ),
        env=PATHS,
    ).wait_ready(2)
    fleet.wait_line("changing:app is served by WSGI: it takes two arguments")
    with Traffic(fleet) as traffic, fleet.keeping_descriptors():
        for number, source in ((2, ASGI), (3, WSGI)):
            fleet.write("changing.py", source)
            fleet.send(signal.SIGHUP)
            fleet.wait_workers(
                lambda seen, number=number: [worker.generation for worker in seen] == [number] * 2,
                f"all workers are of generation {number}",
            )
            traffic.wait_for_more(50)
            assert ask(fleet, "/who").json().get("by") == ("wsgi" if source is WSGI else None)
            fleet.wait_settled(2)
    assert traffic.failures == []
    assert set(traffic.answers) == {"1", "2", "3"}

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, fleet, "/hold?work")
        wait_until(lambda: holding.arrived(fleet.directory, "work"), "the request arrived")
        wait_until(lambda: "1 of 6 threads busy" in ctl(fleet, "status"), "the status says so")
        stacks = ctl(fleet, "stacks")
        assert "serving GET /hold?work" in stacks
        assert "wsgi_app.py" in stacks
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(fleet.directory / "admin"))) as admin:
            metrics = admin.get("http://localhost/metrics", timeout=PATIENCE).text
        assert "asgi_master_wsgi_threads_busy{" in metrics
        fleet.send(signal.SIGTERM)
        fleet.wait_workers(lambda workers: len(workers) == 1, "the worker with the request is left")
        holding.release(fleet.directory, "work")
        assert asked.result(PATIENCE).json()["by"] == "wsgi"
    assert fleet.wait_exit() == 0


def test_a_thread_that_does_not_end_holds_no_stop_up(fleet: Fleet) -> None:
    fleet.serve("wsgi_app:app", "--drain-timeout", "1", "--stall-warn", "0.2", workers=1)
    fleet.expect_log("GET /hold.stuck: thread wsgi-0 has got no further", "the drain window is over")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, fleet, "/hold?stuck")
        fleet.wait_line(
            r"GET /hold\?stuck: thread wsgi-0 has got no further for .* at .*wsgi_app.py:\d+ in _hold"
        )
        assert fleet.stop() == 0
        assert isinstance(asked.exception(PATIENCE), httpx.HTTPError)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("--lifespan", "on"), "WSGI, which has no lifespan, but lifespan is on"),
        (("--sticky", "client-ip"), "WSGI, which cannot be sticky: leave out --sticky"),
    ],
)
def test_an_option_that_needs_asgi(fleet: Fleet, option: tuple[str, str], why: str) -> None:
    fleet.expect_log(why)
    fleet.start("--bind", "127.0.0.1:0", *option, "--app-dir", str(APPS), "wsgi_app:app")
    assert fleet.wait_exit() != 0
