"""The table of what an HTTP application may say and is told, and every pair of state and message in it."""

import io
import tracemalloc

import pytest

from asgi_master.asgi.errors import ClientDisconnectedError
from asgi_master.asgi.http_exchange import HttpExchange, State
from asgi_master.asgi.http_extensions import EarlyHint, FileBody, Trailers
from asgi_master.http.message import ResponseHead

START = {"type": "http.response.start", "status": 200, "headers": []}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}
LAST = {"type": "http.response.body", "body": b"y"}
DISCONNECT = {"type": "http.disconnect"}

PATH = {"type": "http.response.pathsend", "path": "/a/file"}
COPY = {"type": "http.response.zerocopysend", "file": 3}
HINT = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"Digest", b"x")]}
ANNOUNCED = {**START, "trailers": True}

REACHED_BY = {
    State.AWAITING: [],
    State.HELD: [START],
    State.STREAMING: [START, MORE],
    State.SENDING_FILE: [START, PATH],
    State.IN_TRAILERS: [ANNOUNCED, LAST],
    State.COMPLETE: [START, LAST],
}
NEXT = {
    (State.AWAITING, "start"): State.HELD,
    (State.AWAITING, "hint"): State.AWAITING,
    (State.HELD, "more"): State.STREAMING,
    (State.HELD, "last"): State.COMPLETE,
    (State.HELD, "path"): State.SENDING_FILE,
    (State.HELD, "copy"): State.SENDING_FILE,
    (State.HELD, "hint"): State.HELD,
    (State.STREAMING, "more"): State.STREAMING,
    (State.STREAMING, "last"): State.COMPLETE,
    (State.STREAMING, "copy"): State.SENDING_FILE,
    (State.STREAMING, "hint"): State.STREAMING,
    (State.IN_TRAILERS, "trailers"): State.COMPLETE,
    (State.IN_TRAILERS, "more trailers"): State.IN_TRAILERS,
}
MESSAGES = {
    "start": START,
    "more": MORE,
    "last": LAST,
    "path": PATH,
    "copy": COPY,
    "hint": HINT,
    "trailers": TRAILERS,
    "more trailers": {**TRAILERS, "more_trailers": True},
    "push": {"type": "http.response.push"},
    "websocket": {"type": "websocket.accept"},
    "nonsense": {"type": "nonsense"},
}


def exchange_in(state, **options):
    exchange = HttpExchange("GET", has_body=False, **options)
    for message in REACHED_BY[state]:
        tell(exchange, message)
    assert exchange.state is state
    return exchange


def tell(exchange, message):
    """What it makes of the message, whose file has ten bytes."""
    part = exchange.interpret(message)
    if isinstance(part, FileBody):
        return exchange.begin_file(part, 10)
    return part


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", State)
def test_every_message_in_every_state(state, name):
    exchange = exchange_in(state)
    if (state, name) in NEXT:
        tell(exchange, MESSAGES[name])
        assert exchange.state is NEXT[state, name]
    else:
        with pytest.raises(RuntimeError, match="cannot be sent"):
            exchange.interpret(MESSAGES[name])
        assert exchange.state is state


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", State)
def test_after_the_peer_left_nothing_can_be_sent(state, name):
    exchange = exchange_in(state)
    exchange.peer_disconnected()
    with pytest.raises(ClientDisconnectedError):
        exchange.interpret(MESSAGES[name])


@pytest.mark.parametrize("left_at", [0, 1])
def test_an_answer_of_failure_to_a_peer_that_left_is_dropped_once(left_at):
    exchange = HttpExchange("GET", has_body=False)
    for index, message in enumerate([{**START, "status": 500}, LAST]):
        if index == left_at:
            exchange.peer_disconnected()
        assert exchange.interpret(message) is None
    for message in (LAST, MORE, START):
        with pytest.raises(ClientDisconnectedError):
            exchange.interpret(message)
    assert not exchange.is_complete


