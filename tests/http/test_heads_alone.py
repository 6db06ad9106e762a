"""A head means what it means alone, whatever came before it on the connection: nothing of a library outlives a head."""

from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.parser import END_OF_MESSAGE, NEED_DATA
from asgi_master.http.h1.zttp_parser import ZttpParser
from asgi_master.http.limits import HttpLimits
from http_tokens import CONNECTION_VALUES, FRAMING_FIELDS, METHODS, SPECIAL_FIELDS

PARSERS = [ZttpParser, HttptoolsParser, H11Parser]
PLAIN = b"GET /after HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n"
TARGETS = [b"/", b"/a?b", b"*", b"http://h/x", b"//"]
BODIES = {
    b"0": b"",
    b"3": b"abc",
    b"003": b"abc",
    b"chunked": b"3;e=f\r\nabc\r\n0\r\nConnection: close\r\n\r\n",
    b"CHUNKED": b"0\r\n\r\n",
}


def message(method, target, version, fields, framing):
    """A request with its body; a framing goes with HTTP/1.1 only if it is a coding."""
    lines = [b" ".join((method, target, b"HTTP/" + version)), b"Host: a", *fields]
    if framing is None:
        return b"\r\n".join(lines) + b"\r\n\r\n"
    return b"\r\n".join([*lines, framing]) + b"\r\n\r\n" + BODIES[framing.partition(b": ")[2]]


messages = st.builds(
    message,
    st.sampled_from([method for method in METHODS if method != b"CONNECT"]),
    st.sampled_from(TARGETS),
    st.sampled_from([b"1.1", b"1.1", b"1.0"]),
    st.lists(st.sampled_from(SPECIAL_FIELDS), max_size=3),
    st.sampled_from([None, None, *FRAMING_FIELDS]),
)


def take(parser, data):
    """The request of these bytes and its body, and whether the connection goes on; `None` if it is refused."""
    parser.receive_data(data)
    try:
        request = parser.next_event()
        body = b""
        while (event := parser.next_event()) is not END_OF_MESSAGE:
            assert event is not NEED_DATA
            body += event
    except ProtocolError:
        return None
    parser.start_next_cycle()
    return request, body


def after(kind, messages):
    """A parser that has read these messages, without those that end the connection."""
    parser, had = kind(HttpLimits()), []
    for data in messages:
        told = take(parser, data)
        if told is not None and told[0].keep_alive:
            had.append(data)
        else:
            parser = kind(HttpLimits())
            for earlier in had:
                take(parser, earlier)
    return parser


@pytest.mark.parametrize("kind", PARSERS)
@settings(max_examples=400, deadline=None)
@given(st.lists(messages, min_size=1, max_size=5), messages)
@example([message(b"GET", b"/", b"1.1", [b"Proxy-Connection: close"], None)], PLAIN)
def test_a_head_after_others_means_what_it_means_alone(kind, before, last):
    assert take(after(kind, before), last) == take(kind(HttpLimits()), last)


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("name", [b"Connection", b"Proxy-Connection", b"Upgrade", b"Keep-Alive", b"Expect"])
def test_no_field_of_a_head_that_keeps_the_connection_spoils_the_next(kind, name):
    values = [*CONNECTION_VALUES, b"websocket", b"h2c", b"100-continue"]
    others = [[], [b"Connection: upgrade"], [b"Connection: keep-alive"], [b"Upgrade: h2c"]]
    for value, other, version, framing in product(values, others, (b"1.1", b"1.0"), (None, *FRAMING_FIELDS)):
        parser = kind(HttpLimits())
        told = take(parser, message(b"POST", b"/", version, [name + b": " + value, *other], framing))
        if told is None or not told[0].keep_alive:
            continue
        assert take(parser, PLAIN) == take(kind(HttpLimits()), PLAIN) is not None


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("method", METHODS)
def test_no_method_spoils_the_next_head(kind, method):
    parser = kind(HttpLimits())
    told = take(parser, message(method, b"/", b"1.1", [], None))
    if method == b"CONNECT":
        assert told is None, "a tunnel is not to be had here"
    else:
        assert told[0].method == method.decode()
        assert take(parser, PLAIN)[0].target == b"/after"
