"""`start_response`, `write` and pieces, held to PEP 3333."""

import sys

import pytest

from asgi_master.asgi.wsgi.file_wrapper import FileWrapper
from asgi_master.asgi.wsgi.response import Response, response_head

PLAIN = [("Content-Type", "text/plain")]


def begun(*, method="GET", status="200 OK", headers=PLAIN):
    response = Response(method)
    response.start_response(status, headers, None)
    return response


def of_length(length, **options):
    return begun(headers=[("Content-Length", str(length))], **options)


def raised():
    try:
        raise KeyError("what the application raised")
    except KeyError:
        return sys.exc_info()


# -- the head ------------------------------------------------------------------------------------------


def test_a_head():
    head = response_head("404 Not Found", [("X-One", "1"), ("Content-Length", "3"), ("x-one", "\xe9")])
    assert (head.status, head.content_length) == (404, 3)
    assert head.fields == ((b"X-One", b"1"), (b"Content-Length", b"3"), (b"x-one", b"\xe9"))


def test_a_head_that_is_repeated_is_read_once():
    assert response_head("200 OK", PLAIN) is response_head("200 OK", [*PLAIN])
    personal = [("Set-Cookie", "a=1")]
    assert response_head("200 OK", personal) is not response_head("200 OK", personal)
    large = [("X", "1" * 1000)]
    assert response_head("200 OK", large) is not response_head("200 OK", large)