def test_a_stream_of_failure_to_a_peer_that_left_is_not_dropped():
    exchange = HttpExchange("GET", has_body=False)
    exchange.peer_disconnected()
    exchange.interpret({**START, "status": 500})
    with pytest.raises(ClientDisconnectedError):
        exchange.interpret(MORE)


def test_the_head_is_held_until_the_body():
    exchange = HttpExchange("GET", has_body=False)
    assert exchange.interpret(START) is None
    head, *rest = exchange.interpret(LAST)
    assert (head.status, *rest) == (200, b"y", True, 1)


def test_a_streamed_response():
    exchange = exchange_in(State.HELD)
    first, second, last = (exchange.interpret(message) for message in (MORE, MORE, LAST))
    head, *rest = first
    assert (head is None, rest[1:]) == (False, [False, None])
    assert second == (None, b"x", False, None)
    assert last[:3] == (None, b"y", True)


def test_defaults_of_messages():
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret({"type": "http.response.start", "status": 200})
    _head, *rest = exchange.interpret({"type": "http.response.body"})
    assert rest == [b"", True, 0]


@pytest.mark.parametrize("body", [bytearray(b"abc"), memoryview(b"abc")])
def test_bodies_that_are_like_bytes(body):
    exchange = exchange_in(State.HELD)
    assert exchange.interpret({"type": "http.response.body", "body": body})[1] == b"abc"


@pytest.mark.parametrize("body", ["abc", 3, None, [b"abc"]])
def test_bodies_that_are_not(body):
    exchange = exchange_in(State.HELD)
    with pytest.raises(TypeError):
        exchange.interpret({"type": "http.response.body", "body": body})
    assert exchange.state is State.HELD


@pytest.mark.parametrize(
    "message", [{"type": "http.response.start"}, {"type": "http.response.start", "status": "x"}, {}]
)
def test_malformed_messages(message):
    with pytest.raises((KeyError, ValueError)):
        HttpExchange("GET", has_body=False).interpret(message)


def with_length(length):
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]}


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_length_that_is_not_kept(length):
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(with_length(length))
    with pytest.raises(RuntimeError, match="longer" if length < 2 else "shorter"):
        exchange.interpret({"type": "http.response.body", "body": b"ab"})
    assert exchange.state is State.HELD


def test_a_length_that_is_kept():
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(with_length(2))
    exchange.interpret(MORE)
    assert exchange.interpret(LAST)[2]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_bodies_that_are_not_sent(method, status):
    exchange = HttpExchange(method, has_body=False)
    exchange.interpret({**with_length(100), "status": status})
    assert exchange.interpret(MORE)[1] == b""
    assert exchange.interpret(LAST)[1] == b""
    assert exchange.bodyless


def test_a_request_without_a_body_is_told_once_then_waits():
    exchange = HttpExchange("GET", has_body=False)
    assert exchange.next_message() == {"type": "http.request", "body": b"", "more_body": False}
    assert exchange.next_message() is None
    exchange.peer_half_closed()
    assert exchange.next_message() == DISCONNECT
    assert exchange.next_message() == DISCONNECT


def test_a_body_in_pieces():
    exchange = HttpExchange("POST", has_body=True)
    assert exchange.next_message() is None
    exchange.body_received(b"a")
    exchange.body_received(b"b")
    assert exchange.inbox_size == 2
    assert exchange.next_message() == {"type": "http.request", "body": b"ab", "more_body": True}
    assert exchange.inbox_size == 0
    assert exchange.next_message() is None
    exchange.body_received(b"c")
    exchange.end_received()
    assert exchange.next_message() == {"type": "http.request", "body": b"c", "more_body": False}
    assert exchange.next_message() is None


def test_what_arrived_before_a_disconnect_is_told_first():
    exchange = HttpExchange("POST", has_body=True)
    exchange.body_received(b"a")
    exchange.peer_disconnected()
    assert exchange.next_message() == {"type": "http.request", "body": b"a", "more_body": True}
    assert exchange.next_message() == DISCONNECT


