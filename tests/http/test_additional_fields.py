"""Trailer fields, and the Link fields of hints."""

import pytest

from asgi_master.http.additional_fields import links, trailers
from asgi_master.http.message import ResponseHead


def test_trailers_have_names_in_lower_case() -> None:
    assert trailers([(b"X-Digest", b"a"), [bytearray(b"b"), memoryview(b"c")]]) == (  # type: ignore[list-item]
        (b"x-digest", b"a"),
        (b"b", b"c"),
    )
    assert trailers([]) == ()


@pytest.mark.parametrize(
    "name",
    [b"Transfer-Encoding", b"content-length", b"Host", b"set-cookie", b"TE", b"content-type", b"trailer"],
)
def test_what_is_needed_before_the_content_is_no_trailer(name: bytes) -> None:
    with pytest.raises(ValueError, match=r"may not be a trailer"):
        trailers([(name, b"x")])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\n", b"\xe4", b":status"])
def test_a_trailer_has_a_name(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a token"):
        trailers([(name, b"x")])


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\n", b"\0"])
def test_nothing_is_smuggled_in(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        trailers([(b"a", value)])
    with pytest.raises(ValueError, match="control character"):
        links([value])


def test_links() -> None:
    assert links([b"<a>", b"<b>; rel=preload"]) == ((b"link", b"<a>"), (b"link", b"<b>; rel=preload"))
    with pytest.raises(TypeError):
        links(["<a>"])  # type: ignore[list-item]


def test_a_head_without_its_length() -> None:
    head = ResponseHead(200, [(b"Content-Length", b"3"), (b"a", b"b"), (b"connection", b"close")])
    other = head.without_length()
    assert (other.status, other.fields, other.content_length) == (200, ((b"a", b"b"),), None)
    assert other.close
    assert not ResponseHead(404, []).without_length().close
