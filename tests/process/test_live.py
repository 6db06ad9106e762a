"""The live status of a real fleet: its page in a real browser, its stream, `top`, actions; over a reload, a crash and an upgrade."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from browser import PROGRAM, REASON, browsing
from fleet import PATIENCE, REPOSITORY, SOURCE, Fleet, wait_until

SCHEMA = json.loads((REPOSITORY / "docs" / "reference" / "status.schema.json").read_text())
TOKEN = "correct horse battery staple"
HOSTILE = "GET /<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet for all: a few seconds old, with a request that is held."""
    fleet = Fleet(tmp_path_factory.mktemp("live"))
    token = fleet.directory / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    fleet.expect_log("ERROR.*died", "WARNING.*admin: refused")
    fleet.serve(
        "probe:app",
        *("--admin-bind", "127.0.0.1:0", "--admin-actions", "--admin-token-file", "token"),
        *("--control-socket", str(fleet.directory / "control.sock"), "--watch-time", "0"),
        workers=2,
    )
    yield fleet
    fleet.close()


def admin_url(fleet: Fleet) -> str:
    return fleet.wait_line(r"health and metrics on (\S+)")[1]


def status(fleet: Fleet, history: str = "none") -> dict[str, Any]:
    response = httpx.get(
        f"{admin_url(fleet)}/status.json?history={history}", timeout=PATIENCE, trust_env=False
    )
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    Draft202012Validator(SCHEMA).validate(document)
    return document


def wait_status(fleet: Fleet, condition: Any, what: str) -> dict[str, Any]:
    def right() -> dict[str, Any] | None:
        found = status(fleet)
        return found if condition(found) else None

    return wait_until(right, what)


def texts(document: dict[str, Any]) -> str:
    return "\n".join(event["text"] for event in document["events"])


def top(fleet: Fleet, *arguments: str) -> str:
    program = "import sys; from asgi_master.cli.masterctl import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "top", "--socket", str(fleet.directory / "control.sock"), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_load_is_seen(live: Fleet) -> None:
    with live.client() as client:
        for _ in range(20):
            client.get("/who")

    def seen(found: dict[str, Any]) -> bool:
        slots = found["now"]["slots"].values()
        return any(slot["cpu"] is not None for slot in slots) and any(slot["memory"] for slot in slots)

    assert wait_status(live, seen, "CPU and memory are known")["ready"]
    minute = status(live, "all")["history"]["minute"]
    assert sum(rate for rate in minute["fleet"]["rate"] if rate) >= 15
    assert 0 <= max(lag for lag in minute["slots"]["0"]["lag"] if lag is not None) < 10


def test_top(live: Fleet) -> None:
    out = top(live, "--once")
    assert out.startswith("probe:app  ready 2/2  steady  generation ")
    assert "ready: 2 workers serving generation 1" in out
    Draft202012Validator(SCHEMA).validate(json.loads(top(live, "--json")))


def test_the_past_stays_over_reload_and_upgrade(live: Fleet) -> None:
    before = status(live, "all")
    reloads = texts(before).count("reloaded: 2 workers")
    live.send(signal.SIGUSR2)
    live.wait_line("upgraded to asgi-master")
    wait_status(
        live,
        lambda found: texts(found).count("reloaded: 2 workers") == reloads + 1,
        "an upgrade ends in a reload",
    )
    after = status(live, "all")
    assert [event["number"] for event in after["events"]] == list(range(1, len(after["events"]) + 1))
    assert after["events"][0] == before["events"][0]
    assert after["tick"] > before["tick"]
    # The seconds before the upgrade are where they were, as far as they are not older than a minute by now.
    passed = after["tick"] - before["tick"]
    old, new = (each["history"]["minute"]["fleet"]["rate"] for each in (before, after))
    assert new[: 60 - passed] == old[passed:]


def test_actions_need_the_token(live: Fleet) -> None:
    url = f"{admin_url(live)}/stacks"
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        assert client.post(url, json={}).status_code == 401
        assert client.post(url, json={}, headers={"authorization": "Bearer no"}).status_code == 401
        allowed = {"authorization": f"Bearer {TOKEN}"}
        assert (
            client.post(url, json={}, headers=allowed | {"origin": "http://evil.example"}).status_code == 403
        )
        reply = client.post(url, json={"slot": 0}, headers=allowed)
        assert [worker["slot"] for worker in reply.json()["workers"]] == [0]
    assert TOKEN not in live.log


@pytest.mark.skipif(PROGRAM is None, reason=REASON)
def test_in_a_browser(live: Fleet) -> None:
    os.kill(live.workers()[0].pid, signal.SIGKILL)
    wait_status(live, lambda found: "died after serving" in texts(found), "the crash is an event")
    with browsing() as page:
        page.open(admin_url(live))
        page.wait("status !== null && pending.length > 1")
        assert page.text("h1") == "probe:app"
        assert page.text("#ready") == "ready"
        page.wait("document.querySelectorAll('#workers tbody tr').length === 2")
        assert page.value("document.querySelectorAll('#c-rate path').length") >= 2
        assert page.value("document.querySelectorAll('svg.chart .mark').length") > 0
        assert "died after serving" in page.text("#events")
        # It learns of what happens.
        generation = page.value("status.status.generation")
        page.value(f"document.querySelector('#token').value = {json.dumps(TOKEN)}")
        page.click("[data-action=reload]")
        page.wait("document.querySelector('#outcome').innerText.includes('accepted')")
        page.wait(f"status.status.generation > {generation}")
        page.value("document.querySelector('#token').value = 'no'")
        page.click("[data-action=rollback]")
        page.wait("document.querySelector('#outcome').innerText === 'wrong token'")
        # What comes from requests is text.
        page.value(
            "showStacks({workers: [{slot: 0, generation: 1, pid: 1, task_count: 1, note: '', threads: null, tasks:"
            f" [{{count: 1, coroutine: 'x', serves: [{json.dumps(HOSTILE)}], stack: []}}]}}]}})"
        )
        assert "<img src=x onerror=alert(1)>" in page.text("#stacks")
        assert page.value("document.querySelectorAll('#stacks img').length") == 0
        # The policy holds, and nobody else was asked.
        page.value(
            "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:1/x.png'}))"
        )
        page.wait("performance.now() > 0")
        assert any("Content Security Policy" in message for message in page.messages)
        assert {httpx.URL(url).path for url in page.requests} <= {
            "/",
            "/events",
            "/reload",
            "/rollback",
            "",
            "/x.png",
        }
        # On a phone, nothing is wider than the screen.
        page.open(admin_url(live), width=390, height=844, dark=True)
        page.wait("status !== null && pending.length > 0")
        assert page.value("document.documentElement.scrollWidth") == 390
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 21)"