def test_after_the_response_there_is_only_disconnect():
    exchange = HttpExchange("POST", has_body=True)
    exchange.body_received(b"a")
    exchange.interpret(START)
    exchange.interpret(LAST)
    exchange.body_received(b"b")
    assert exchange.next_message() == DISCONNECT
    assert exchange.inbox_size == 0


def test_a_peer_that_stopped_sending_can_still_read():
    exchange = HttpExchange("GET", has_body=False)
    exchange.peer_half_closed()
    assert not exchange.peer_is_gone, "the application does not know of it"
    exchange.interpret(START)
    assert exchange.interpret(LAST)[2]


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("state", State)
def test_who_was_told_of_a_disconnect_may_answer_once_more(state, name):
    exchange = exchange_in(state)
    exchange.next_message()
    exchange.peer_half_closed()
    assert exchange.next_message() == DISCONNECT
    assert exchange.peer_is_gone
    if (state, name) in NEXT:
        exchange.interpret(MESSAGES[name])
    else:
        with pytest.raises(ClientDisconnectedError):
            exchange.interpret(MESSAGES[name])


def test_the_servers_own_answer():
    exchange = HttpExchange("HEAD", has_body=True)
    exchange.body_received(b"a")
    head, *rest = exchange.server_response(ResponseHead(500, []), b"text")
    assert (head.status, *rest) == (500, b"", True, 4)
    assert exchange.is_complete
    assert exchange.next_message() == DISCONNECT


@pytest.mark.parametrize(("method", "bodyless"), [("GET", False), ("HEAD", True)])
@pytest.mark.parametrize("status", [204, 304, 200])
def test_the_servers_own_answer_in_the_place_of_one_without_a_body(method, bodyless, status):
    exchange = HttpExchange(method, has_body=False)
    exchange.interpret({**START, "status": status})
    _, body, *_ = exchange.server_response(ResponseHead(500, []), b"text")
    assert (exchange.bodyless, body) == (bodyless, b"" if bodyless else b"text")


def test_the_status_is_known_with_the_head() -> None:
    exchange = HttpExchange("GET", has_body=False)
    assert exchange.status == 0
    exchange.interpret({**START, "status": 404})
    exchange.interpret(LAST)
    assert exchange.status == 404


def test_a_body_that_came_with_the_head_is_one_message() -> None:
    exchange = HttpExchange("POST", has_body=True)
    exchange.complete_body_received(b"all of it")
    assert exchange.inbox_size == 9
    assert exchange.next_message() == {"type": "http.request", "body": b"all of it", "more_body": False}


def test_a_response_begins_anew_when_its_head_is_taken_back() -> None:
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(START)
    exchange.interpret(MORE)
    assert (exchange.status, exchange.is_stream) == (200, True)
    exchange.head_taken_back()
    assert (exchange.status, exchange.is_stream) == (0, False)


# -- extensions ------------------------------------------------------------------------------------


def test_an_early_hint_comes_before_the_head_or_not_at_all():
    exchange = HttpExchange("GET", has_body=False)
    link = ((b"link", b"</a.css>; rel=preload"),)
    assert exchange.interpret(HINT) == EarlyHint(link)
    exchange.interpret(START)
    assert exchange.interpret(HINT) == EarlyHint(link)
    exchange.interpret(MORE)
    assert exchange.interpret(HINT) is None
    assert exchange.interpret(LAST)[2]


@pytest.mark.parametrize(
    ("links", "error"),
    [(b"<a>", TypeError), ("<a>", TypeError), (["<a>"], TypeError), ([b"<a>\r\nx: y"], ValueError)],
)
def test_links_that_are_none(links, error):
    with pytest.raises(error):
        HttpExchange("GET", has_body=False).interpret({**HINT, "links": links})


