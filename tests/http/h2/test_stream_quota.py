"""How the connections of a worker share its streams (RFC 9113 §5.1.2, §8.7)."""

import pytest

from asgi_master.http.h2.builtin import BuiltinEngine
from asgi_master.http.h2.engine import Engine
from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.h2.reference import ReferenceEngine
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.limits import Http2Limits
from h2_engine import ACK, SETTINGS, Peer, frame

MAX_CONCURRENT_STREAMS = 3


@pytest.fixture(params=[BuiltinEngine, ReferenceEngine])
def engine(request: pytest.FixtureRequest) -> type[Engine]:
    engine: type[Engine] = request.param
    return engine


def crowd(engine: type[Engine], quota: StreamQuota, *, streams: int, usual: int = 128) -> Peer:
    peer = Peer(http2=Http2Limits(max_concurrent_streams=usual), engine=engine, quota=quota)
    for stream in range(1, 2 * streams, 2):
        peer.open(stream)
    return peer


def announced(peer: Peer) -> list[int]:
    """SETTINGS_MAX_CONCURRENT_STREAMS in what is sent now."""
    return [found.settings[MAX_CONCURRENT_STREAMS] for found in peer.take().of("SETTINGS") if found.settings]


def test_a_share_is_at_least_one() -> None:
    quota = StreamQuota(10)
    assert quota.share == 10
    quota.connections = 3
    assert quota.share == 3
    quota.connections = 30
    assert quota.share == 1


def test_shares_of_connections_that_came_one_after_the_other_do_not_add_up() -> None:
    quota = StreamQuota(10)
    quota.connections = 2
    quota.running = 19
    assert quota.share == 5
    quota.running = 20
    assert quota.share == 1


def test_any_number() -> None:
    quota = StreamQuota(0)
    quota.connections = 1000
    quota.running = 10**9
    assert quota.has_room
    assert quota.share > 10**9


def test_one_connection_may_have_all_until_another_comes(engine: type[Engine]) -> None:
    quota = StreamQuota(10)
    greedy = crowd(engine, quota, streams=10)
    modest = crowd(engine, quota, streams=4)
    assert (quota.running, quota.connections, quota.refused) == (14, 2, 0)
    greedy.send(greedy.headers(21))
    assert greedy.reset_code(21) == ErrorCode.REFUSED_STREAM
    assert modest.open(9).outcome[0] == "request"
    modest.send(modest.headers(11))
    assert modest.reset_code(11) == ErrorCode.REFUSED_STREAM
    assert (quota.running, quota.refused) == (15, 2)
    assert (greedy.engine.resets, modest.engine.resets) == (1, 1)


def test_a_limit_is_announced_once_and_renewed_when_there_is_room(engine: type[Engine]) -> None:
    quota = StreamQuota(8)
    peer = crowd(engine, quota, streams=8, usual=100)
    peer.send(peer.headers(17), peer.headers(19))
    assert announced(peer) == [8]
    peer.send(frame(SETTINGS, ACK))
    peer.engine.renew_stream_limit()
    assert announced(peer) == []
    for stream in list(peer.engine.streams)[:3]:
        peer.engine.reset(stream, ErrorCode.CANCEL)
        peer.engine.finished(stream)
    peer.take()
    peer.engine.renew_stream_limit()
    assert announced(peer) == [100]
    peer.engine.renew_stream_limit()
    assert announced(peer) == []
    assert peer.open(21).outcome[0] == "request"


def test_a_limit_that_settings_have_is_not_announced_again(engine: type[Engine]) -> None:
    peer = crowd(engine, StreamQuota(8), streams=8, usual=8)
    peer.send(peer.headers(17))
    output = peer.take()
    assert output.of("SETTINGS") == []
    assert output.of("RST_STREAM", 17)[0].error_code == ErrorCode.REFUSED_STREAM


def test_refused_streams_are_not_held_against_the_peer() -> None:
    peer = crowd(BuiltinEngine, StreamQuota(1), streams=1)
    for stream in range(3, 2003, 2):
        peer.send(peer.headers(stream))
        assert peer.reset_code(stream) == ErrorCode.REFUSED_STREAM
    assert peer.engine.resets == 1000


def test_a_peer_that_does_not_read_that_it_was_refused() -> None:
    peer = crowd(BuiltinEngine, StreamQuota(1), streams=1)
    assert (
        peer.fails(*[peer.headers(stream) for stream in range(3, 20_003, 2)]) is ErrorCode.ENHANCE_YOUR_CALM
    )


def test_a_connection_that_is_lost_has_no_share(engine: type[Engine]) -> None:
    quota = StreamQuota(8)
    peer = crowd(engine, quota, streams=3)
    peer.engine.connection_lost()
    assert (quota.connections, quota.running) == (0, 3)
    for stream in list(peer.engine.streams):
        peer.engine.finished(stream)
    assert quota.running == 0
