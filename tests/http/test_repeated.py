"""What a client repeats on a connection, fields or a whole head, means the same as if it were read anew."""

import pytest

from asgi_master.http.errors import ProtocolError
from asgi_master.http.grammar import KNOWN_HOSTS
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.parser import END_OF_MESSAGE
from asgi_master.http.h1.zttp_parser import ZttpParser
from asgi_master.http.limits import HttpLimits
from asgi_master.http.message import Request

FIELDS = b"Host: a\r\nX-One: 1\r\n\r\n"


@pytest.fixture(params=[ZttpParser, HttptoolsParser, H11Parser], ids=["zttp", "httptools", "h11"])
def parser(request):
    return request.param(HttpLimits())


def take(parser, data):
    """The request of these bytes, and its body."""
    parser.receive_data(data)
    request = parser.next_event()
    assert isinstance(request, Request)
    body = b""
    while (event := parser.next_event()) is not END_OF_MESSAGE:
        body += event
    parser.start_next_cycle()
    return request, body


def test_fields_are_given_again(parser):
    take(parser, b"GET /1 HTTP/1.1\r\n" + FIELDS)
    second, _ = take(parser, b"GET /2 HTTP/1.1\r\n" + FIELDS)
    assert second.headers == [(b"host", b"a"), (b"x-one", b"1")]
    assert (second.raw_path, second.keep_alive) == (b"/2", True)


def test_a_whole_head_is_given_again(parser):
    first, _ = take(parser, b"GET /1?a HTTP/1.1\r\n" + FIELDS)
    second, _ = take(parser, b"GET /1?a HTTP/1.1\r\n" + FIELDS)
    third, _ = take(parser, b"GET /1?b HTTP/1.1\r\n" + FIELDS)
    assert second is first
    assert (third.query_string, third.headers) == (b"b", first.headers)


def test_a_head_that_expects_something_is_judged_each_time(parser):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    first, _ = take(parser, head + b"x")
    second, _ = take(parser, head + b"y")
    assert second is not first
    assert second.expect_continue


def test_what_they_say_of_the_connection_is_said_again(parser):
    fields = b"Host: a\r\nConnection: keep-alive\r\n\r\n"
    for _ in range(2):
        request, _ = take(parser, b"GET / HTTP/1.0\r\n" + fields)
        assert request.keep_alive


def test_what_they_say_of_responses_is_said_again(parser):
    for target in (b"/1", b"/2"):
        request, _ = take(
            parser,
            b"GET %b HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nSec-Fetch-Mode: navigate\r\n\r\n" % target,
        )
        assert request.accepts_trailers
        assert request.accepts_hints


def test_other_fields_are_read(parser):
    take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)
    request, _ = take(parser, b"GET / HTTP/1.1\r\nHost: b\r\nX-One: 1\r\n\r\n")
    assert request.headers[0] == (b"host", b"b")


def test_the_version_is_judged_each_time(parser):
    take(parser, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    with pytest.raises(ProtocolError, match="Host field is missing"):
        take(parser, b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n")


def test_a_length_counts_for_its_own_message_only(parser):
    fields = b"Host: a\r\nContent-Length: 3\r\n\r\n"
    for body in (b"one", b"two"):
        request, seen = take(parser, b"POST / HTTP/1.1\r\n" + fields + body)
        assert (request.body_length, seen) == (3, body)
    request, seen = take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)
    assert (request.body_length, seen) == (0, b"")


def test_the_host_of_an_absolute_target_stays_with_its_request(parser):
    take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)
    request, _ = take(parser, b"GET http://other/ HTTP/1.1\r\n" + FIELDS)
    assert request.headers[0] == (b"host", b"other")
    request, _ = take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)
    assert request.headers[0] == (b"host", b"a")


def test_a_missing_host_is_refused_each_time(parser):
    with pytest.raises(ProtocolError):
        take(parser, b"GET / HTTP/1.1\r\nX-One: 1\r\n\r\n")


def test_long_hosts_are_not_kept(parser):
    for length in (10, 60_000):
        KNOWN_HOSTS.clear()
        take(parser, b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"a" * length))
        assert len(KNOWN_HOSTS) == (length < 256)


def test_heads_that_do_not_repeat_are_not_kept(parser):
    for number in range(200):
        request, _ = take(parser, b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % (number, number))
        assert request.headers == [(b"host", b"a"), (b"x", b"%d" % number)]
    assert parser._head_cache is None


def test_heads_that_begin_to_repeat_are_kept_again(parser):
    for number in range(50):
        take(parser, b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number)
    requests = [take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)[0] for _ in range(100)]
    assert requests[-1] is requests[-2]


def test_fields_in_front_of_repeated_ones_are_read(parser):
    take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)
    request, _ = take(parser, b"GET /2 HTTP/1.1\r\nX-Zero: 0\r\n" + FIELDS)
    assert request.headers == [(b"x-zero", b"0"), (b"host", b"a"), (b"x-one", b"1")]


def test_a_long_line_before_repeated_fields_is_not_kept(parser):
    take(parser, b"GET / HTTP/1.1\r\n" + FIELDS)
    request, _ = take(parser, b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n" + FIELDS)
    assert request.headers == [(b"host", b"a"), (b"x-one", b"1")]
    assert parser._head_cache is None
