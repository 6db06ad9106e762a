"""What the worker's timer does at each beat, without waiting for it."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
import uvloop

from asgi_master.http.engines import engines_of
from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.ipc.scoreboard import Scoreboard
from asgi_master.settings.model import ProcessSettings
from asgi_master.worker.heartbeat import Heartbeat
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.recycling import Recycler, limits_of
from asgi_master.worker.transport.context import WorkerContext
from http_apps import hello


class Swept(H1Connection):
    """A connection that counts; it never had a transport."""

    __slots__ = ("counts", "until")

    def sweep(self, now):
        self.counts[self] += 1
        return 0.0


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch):
    """One turn of the loop is enough for the sweeps of a beat, however busy the machine is."""
    monkeypatch.setattr("asgi_master.worker.heartbeat._SWEEP_SLICE", 60.0)


@pytest.fixture
def context():
    loop = uvloop.new_event_loop()
    yield WorkerContext(hello, loop, {}, HttpLimits(), WebSocketLimits(), engines_of("auto"))
    loop.close()


@pytest.fixture
def heartbeat(context):
    board = Scoreboard.create()
    recycler = Recycler(
        limits_of(ProcessSettings(), lambda: 0.0),
        context.stats,
        lambda reason: True,
        lambda reason: None,
        0.0,
    )
    beating = Heartbeat(context, board.row(1), recycler)
    yield beating
    beating.stop()
    board.close()


def _connections(context, count, counts):
    made = [Swept(context) for _ in range(count)]
    for connection in made:
        connection.counts = counts
        context.connections.add(connection)
        context.sweeps.add(connection)
    return made


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1000])
def test_each_connection_is_swept_once_in_four_beats(heartbeat, context, count):
    counts = Counter()
    made = _connections(context, count, counts)
    for _ in range(4):
        heartbeat._beat()
    assert counts == dict.fromkeys(made, 1)


def test_many_connections_are_not_swept_at_one_beat(heartbeat, context):
    counts = Counter()
    _connections(context, 1000, counts)
    seen = []
    for _ in range(4):
        heartbeat._beat()
        seen.append(counts.total())
    assert seen == [250, 500, 750, 1000]


def test_connections_that_take_long_are_not_swept_in_one_turn(heartbeat, context, monkeypatch):
    monkeypatch.setattr("asgi_master.worker.heartbeat._SWEEP_SLICE", 0.0)
    counts = Counter()
    _connections(context, 8, counts)
    heartbeat._beat()
    assert counts.total() == 1
    context.loop.run_until_complete(asyncio.sleep(0.01))
    assert counts.total() == 2
    heartbeat._beat()
    heartbeat._beat()  # before the loop has turned
    assert counts.total() == 3
    context.loop.run_until_complete(asyncio.sleep(0.01))
    assert counts.total() >= 5


def test_a_connection_that_is_gone_is_not_swept(heartbeat, context):
    counts = Counter()
    made = _connections(context, 8, counts)
    heartbeat._beat()
    for connection in made:
        context.connections.discard(connection)
    swept = counts.total()
    for _ in range(3):
        heartbeat._beat()
    assert counts.total() == swept


def test_one_that_rests_is_not_swept_until_then(heartbeat, context, monkeypatch):
    counts = Counter()
    resting, other = _connections(context, 2, counts)
    monkeypatch.setattr(Swept, "sweep", lambda self, now: counts.update([self]) or self.until)
    resting.until, other.until = 1000.0, 0.0
    loop = FakeLoop()
    monkeypatch.setattr(heartbeat._context, "loop", loop)
    for second in range(990):
        loop.now = float(second)
        _second(heartbeat)
    assert counts == {resting: 1, other: 990}
    context.sweeps.wake(resting)
    _second(heartbeat)
    assert counts[resting] == 2
    loop.now = 1001.0
    _second(heartbeat)
    assert counts[resting] == 3
    resting.until = 0.0
    _second(heartbeat)
    _second(heartbeat)
    assert counts[resting] == 5


def test_a_drain_sweeps_those_that_rest_too(heartbeat, context):
    counts = Counter()
    (resting,) = _connections(context, 1, counts)
    context.sweeps.rest(resting, 1e9, 0.0)
    context.draining = True
    _second(heartbeat)
    assert counts == {resting: 1}


def _second(heartbeat):
    for _ in range(4):
        heartbeat._beat()


class FakeLoop:
    """Of which only the time is asked."""

    def __init__(self):
        self.now = 0.0

    def time(self):
        return self.now

    def call_at(self, when, callback):
        return SimpleNamespace(cancel=lambda: None)


def test_times_that_do_not_fit_a_word_do_not_stop_the_heart(heartbeat, context):
    month = 30 * 24 * 3600
    context.stats.websocket_time = context.stats.stream_time = context.stats.response_time = 10_000.0 * month
    heartbeat._publish()
    stats = heartbeat._row.read()
    assert stats.websocket_time == stats.stream_time == stats.response_time == 2**62 / 1e9


def test_what_fails_at_a_beat_ends_neither_the_beats_nor_the_sweeps(heartbeat, context, monkeypatch):
    """A worker that beats no more is killed as one that hangs."""
    counts = Counter()
    made = _connections(context, 8, counts)

    def fails(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heartbeat._recycler, "tick", fails)
    with pytest.raises(OSError, match="No space left"):
        heartbeat._beat()
    assert not heartbeat._timer.cancelled()
    assert heartbeat._timer.when() > context.loop.time()
    for _ in range(3):
        heartbeat._beat()
    assert counts == dict.fromkeys(made, 1)