@pytest.mark.parametrize("status", ["200 OK", "200 ", "200", "299 Anything at all", "599 \xe9"])
def test_a_status(status):
    assert response_head(status, []).status == int(status[:3])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("OK", ValueError),
        ("", ValueError),
        ("20 OK", ValueError),
        ("2000 OK", ValueError),
        ("200\tOK", ValueError),
        ("\u0662\u0660\u0660 OK", ValueError),
        ("100 Continue", ValueError),
        ("101 Switching Protocols", ValueError),
        ("000 Nothing", ValueError),
        (200, TypeError),
        (b"200 OK", TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_status(status, error):
    with pytest.raises(error, match="status"):
        response_head(status, [])


@pytest.mark.parametrize(
    "headers",
    [None, (), (("a", "b"),), {"a": "b"}, [("a",)], [("a", "b", "c")], [["a", "b"]], ["ab"], [None]],
)
def test_what_are_no_headers(headers):
    with pytest.raises(TypeError):
        response_head("200 OK", headers)


@pytest.mark.parametrize("entry", [(b"a", "b"), ("a", b"b"), ("a", None), ("a", 5)])
def test_headers_are_str(entry):
    with pytest.raises(TypeError, match="not of type str"):
        response_head("200 OK", [entry])


@pytest.mark.parametrize(
    "entry",
    [
        ("a", "b\r\nc: d"),
        ("a", "b\nc"),
        ("a", "b\0"),
        ("a\r\nb", "c"),
        ("a b", "c"),
        ("", "c"),
        ("a:", "c"),
        ("\xe9", "c"),
        ("\u20ac", "c"),
        ("a", "\u20ac"),
        ("Content-Length", "five"),
        ("Content-Length", "-1"),
    ],
)
def test_headers_that_may_not_be_sent(entry):
    with pytest.raises(ValueError):
        response_head("200 OK", [entry])


@pytest.mark.parametrize(
    "name",
    ["Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate"],
)
def test_hop_by_hop_fields_are_the_servers(name):
    with pytest.raises(ValueError, match="hop-by-hop"):
        response_head("200 OK", [(name, "close")])


# -- start_response ------------------------------------------------------------------------------------


def test_a_second_call_needs_exc_info():
    response = begun()
    with pytest.raises(AssertionError, match="second time"):
        response.start_response("500 Sorry", [], None)
    assert response.head.status == 200


def test_with_exc_info_the_head_is_replaced():
    response = begun()
    response.start_response("500 Sorry", [], raised())
    assert response.head.status == 500
    assert response.piece(b"sorry") == b"sorry"


def test_with_exc_info_a_first_call_is_one():
    response = Response("GET")
    response.start_response("500 Sorry", [], raised())
    assert response.head.status == 500


def test_with_exc_info_after_the_first_bytes_it_raises_what_is_in_it():
    response = begun()
    response.piece(b"x")
    given = raised()
    with pytest.raises(KeyError, match="what the application raised") as caught:
        response.start_response("500 Sorry", [], given)
    assert caught.value is given[1]
    assert response.head.status == 200


def test_a_bad_head_leaves_the_one_before():
    response = begun()
    with pytest.raises(ValueError):
        response.start_response("bad", [], raised())
    assert response.head.status == 200


# -- the body ------------------------------------------------------------------------------------------


def test_bytes_before_start_response():
    for give in (lambda r: r.piece(b"x"), lambda r: r.write(b"x"), lambda r: r.end()):
        with pytest.raises(AssertionError, match="start_response was not called"):
            give(Response("GET"))


def test_empty_pieces_send_nothing():
    response = begun()
    assert response.piece(b"") == response.write(b"") == b""
    assert not response.is_begun
    response.start_response("500 Sorry", [], raised())
    response.end()
    assert (response.is_begun, response.length) == (True, 0)


@pytest.mark.parametrize("piece", ["text", bytearray(b"x"), memoryview(b"x"), None, 5, [b"x"]])
def test_pieces_are_bytes(piece):
    for give in (begun().piece, of_length(5).piece, begun().write, of_length(5).write):
        with pytest.raises(TypeError, match="not bytes"):
            give(piece)


def test_the_length_is_known_at_the_end():
    response = begun()
    assert [response.piece(b"abc"), response.write(b"de")] == [b"abc", b"de"]
    response.end()
    assert (response.length, response.is_whole, response.sends_body) == (5, False, True)


def test_a_body_as_long_as_announced_is_whole():
    response = of_length(5)
    assert response.piece(b"abc") == b"abc"
    assert not response.is_whole
    assert response.write(b"de") == b"de"
    assert response.is_whole
    response.end()


def test_of_a_piece_that_is_too_long_the_announced_part_is_sent():
    response = of_length(5)
    assert [response.piece(b"abc"), response.piece(b"defgh"), response.piece(b"i")] == [b"abc", b"de", b""]
    assert (response.length, response.is_whole) == (5, True)


def test_to_write_more_than_announced_raises():
    response = of_length(5)
    response.write(b"abc")
    with pytest.raises(ValueError, match="longer"):
        response.write(b"def")
    assert response.write(b"de") == b"de"
    with pytest.raises(ValueError, match="longer"):
        of_length(1).write(b"ab")


def test_less_than_announced():
    response = of_length(5)
    response.piece(b"abc")
    with pytest.raises(ValueError, match="shorter"):
        response.end()
    with pytest.raises(ValueError, match="shorter"):
        of_length(5).end()


def test_nothing_was_announced_and_nothing_came():
    response = of_length(0)
    response.end()
    assert response.is_whole


@pytest.mark.parametrize(
    "options", [{"method": "HEAD"}, {"status": "204 No Content"}, {"status": "304 Same"}]
)
def test_responses_without_a_body(options):
    response = begun(**options)
    assert response.piece(b"abc") == response.write(b"de") == b""
    response.end()
    assert (response.sends_body, response.length) == (False, 5)


def test_head_announces_the_length_of_what_is_not_sent():
    response = of_length(5, method="HEAD")
    response.end()
    assert (response.sends_body, response.head.content_length) == (False, 5)


# -- files ---------------------------------------------------------------------------------------------


class File:
    def __init__(self, data):
        self.data, self.sizes = data, []

    def read(self, size):
        self.sizes.append(size)
        data, self.data = self.data[:size], self.data[size:]
        return data


class Closable(File):
    closed = False

    def close(self):
        self.closed = True


def test_a_file_is_read_in_blocks():
    file = File(b"abcde")
    wrapper = FileWrapper(file, 2)
    assert list(wrapper) == [b"ab", b"cd", b"e"]
    assert set(file.sizes) == {2}
    assert not hasattr(wrapper, "close")
    assert FileWrapper(file).block_size == 8192


def test_what_can_be_closed_is():
    file = Closable(b"")
    FileWrapper(file).close()
    assert file.closed