def test_a_file_by_its_path_is_the_whole_response():
    exchange = exchange_in(State.HELD)
    body = exchange.interpret(PATH)
    assert body == FileBody("/a/file", offset=0)
    (head, *rest), left = exchange.begin_file(body, 10)
    assert (head.status, rest, left) == (200, [b"", False, 10], 10)
    exchange.body_bytes += 7
    assert exchange.end_file(b"abc") == (None, b"abc", True, None)
    assert (exchange.state, exchange.body_bytes, exchange.is_stream) == (State.COMPLETE, 10, False)
    assert exchange.next_message() == DISCONNECT


@pytest.mark.parametrize(("length", "left"), [(4, 4), (10, 10)])
def test_of_a_file_that_is_longer_than_its_content_length_as_much_is_sent(length, left):
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(with_length(length))
    assert tell(exchange, PATH)[1] == left


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({**PATH}, "shorter than its content-length"),
        ({**COPY, "count": 5}, "shorter than its content-length"),
        ({**COPY, "count": 10, "more_body": True}, None),
        ({**COPY, "count": 11}, "has 10 bytes there, not 11"),
    ],
)
def test_a_file_that_does_not_fit(message, error):
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(with_length(12))
    if error is None:
        tell(exchange, message)
        assert exchange.end_file() == (None, b"", False, None)
        assert exchange.interpret({**LAST, "body": b"yy"})[2]
        return
    with pytest.raises((RuntimeError, ValueError), match=error):
        tell(exchange, message)
    assert exchange.state is State.HELD


def test_parts_of_files_between_pieces_of_a_body():
    exchange = exchange_in(State.HELD)
    (head, *rest), left = tell(exchange, {**COPY, "offset": 4, "count": 6, "more_body": True})
    assert (head.status, rest, left, exchange.is_stream) == (200, [b"", False, None], 6, True)
    assert exchange.end_file(b"ab") == (None, b"ab", False, None)
    exchange.interpret(MORE)
    assert tell(exchange, COPY) == (None, 10)
    assert exchange.end_file() == (None, b"", True, None)
    assert exchange.is_complete


@pytest.mark.parametrize(
    ("method", "status", "length"), [("HEAD", 200, 10), ("GET", 204, None), ("GET", 304, None)]
)
def test_files_that_are_not_sent(method, status, length):
    exchange = HttpExchange(method, has_body=False)
    exchange.interpret({**START, "status": status})
    (head, *rest), left = tell(exchange, PATH)
    assert (head.status, rest, left) == (status, [b"", False, length], 0)
    assert exchange.end_file() == (None, b"", True, None)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": PATH["type"]}, KeyError),
        ({**PATH, "path": "a/file"}, ValueError),
        ({**PATH, "path": ""}, ValueError),
        ({**PATH, "path": b"/a/file"}, TypeError),
        ({"type": COPY["type"]}, KeyError),
        ({**COPY, "file": "/a/file"}, TypeError),
        ({**COPY, "offset": -1}, ValueError),
        ({**COPY, "offset": "1"}, TypeError),
        ({**COPY, "count": -1}, ValueError),
        ({**COPY, "count": 1.0}, TypeError),
    ],
)
def test_files_that_are_none(message, error):
    exchange = exchange_in(State.HELD)
    with pytest.raises(error):
        exchange.interpret(message)
    assert exchange.state is State.HELD


def test_an_open_file_and_a_part_of_it():
    exchange = exchange_in(State.HELD)
    file = io.BytesIO()
    part = {**COPY, "file": file, "offset": 3, "count": 2, "more_body": True}
    assert exchange.interpret(part) == FileBody(file, 3, 2, more_body=True)


class WithoutTrailers(HttpExchange):
    accepts_trailers = False


