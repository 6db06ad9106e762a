"""What the application of a WebSocket may say in which state."""

import pytest

from asgi_master.asgi.errors import ClientDisconnectedError
from asgi_master.asgi.websocket_session import (
    Accept,
    CloseWith,
    ContinueDenial,
    Refuse,
    Send,
    StartDenial,
    State,
    WebSocketSession,
    data_of,
)
from asgi_master.http.websocket.frames import CloseCode

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
SEND = {"type": "websocket.send", "text": "x"}
DENY = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]}
BODY = {"type": "websocket.http.response.body", "body": b"no", "more_body": True}
LAST = {"type": "websocket.http.response.body", "body": b"!"}
MESSAGES = [ACCEPT, CLOSE, SEND, DENY, BODY]

WAYS = {
    State.CONNECTING: [],
    State.DENYING: [DENY],
    State.OPEN: [ACCEPT],
    State.CLOSED: [ACCEPT, CLOSE],
}


def session_after(*messages) -> WebSocketSession:
    session = WebSocketSession()
    for message in messages:
        session.advance(session.interpret(message))
    return session


@pytest.mark.parametrize(
    ("messages", "state"),
    [
        ([], State.CONNECTING),
        ([ACCEPT], State.OPEN),
        ([ACCEPT, SEND, SEND], State.OPEN),
        ([ACCEPT, CLOSE], State.CLOSED),
        ([CLOSE], State.CLOSED),
        ([DENY], State.DENYING),
        ([DENY, BODY, BODY], State.DENYING),
        ([DENY, BODY, LAST], State.CLOSED),
    ],
)
def test_ways(messages, state):
    assert session_after(*messages).state is state


ALLOWED = {
    State.CONNECTING: [ACCEPT, CLOSE, DENY],
    State.DENYING: [BODY],
    State.OPEN: [SEND, CLOSE],
    State.CLOSED: [],
}


@pytest.mark.parametrize("state", WAYS)
@pytest.mark.parametrize(
    "message", [*MESSAGES, {"type": "http.response.start"}, {"type": "websocket.receive"}]
)
def test_every_message_in_every_state(state, message):
    session = session_after(*WAYS[state])
    if message in ALLOWED[state]:
        session.interpret(message)
    elif state is State.CLOSED and message in ALLOWED[State.OPEN]:
        # The application closed it, and a task of its own may not know.
        with pytest.raises(ClientDisconnectedError, match="the application closed this WebSocket"):
            session.interpret(message)
    else:
        with pytest.raises(RuntimeError, match="cannot be sent"):
            session.interpret(message)
    assert session.state is state, "only `advance` changes the state"


@pytest.mark.parametrize("state", [State.CONNECTING, State.DENYING, State.OPEN, State.CLOSED])
@pytest.mark.parametrize("message", MESSAGES)
def test_everything_raises_after_a_disconnect(state, message):
    session = session_after(*WAYS[state])
    session.disconnected(1001, "going away")
    with pytest.raises(ClientDisconnectedError):
        session.interpret(message)
    assert issubclass(ClientDisconnectedError, OSError)


def test_the_first_cause_of_a_disconnect_counts():
    session = session_after(ACCEPT)
    session.disconnected(1012, "restart")
    session.disconnected(1006)
    assert session.disconnect == {"type": "websocket.disconnect", "code": 1012, "reason": "restart"}


def test_who_closed_itself_is_not_surprised_by_the_end():
    session = session_after(ACCEPT, CLOSE)
    session.disconnected(1000)
    assert session.state is State.CLOSED
    with pytest.raises(ClientDisconnectedError):
        session.interpret(SEND)


@pytest.mark.parametrize("state", WAYS)
def test_it_is_over_once_nothing_can_be_sent(state):
    session = session_after(*WAYS[state])
    assert session.is_over is (state is State.CLOSED)
    session.disconnected(CloseCode.ABNORMAL)
    assert session.is_over
    assert type(session.disconnect["code"]) is int


class TestOrders:
    def test_accept(self):
        message = {"type": "websocket.accept", "subprotocol": "v1", "headers": [[b"a", b"b"]]}
        assert WebSocketSession().interpret(message) == Accept("v1", [(b"a", b"b")])
        assert WebSocketSession().interpret(ACCEPT) == Accept(None, [])

    def test_refuse(self):
        assert WebSocketSession().interpret({"type": "websocket.close", "code": 4000}) == Refuse()

    def test_send(self):
        session = session_after(ACCEPT)
        assert session.interpret(SEND) == Send("x")
        assert session.interpret({"type": "websocket.send", "bytes": b"x", "text": None}) == Send(b"x")

    @pytest.mark.parametrize(
        ("message", "order"),
        [
            ({}, CloseWith(1000, "")),
            ({"code": None, "reason": None}, CloseWith(1000, "")),
            ({"code": 1005}, CloseWith(1005, "")),
            ({"code": 4999, "reason": "bye"}, CloseWith(4999, "bye")),
        ],
    )
    def test_close(self, message, order):
        assert session_after(ACCEPT).interpret({"type": "websocket.close", **message}) == order

    @pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2000, 5000])
    def test_close_codes_that_nobody_may_send(self, code):
        with pytest.raises(ValueError, match=f"{code} is no close code"):
            session_after(ACCEPT).interpret({"type": "websocket.close", "code": code})

    @pytest.mark.parametrize(
        ("reason", "error"), [(b"bye", TypeError), (5, TypeError), ("\ud800", UnicodeEncodeError)]
    )
    def test_close_reasons_that_cannot_be_sent(self, reason, error):
        with pytest.raises(error):
            session_after(ACCEPT).interpret({"type": "websocket.close", "reason": reason})

    def test_denial(self):
        session = WebSocketSession()
        start = session.interpret(DENY)
        assert isinstance(start, StartDenial)
        session.advance(start)
        first = session.interpret(BODY)
        assert isinstance(first, ContinueDenial)
        head, body, is_last, _length = first.chunk
        assert head is not None
        assert (head.status, head.fields) == (401, ((b"x", b"y"),))
        assert (body, is_last) == (b"no", False)
        session.advance(first)
        last = session.interpret(LAST)
        assert isinstance(last, ContinueDenial)
        assert last.chunk[:3] == (None, b"!", True)

    def test_a_denial_that_is_not_well_formed_changes_nothing(self):
        session = WebSocketSession()
        with pytest.raises(ValueError, match="status"):
            session.interpret({**DENY, "status": 101})
        assert session.state is State.CONNECTING
        with pytest.raises(TypeError):
            session.interpret({"type": "websocket.accept", "subprotocol": b"v1"})
        with pytest.raises(TypeError):
            session.interpret({"type": "websocket.accept", "headers": [("a", "b")]})
        assert session.interpret(ACCEPT) == Accept(None, [])


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ({"text": "a"}, "a"),
        ({"text": "", "bytes": None}, ""),
        ({"bytes": b"", "text": None}, b""),
        ({"bytes": bytearray(b"a")}, b"a"),
        ({"bytes": memoryview(b"a")}, b"a"),
    ],
)
def test_data(message, data):
    assert data_of(message) == data
    assert type(data_of(message)) is type(data)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, ValueError),
        ({"text": None, "bytes": None}, ValueError),
        ({"text": "a", "bytes": b"a"}, ValueError),
        ({"text": b"a"}, TypeError),
        ({"bytes": "a"}, TypeError),
        ({"bytes": 5}, TypeError),
    ],
)
def test_no_data(message, error):
    with pytest.raises(error):
        data_of(message)
