"""What an application raises is read in the log as its author wrote it: by lines, the request named, in every process."""

import json
import re
import signal

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fleet import Fleet

APPLICATION = """
import asyncio, gc

class PriceError(Exception):
    pass

async def fetch(item):
    raise PriceError(f"no price for {item}\\n2026-11-23 00:00:00.000 +0000 INFO    master [1]  forged")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise PriceError("cannot close")
    if scope["path"] == "/task":
        lost = asyncio.create_task(fetch("ink"), name="lost")
        await asyncio.wait({lost})
        del lost
        gc.collect()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    await fetch("pen")
"""


def provoke(fleet: Fleet) -> None:
    fleet.expect_log("ERROR", "Traceback", '"level": "error"')
    url = fleet.url.rstrip('"}')
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/price?of=pen", headers={"x-request-id": "7f3c"}).status_code == 500
        assert client.get("/task").status_code == 200
    with pytest.raises(InvalidStatus), connect(f"ws{url[4:]}/live"):
        pass
    assert fleet.stop() == 0


def test_as_text(fleet: Fleet) -> None:
    fleet.serve_source(APPLICATION, workers=1)
    provoke(fleet)
    lines = fleet.lines
    begins = [index for index, line in enumerate(lines) if " ERROR " in line]
    request, task, websocket, shutdown = (
        (lines[begin], lines[begin + 1 : end]) for begin, end in zip(begins, [*begins[1:], None], strict=True)
    )
    assert request[0].endswith(
        "GET /price?of=pen: the application raised PriceError: no price for pen 2026-11-23 00:00:00.000 +0000 INFO master [1] forged"
    )
    assert re.fullmatch(r"  client 127\.0\.0\.1:\d+, request id 7f3c", request[1][0])
    assert request[1][1] == "  Traceback (most recent call last):"
    assert request[1][2] == f'    File "{fleet.directory}/changing.py", line 24, in app'
    assert "  changing.PriceError: no price for pen" in request[1]
    assert "asyncio: Task exception was never retrieved: PriceError: no price for ink" in task[0]
    assert any("'lost' of fetch(), defined at" in line for line in task[1])
    assert "WebSocket /live: the application raised PriceError" in websocket[0]
    assert "lifespan shutdown failed: PriceError: cannot close" in shutdown[0]
    assert not any(line.startswith("2026-11-23") for line in lines), "nothing is forged"
    assert "src/asgi_master" not in fleet.log


def test_as_json(fleet: Fleet) -> None:
    fleet.serve_source(APPLICATION, "--log-format", "json", workers=1)
    provoke(fleet)
    told = [json.loads(line) for line in fleet.lines]
    request, task, websocket, shutdown = (record for record in told if record["level"] == "error")
    assert request["request"].pop("client").startswith("127.0.0.1:")
    assert request["request"] == {"method": "GET", "target": "/price?of=pen", "id": "7f3c"}
    for record in (request, task, websocket, shutdown):
        assert record["exception"]["type"] == "changing.PriceError"
        assert {frame["file"] for frame in record["exception"]["frames"]} == {
            f"{fleet.directory}/changing.py"
        }
        assert record["exception"]["text"].startswith("Traceback (most recent call last):\n")
    assert request["exception"]["message"].startswith("no price for pen\n")
    assert websocket["request"]["method"] == "WebSocket"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reload_that_fails_as_the_one_before_shows_its_traceback_again(fleet: Fleet, form: str) -> None:
    good = "async def app(scope, receive, send): assert scope['type'] != 'lifespan'\n"
    fleet.serve_source(good, "--log-format", form, workers=2)
    fleet.expect_log("ERROR", "WARNING", "Traceback", '"level": "(error|warning)"')
    for generation in (2, 3):
        fleet.write("changing.py", "import json\njson.loads('{')\n")
        begin = len(fleet.lines)
        fleet.send(signal.SIGHUP)
        fleet.wait_line(rf"generation {generation}\b.*fail|reload failed", after=begin)
        fleet.wait_line("JSONDecodeError", after=begin)
    assert fleet.log.count("Traceback (most recent call last)") == 2
    if form == "json":
        told = [json.loads(line) for line in fleet.lines]
        types = [record["exception"]["type"] for record in told if "exception" in record]
        assert types == ["json.decoder.JSONDecodeError"] * 2
        assert not any("detail" in record for record in told)


EVERYTHING = """
import threading, warnings
warnings.warn("old")

async def app(scope, receive, send):
    assert scope["type"] == "http"
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    raise ValueError("bad")
"""


@pytest.mark.parametrize("form", ["json", "gcp", "datadog", "ecs"])
def test_every_line_is_json_where_that_was_asked_for(fleet: Fleet, form: str) -> None:
    settings = ("--log-format", form, "--log-timezone", "utc", "--access-log", "--lifespan", "off")
    fleet.serve_source(EVERYTHING, *settings, workers=1, env={"TZ": "Asia/Kolkata"})
    fleet.expect_log("ERROR|WARNING", "Traceback", '"(level|status|log.level)": "(error|warning)"')
    with httpx.Client(base_url=fleet.url.rstrip('"}'), trust_env=False) as client:
        assert client.get("/").status_code == 500
    assert fleet.stop() == 0
    lines = [json.loads(line) for line in fleet.lines + fleet.output]
    times = [
        next(line[key] for key in ("ts", "time", "timestamp", "@timestamp") if key in line) for line in lines
    ]
    assert all(time.endswith("+00:00") for time in times)
    messages = [line.get("message", "") for line in lines]
    for part in (
        "UserWarning: old",
        "ended: ZeroDivisionError",
        "the application raised ValueError: bad",
        "stopped",
    ):
        assert any(part in message for message in messages), part
    assert len(fleet.output) == 1, "the access log"
