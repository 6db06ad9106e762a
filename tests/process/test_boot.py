"""From the command line to ready, or to an exit status that says why not."""

import json
import os
import re
import subprocess
import sys

import httpx
import psutil
import pytest

from fleet import APPS, PATIENCE, SOURCE, Fleet, wait_until

GOOD_LIFESPAN = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        {startup}
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}})
    await send({{"type": "http.response.body", "body": b"ok"}})
"""


def test_serves_and_stops(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    with fleet.client() as client:
        assert client.get("/").text == "hello\n"
    workers = fleet.workers()
    assert [worker.slot for worker in workers] == [0, 1]
    assert {worker.generation for worker in workers} == {1}
    assert fleet.stop() == 0
    # Each worker ran its lifespan to the end.
    over = [line for line in fleet.output if line.startswith("lifespan of")]
    assert sorted(over) == sorted(f"lifespan of {worker.pid} is over" for worker in workers)


def test_lifespan_state_is_per_worker(fleet: Fleet) -> None:
    fleet.serve(workers=2)
    pids = {worker.pid for worker in fleet.workers()}

    def state() -> int:
        with fleet.client() as client:
            assert client.get("/state").json()["pid"] == client.get("/who").json()["pid"]
            return client.get("/state").json()["pid"]

    seen: set[int] = set()

    def all_seen() -> bool:
        seen.add(state())
        return seen == pids

    wait_until(all_seen, "both workers told their state")


def test_workers_know_slot_and_generation(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    with fleet.client() as client:
        answer = client.get("/who").json()
    assert (answer["worker"], answer["generation"]) == ("0", "1")


def test_titles_tell_role_generation_and_application(fleet: Fleet) -> None:
    fleet.serve(workers=1)
    master = psutil.Process(fleet.pid)
    titles = [" ".join(process.cmdline()) for process in [master, *master.children(recursive=True)]]
    assert re.search(r"asgi-master: master\b.* probe:app", titles[0]), titles
    assert any(re.search(r"asgi-master: worker 0 gen 1 probe:app", title) for title in titles), titles
    assert any(re.search(r"asgi-master: zygote gen 1 probe:app", title) for title in titles), titles


def test_master_never_imports_the_application(fleet: Fleet) -> None:
    fleet.serve_source(
        "import os\nimported_by = os.getpid()\nfrom probe import app\n",
        env={"PYTHONPATH": f"{SOURCE}:{APPS}"},
    )
    maps = [file.path for file in psutil.Process(fleet.pid).memory_maps()]
    assert not any(name in path for path in maps for name in ("uvloop", "httptools", "zttp"))


BAD_APPLICATIONS = {
    "an import that raises": ("raise RuntimeError('no database today')\n", "no database today", 1),
    "a syntax error": ("def app(:\n", "SyntaxError|invalid syntax", 1),
    "an import of a missing module": ("import not_installed_here\n", "not_installed_here", 1),
    "an import that exits": ("import sys; sys.exit('gave up')\n", "gave up", None),
    "no such attribute": ("application = 1\n", "app", 0),
    "not callable": ("app = 42\n", "not callable|callable", 0),
    "a startup that fails": (
        GOOD_LIFESPAN.format(
            startup='await send({"type": "lifespan.startup.failed", "message": "no cache"}); return'
        ),
        "no cache",
        None,
    ),
    "a startup that raises": (GOOD_LIFESPAN.format(startup="raise RuntimeError('no queue')"), "no queue", 1),
    "a worker that dies while it starts": (GOOD_LIFESPAN.format(startup="import os; os._exit(9)"), "9", 0),
}


IMPORTED_BY_EACH_WORKER = [
    (name, "off") for name in ("an import that raises", "not callable", "a startup that fails")
]


@pytest.mark.parametrize(
    ("name", "preload"), [*((name, "auto") for name in BAD_APPLICATIONS), *IMPORTED_BY_EACH_WORKER]
)
def test_a_first_boot_that_fails_ends_the_program(fleet: Fleet, name: str, preload: str) -> None:
    source, told, tracebacks = BAD_APPLICATIONS[name]
    fleet.write("broken.py", source)
    fleet.expect_log("WARNING|ERROR|CRITICAL", "Traceback")
    lifespan = "on" if "startup" in name else "auto"
    fleet.start(
        "--workers", "3", "--bind", "127.0.0.1:0", "--preload", preload, "--lifespan", lifespan, "broken:app"
    )
    assert fleet.wait_exit() == 3, fleet.log
    assert re.search(told, fleet.log)
    if tracebacks is not None:
        # Once, not once per worker, and no frame of ours in it.
        assert fleet.log.count("Traceback (most recent call last)") <= max(tracebacks, 0), fleet.log
    assert "src/asgi_master" not in fleet.log
    assert "importlib" not in fleet.log
    # One record says it all, and none has claimed before that we listen.
    told = [line for line in fleet.lines if " ERROR " in line and "died while leaving" not in line]
    assert len(told) == 1, fleet.log
    assert fleet.urls == []


def test_a_mistyped_module_is_one_line(fleet: Fleet) -> None:
    fleet.expect_log("ERROR|CRITICAL")
    fleet.start("--bind", "127.0.0.1:0", "--app-dir", str(APPS), "prob:app")
    assert fleet.wait_exit() == 3
    assert "Traceback" not in fleet.log
    assert re.search(r"no module named .?prob\b", fleet.log, re.IGNORECASE)


def test_a_startup_that_hangs_is_ended(fleet: Fleet) -> None:
    fleet.expect_log("WARNING|ERROR|CRITICAL", "Traceback")
    fleet.write("broken.py", GOOD_LIFESPAN.format(startup="import asyncio; await asyncio.sleep(600)"))
    fleet.start("--bind", "127.0.0.1:0", "--startup-timeout", "0.5", "broken:app")
    assert fleet.wait_exit() == 3
    assert re.search(r"lifespan.*(within|0\.5)", fleet.log)


def test_an_import_that_hangs_is_ended(fleet: Fleet) -> None:
    fleet.expect_log("WARNING|ERROR|CRITICAL")
    fleet.write("broken.py", "import time; time.sleep(600)\n")
    fleet.start("--bind", "127.0.0.1:0", "--boot-timeout", "1", "broken:app")
    assert fleet.wait_exit() == 3


def test_settings_from_the_environment_alone(fleet: Fleet) -> None:
    fleet.start(
        env={
            "ASGI_MASTER_APP": "probe:app",
            "ASGI_MASTER_APP_DIR": str(APPS),
            "ASGI_MASTER_WORKERS": "2",
            "ASGI_MASTER_BIND": "127.0.0.1:0",
        }
    ).wait_ready(2)
    with fleet.client() as client:
        assert client.get("/").status_code == 200


def test_settings_from_a_file(fleet: Fleet) -> None:
    fleet.write(
        "asgi-master.toml", f'app = "probe:app"\napp-dir = "{APPS}"\nworkers = 1\nbind = ["127.0.0.1:0"]\n'
    )
    fleet.start().wait_ready(1)
    with fleet.client() as client:
        assert client.get("/").status_code == 200


def command(*arguments: str, cwd: object = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asgi_master", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_check_config(tmp_path: object) -> None:
    good = command("--check-config", "probe:app", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    bad = command("--check-config", "--workers", "many", "--backlog", "-5", "probe:app", cwd=tmp_path)
    assert bad.returncode == 2
    assert "workers" in bad.stderr and "backlog" in bad.stderr, bad.stderr  # noqa: PT018 -- all errors at once is the point
    assert "Traceback" not in bad.stderr


def test_json_log(fleet: Fleet) -> None:
    fleet.start(
        "--workers", "1", "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "--log-format", "json", "probe:app"
    )
    fleet.wait_ready(1)
    url = fleet.url
    assert httpx.get(f"{url.strip(chr(34))}/", trust_env=False).status_code == 200
    assert fleet.stop() == 0
    records = [json.loads(line) for line in fleet.lines]
    assert records
    assert {"ts", "level", "message"} <= records[0].keys()


def test_access_log(fleet: Fleet) -> None:
    fleet.serve("probe:app", "--access-log", workers=1)
    with fleet.client() as client:
        client.get("/?a=1")
        client.get("/nothing")
    assert fleet.stop() == 0
    lines = [line for line in fleet.output if "GET" in line]
    assert len(lines) == 2
    assert '"GET /?a=1 HTTP/1.1" 200 6' in lines[0]
    assert '"GET /nothing HTTP/1.1" 404 10' in lines[1]
