import pytest

from asgi_master.settings.access_headers import AccessHeaders, sort_access_headers
from asgi_master.settings.headers import parse_header


def test_a_header_has_a_lower_case_name_and_a_bare_value():
    assert parse_header("X-Served-By:  me, café ") == (b"x-served-by", "me, café".encode("latin-1"))
    assert parse_header("X-Empty:") == (b"x-empty", b"")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a header"),
        ("X-A", "is not a header"),
        (": value", "is not a header"),
        ("X A: value", "is not a header"),
        ("X-Ä: value", "is not a header"),
        ("X-A: one\r\nX-B: two", "characters"),
        ("X-A: a\0b", "characters"),
        ("X-A: €", "characters"),
        ("Content-Length: 3", "belongs to the server"),
        ("transfer-encoding: chunked", "belongs to the server"),
    ],
)
def test_what_is_no_header_says_why(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_header(text)


def test_headers_of_the_access_log_are_sorted_each_once() -> None:
    assert sort_access_headers(["X-Tenant", "response: X-Cache", "x-tenant"]) == AccessHeaders(
        request=("x-tenant",), response=("x-cache",)
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [("response:", "names no header"), ("x y", "names no header"), ("Cookie", "credentials")],
)
def test_what_the_access_log_does_not_show_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sort_access_headers([text])
