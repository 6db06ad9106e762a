"""What `make demo` serves works: page, events and WebSocket."""

import json

from websockets.sync.client import connect

from fleet import PATIENCE, REPOSITORY, Fleet

EXAMPLES = REPOSITORY / "examples"


def test_the_demo(fleet: Fleet) -> None:
    fleet.serve("demo:app", app_dir=EXAMPLES)
    pids = {worker.pid for worker in fleet.workers()}
    with fleet.client() as client:
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert any(f"process <b>{pid}</b>" in page.text for pid in pids)
        assert client.get("/who").json()["pid"] in pids
        assert client.get("/nothing").status_code == 404
        with client.stream("GET", "/events") as events:
            first = next(line for line in events.iter_lines() if line)
        assert json.loads(first.removeprefix("data: "))["generation"] == "1"
    with connect(f"ws://127.0.0.1:{fleet.port}/echo", proxy=None) as websocket:
        websocket.send("hello")
        assert str(websocket.recv(PATIENCE)).startswith("hello  (worker ")
