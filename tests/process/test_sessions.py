"""`--sticky`: sessions in the memory of a worker, with four workers, over crashes, scaling and reloads."""

import asyncio
import json
import os
import signal
import ssl
from collections.abc import Iterator

import httpx
import pytest
from websockets.asyncio.client import connect

from certificates import Authority
from fleet import Fleet

AUTHORITY = Authority()


class Visitor:
    """One session, each of whose requests comes on a connection of its own."""

    def __init__(
        self, url: str, verify: ssl.SSLContext | bool = True, *, http2: bool = False, header: bool = False
    ) -> None:
        self._url = url
        self._verify = verify
        self._http2 = http2
        with self._client() as client:
            response = client.get(f"{url}/login")
        self.first = response.json()
        name = response.headers["x-session"]
        self._headers = {"x-session": name} if header else {"cookie": f"sid={name}"}
        self.visits = 1

    def _client(self) -> httpx.Client:
        return httpx.Client(
            verify=self._verify, http1=not self._http2, http2=self._http2, trust_env=False, timeout=20
        )

    def visit(self, body: bytes = b"") -> dict[str, object]:
        with self._client() as client:
            response = client.post(self._url, content=body, headers=self._headers)
        assert response.headers["x-size"] == str(len(body))
        return dict(response.json())

    def assert_kept(self, body: bytes = b"") -> None:
        seen = self.visit(body)
        self.visits += 1
        assert (seen["pid"], seen["visits"], seen["state"]) == (self.first["pid"], self.visits, "kept"), seen

    def talk(self) -> None:
        asyncio.run(self._talk())

    async def _talk(self) -> None:
        url = self._url.replace("http", "ws", 1)
        # One of its own: httpx changes what its context offers by ALPN.
        context = AUTHORITY.client() if url.startswith("wss") else None
        async with connect(url, additional_headers=self._headers, ssl=context, proxy=None) as websocket:
            for _ in range(3):
                await websocket.send("hello")
                seen = json.loads(await websocket.recv())
                self.visits += 1
                assert (seen["pid"], seen["visits"]) == (self.first["pid"], self.visits)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("sessions"))
    AUTHORITY.write(fleet.directory, "site")
    try:
        fleet.serve(
            "sessions:app",
            *("--sticky", "header:x-session", "--sticky", "cookie:sid"),
            *("--sticky-drain", "60", "--sticky-idle", "60", "--watch-time", "0"),
            *("--bind", "https://127.0.0.1:0", "--certfile", "site.pem", "--keyfile", "site.key"),
            workers=4,
        )
        yield fleet
    finally:
        fleet.close()


def begun(fleet: Fleet) -> list[Visitor]:
    """Sessions of every kind of client."""
    plain, secure = fleet.urls
    context = AUTHORITY.client()
    visitors = []
    for number in range(4):
        visitors += [
            Visitor(plain, header=bool(number % 2)),
            Visitor(plain, http2=True),
            Visitor(secure, context),
            Visitor(secure, context, http2=True),
        ]
    return visitors


def test_every_request_meets_its_session(served: Fleet) -> None:
    visitors = begun(served)
    for visitor in visitors:
        visitor.assert_kept()
        visitor.assert_kept(b"x" * 200_000)
        visitor.talk()
    seen = visitors[3].visit()
    visitors[3].visits += 1
    assert (seen["http"], seen["scheme"]) == ("2", "https")
    assert seen["client"][0] == "127.0.0.1"  # type: ignore[index]
    # One connection with the requests of many, as a proxy has it.
    with httpx.Client(trust_env=False) as shared:
        for visitor in visitors * 2:
            seen = shared.get(visitors[0]._url, headers=visitor._headers).json()
            visitor.visits += 1
            assert (seen["pid"], seen["visits"]) == (visitor.first["pid"], visitor.visits)


def test_crash_scaling_and_reload(served: Fleet) -> None:
    visitors = begun(served)
    victim = visitors[0].first["pid"]
    assert isinstance(victim, int)
    served.expect_log("died after serving")
    os.kill(victim, signal.SIGKILL)
    hit = [visitor for visitor in visitors if visitor.first["pid"] == victim]
    others = [visitor for visitor in visitors if visitor not in hit]
    # Those of the one that died wait for its successor, and learn that what was there is gone.
    for visitor in hit:
        seen = visitor.visit()
        assert (seen["state"], seen["visits"]) == ("lost", 1)
        visitor.first, visitor.visits = seen, 1
    assert len({visitor.first["pid"] for visitor in hit}) == 1
    served.wait_workers(lambda workers: len(workers) == 4, "the successor")
    for visitor in visitors:
        visitor.assert_kept()
    served.send(signal.SIGTTIN)
    served.wait_workers(lambda workers: len(workers) == 5, "a fifth worker")
    for visitor in others:
        visitor.assert_kept()
    before = {worker.pid for worker in served.workers()}
    served.send(signal.SIGHUP)
    served.wait_line(r"reloaded: 4 workers serving generation 2")
    for visitor in visitors:
        visitor.assert_kept()
        visitor.talk()
    later = begun(served)
    for visitor in later:
        assert visitor.first["pid"] not in before
        visitor.assert_kept()