def test_trailers_end_the_response():
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(ANNOUNCED)
    assert exchange.interpret(LAST)[1:] == (b"y", False, None)
    assert not exchange.is_stream
    assert exchange.interpret({**TRAILERS, "more_trailers": True}) is None
    assert not exchange.is_complete
    last = exchange.interpret({**TRAILERS, "headers": [[b"b", bytearray(b"z")]]})
    assert last == Trailers(((b"digest", b"x"), (b"b", b"z")))
    assert exchange.is_complete


def test_trailers_behind_a_file():
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(ANNOUNCED)
    first, left = tell(exchange, PATH)
    assert (first[1:], left) == ((b"", False, None), 10)
    assert exchange.end_file(b"ab") == (None, b"ab", False, None)
    assert exchange.interpret(TRAILERS) == Trailers(((b"digest", b"x"),))


@pytest.mark.parametrize(
    ("method", "kind", "headers"),
    [
        ("HEAD", HttpExchange, TRAILERS["headers"]),
        ("GET", WithoutTrailers, TRAILERS["headers"]),
        ("GET", HttpExchange, []),
    ],
)
def test_trailers_that_are_not_sent(method, kind, headers):
    exchange = kind(method, has_body=False)
    exchange.interpret(ANNOUNCED)
    assert not exchange.interpret(LAST)[2]
    assert exchange.interpret({**TRAILERS, "headers": headers}) == (None, b"", True, None)
    assert exchange.is_complete


@pytest.mark.parametrize(
    ("method", "kind"), [("GET", HttpExchange), ("GET", WithoutTrailers), ("HEAD", HttpExchange)]
)
def test_a_response_with_trailers_has_no_content_length_but_keeps_to_it(method, kind):
    exchange = kind(method, has_body=False)
    fields = [(b"Content-Length", b"2"), (b"connection", b"close"), (b"a", b"b")]
    exchange.interpret({**ANNOUNCED, "headers": fields})
    if method == "GET":
        with pytest.raises(RuntimeError, match="longer"):
            exchange.interpret({**LAST, "body": b"abc"})
    head = exchange.interpret({**LAST, "body": b"ab"})[0]
    has_length = kind is WithoutTrailers or method == "HEAD"
    assert (head.content_length is not None) == ((b"Content-Length", b"2") in head.fields) == has_length
    assert head.close
    assert (b"a", b"b") in head.fields


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([(b"Content-Length", b"1")], ValueError),
        ([(b"set-cookie", b"a=b")], ValueError),
        ([(b"a b", b"c")], ValueError),
        ([(b"a", b"b\r\n")], ValueError),
        ([("a", b"b")], TypeError),
        ([(b"a", "b")], TypeError),
    ],
)
def test_trailers_that_are_none(fields, error):
    exchange = exchange_in(State.IN_TRAILERS)
    with pytest.raises(error):
        exchange.interpret({**TRAILERS, "headers": fields})
    assert exchange.state is State.IN_TRAILERS


def test_trailers_may_be_announced_not_to_come():
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret({**START, "trailers": False})
    assert exchange.interpret(LAST)[2]


def test_a_response_that_begins_anew_has_no_trailers():
    exchange = HttpExchange("GET", has_body=False)
    exchange.interpret(ANNOUNCED)
    exchange.interpret({**LAST, "body": b""})
    exchange.head_taken_back()
    assert exchange.server_response(ResponseHead(500, []), b"text")[2]


def test_small_pieces_of_a_body_that_wait_take_little_more_than_their_bytes():
    """A peer that sends two bytes at a time may not have an object kept for each."""
    exchange = HttpExchange("POST", has_body=True)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for index in range(10_000):
            exchange.body_received(b"%02d" % (index % 100))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 40_000
    exchange.body_received(b"-" * 1000)
    exchange.body_received(b"end")
    assert exchange.inbox_size == 21_003
    message = exchange.next_message()
    body = b"".join([b"%02d" % index for index in range(100)]) * 100 + b"-" * 1000 + b"end"
    assert message == {"type": "http.request", "body": body, "more_body": True}
    assert type(message["body"]) is bytes
