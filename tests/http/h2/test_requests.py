"""Requests and responses: what streams are told, and what leaves."""

import pytest

from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.message import ResponseHead
from h2_engine import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    POST,
    Peer,
    frame,
)


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_a_get_and_its_response(peer):
    stream = peer.open(1)
    assert (stream.request.method, stream.request.target, stream.has_ended) == ("GET", b"/", True)
    peer.engine.send_head(stream, HEAD, b"hello", True, 5)
    peer.engine.finished(stream)
    head, data = peer.take().frames
    assert peer.head(head) == [
        (b":status", b"200"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"5"),
    ]
    assert head.flags == {"END_HEADERS"}
    assert (data.data, data.flags) == (b"hello", {"END_STREAM"})
    assert not peer.engine.streams


def test_a_response_without_a_body(peer):
    stream = peer.open(1)
    peer.engine.send_head(stream, ResponseHead(204, []), b"", True, 0)
    (head,) = peer.take().frames
    assert head.flags == {"END_HEADERS", "END_STREAM"}
    assert peer.head(head) == [(b":status", b"204")]


def test_a_body_in_pieces(peer):
    stream = peer.open(1, POST, ends=False)
    assert not stream.has_ended
    peer.send(frame(DATA, 0, 1, b"abc"), frame(DATA, 0, 1, b"def"), frame(DATA, END_STREAM, 1, b"ghi"))
    assert (stream.body, stream.has_ended) == (b"abcdefghi", True)


def test_bytes_that_come_one_by_one(peer):
    data = peer.headers(1, POST, END_HEADERS) + frame(DATA, 0, 1, b"abc") + frame(DATA, END_STREAM, 1)
    for index in range(len(data)):
        peer.send(data[index : index + 1])
    assert (peer.streams[1].body, peer.streams[1].has_ended) == (b"abc", True)


def test_the_owner_is_told_once_that_there_is_output(peer):
    first, second = peer.open(1), peer.open(3)
    before = peer.announced
    peer.engine.send_head(first, HEAD, b"a", True, 1)
    peer.engine.send_head(second, HEAD, b"b", True, 1)
    assert peer.announced == before + 1
    assert len(peer.take().frames) == 4
    peer.engine.reset(peer.open(5), ErrorCode.CANCEL)
    assert peer.announced == before + 2
