"""Reloads in a row under clients of every kind, and under storms of connections: nothing fails.

`make drill` does 200 of the former, and 20 under 5,000 connections.
"""

import asyncio
import os
import signal
from typing import cast

import pytest

from certificates import Authority, put
from fleet import PATIENCE, Fleet
from http2_clients import http2_kinds
from mixed_clients import MixedClients

pytestmark = pytest.mark.newest_python

RELOADS = int(os.environ.get("DRILL_RELOADS", "3"))
STORMS, STORM = (20, 5000) if os.environ.get("DRILL_STORMS") else (2, 200)


@pytest.mark.timeout(60 + 20 * RELOADS)
def test_reloads_in_a_row(fleet: Fleet) -> None:
    # The old zygote is held for a moment, and let go by the next reload.
    authority = Authority()
    authority.write(fleet.directory, "site")
    tls = ("--bind", "https://127.0.0.1:0", "--certfile", "site.pem", "--keyfile", "site.key")
    fleet.serve("probe:app", "--rollback-window", "1", *tls, workers=3)
    secure_port = int(fleet.urls[1].rpartition(":")[2])
    put(fleet.directory / "ca.pem", authority.pem)
    others = http2_kinds(f"{fleet.urls[0]}/", f"https://localhost:{secure_port}/", fleet.directory / "ca.pem")
    clients = MixedClients(fleet.port, secure=(secure_port, authority.client), more=others)

    async def reload() -> None:
        for number in range(RELOADS):
            fleet.send(signal.SIGHUP)
            committed = rf"reloaded: 3 workers serving generation {number + 2}\b"
            await asyncio.to_thread(fleet.wait_line, committed, 2 * PATIENCE)
            assert not clients.failures, clients.failures

    with fleet.keeping_descriptors():
        asyncio.run(clients.run_while(reload()))
    assert not clients.failures
    assert len(clients.answers) == 12 + len(others), f"some kind of client had no answer: {clients.answers}"
    print(f"{RELOADS} reloads, no failure: {dict(clients.answers)}")
    fleet.stop()


class Held(asyncio.Protocol):
    """A connection of a storm: it sends a request at once, and another on demand."""

    def __init__(self, storm: "Storm") -> None:
        self._storm = storm
        self._answers = 0
        self._is_leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        self._storm.count_asked()
        self._transport.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    def leave(self) -> None:
        self._is_leaving = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200 ") or b"\r\nconnection: close" in data.lower():
            self._storm.fail(f"{data[:100]!r}")
        self._answers += 1
        self._storm.count_answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_leaving:
            self._storm.fail(f"closed after {self._answers} answers: {exc!r}")


class Storm:
    """Connections that are opened at once and held."""

    def __init__(self, port: int, count: int) -> None:
        self.failures: list[str] = []
        self._asked = self._answered = 0
        self._settled = asyncio.Event()
        self._port = port
        self._count = count
        self._held: list[Held] = []

    async def come(self) -> None:
        """Returns when each is open."""
        await asyncio.gather(*(self._one() for _ in range(self._count)))

    async def _one(self) -> None:
        loop = asyncio.get_running_loop()
        _transport, held = await loop.create_connection(lambda: Held(self), "127.0.0.1", self._port)
        self._held.append(held)

    async def answers(self) -> None:
        """Returns when whatever was asked is answered, or something failed."""
        async with asyncio.timeout(4 * PATIENCE):
            await self._settled.wait()

    def count_asked(self) -> None:
        self._asked += 1
        self._settled.clear()

    def count_answered(self) -> None:
        self._answered += 1
        if self._answered == self._asked:
            self._settled.set()

    def fail(self, what: str) -> None:
        self.failures.append(what)
        self._settled.set()

    def ask_again(self) -> None:
        for held in self._held:
            held.ask()

    def leave(self) -> None:
        for held in self._held:
            held.leave()


@pytest.mark.timeout(60 + 100 * STORMS)
def test_a_reload_under_a_storm_of_connections(fleet: Fleet) -> None:
    """More come at once than the backlog holds while workers are replaced; each is served, before and after."""
    fleet.serve("probe:app", "--rollback-window", "1", "--keep-alive-timeout", "600", workers=2)

    async def storms() -> None:
        for number in range(STORMS):
            storm = Storm(fleet.port, STORM)
            coming = asyncio.create_task(storm.come())
            fleet.send(signal.SIGHUP)
            committed = rf"reloaded: 2 workers serving generation {number + 2}\b"
            await asyncio.to_thread(fleet.wait_line, committed, 4 * PATIENCE)
            await coming
            await storm.answers()
            storm.ask_again()
            await storm.answers()
            assert not storm.failures, (len(storm.failures), storm.failures[:5])
            storm.leave()

    asyncio.run(storms())
    print(f"{STORMS} reloads under {STORM} connections each, no failure")
    fleet.stop()
