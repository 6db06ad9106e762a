import pytest

from asgi_master.errors import SettingsError
from asgi_master.settings.resolve import resolve
from asgi_master.settings.sticky import SessionSource, parse_sticky


def test_what_is_a_source():
    assert parse_sticky("cookie:sid") == SessionSource("cookie", "sid")
    assert parse_sticky("cookie:@") == SessionSource("cookie", "@")
    assert parse_sticky("header:Mcp-Session-Id") == SessionSource("header", "mcp-session-id")
    assert parse_sticky("Query:session[id]") == SessionSource("query", "session[id]")
    assert parse_sticky(r"path:^/room/([a-z:]+)") == SessionSource("path", "^/room/([a-z:]+)")
    assert parse_sticky(" client-ip") == SessionSource("client-ip")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sid",
        "client-ip:x",
        "cookie:",
        "cookie:a=b",
        "header:a b",
        "query:a&b",
        "path:",
        "path:/room",
        "path:(",
        "path:(ü)",
        "path:(a)(b)",
    ],
)
def test_what_is_none(text, tmp_path):
    with pytest.raises(ValueError):
        parse_sticky(text)
    with pytest.raises(SettingsError) as caught:
        resolve({"app": "main:app", "sticky": [text]}, {}, tmp_path)
    [line] = caught.value.errors
    assert line.startswith("sticky: ")
