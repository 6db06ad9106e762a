"""Keys of sessions, and their slots."""

import re
from collections import Counter

import pytest

from asgi_master.http.affinity import OWN_COOKIE, SECRET_SIZE, SessionKeys, slot_of

SECRET = bytes(range(SECRET_SIZE))
CLIENT = ("10.0.0.1", 4711)


def keys(*sources, secret=SECRET):
    return SessionKeys(sources, secret)


def read(source, *, headers=(), path=b"/", query=b"", client=CLIENT):
    return keys(source).read(list(headers), path, query, client)


KEY = keys().key(b"abc")


@pytest.mark.parametrize(
    "value",
    [
        b"sid=abc",
        b"x=1; sid=abc; y=2",
        b'sid="abc"',
        b"Xsid=no; sid = abc",
        b"sid=abc; sid=second",
        b"sid; sid=abc",
    ],
)
def test_a_cookie(value):
    assert (
        read(("cookie", "sid"), headers=[(b"host", b"sid=no"), (b"cookie", b"a=b"), (b"cookie", value)])
        == KEY
    )


@pytest.mark.parametrize("value", [b"", b"sid", b"sid=", b"Sid=abc", b"xsid=abc", b'sid=""'])
def test_no_cookie(value):
    assert read(("cookie", "sid"), headers=[(b"cookie", value)]) is None


def test_a_header():
    assert read(("header", "x-session"), headers=[(b"host", b"x"), (b"x-session", b"abc")]) == KEY
    assert read(("header", "x-session"), headers=[(b"x-sessions", b"abc")]) is None


@pytest.mark.parametrize("query", [b"sid=abc", b"EIO=4&sid=abc&t=1", b"sidsid=1&sid=abc"])
def test_a_parameter(query):
    assert read(("query", "sid"), query=query) == KEY


@pytest.mark.parametrize("query", [b"", b"sid", b"sid=", b"sids=abc", b"a=sid"])
def test_no_parameter(query):
    assert read(("query", "sid"), query=query) is None


def test_a_part_of_the_path():
    assert read(("path", "^/room/([a-z]+)"), path=b"/room/abc/join") == KEY
    assert read(("path", "^/room/([a-z]+)"), path=b"/rooms") is None


def test_the_client():
    one = read(("client-ip", ""))
    assert one is not None
    assert one == read(("client-ip", ""), client=("10.0.0.1", 1))
    assert one != read(("client-ip", ""), client=("10.0.0.2", 4711))
    assert read(("client-ip", ""), client=None) is None


def test_the_first_source_that_names_one_counts_and_a_name_is_one_session_wherever_it_stands():
    several = keys(("header", "x-session"), ("cookie", "sid"), ("client-ip", ""))
    both = [(b"cookie", b"sid=other"), (b"x-session", b"abc")]
    assert several.read(both, b"/", b"", CLIENT) == KEY
    assert several.read([(b"cookie", b"sid=abc")], b"/", b"", CLIENT) == KEY
    assert several.read([], b"/", b"", CLIENT) == read(("client-ip", ""))


def test_keys_depend_on_the_secret_and_fit_63_bits():
    assert keys(secret=bytes(SECRET_SIZE)).key(b"abc") != KEY
    assert all(0 <= keys().key(str(number).encode()) < 1 << 63 for number in range(100))


def test_a_response_names_a_session():
    learning = keys(("cookie", "sid"), ("header", "mcp-session-id"))
    assert learning.learns
    fields = [
        (b"Set-Cookie", b"sid=abc; Path=/"),
        (b"set-cookie", b"other=abc"),
        (b"set-cookie", b"sid=; Max-Age=0"),
        (b"Mcp-Session-Id", b"def"),
        (b"mcp-session-id", b""),
        (b"server", b"x"),
    ]
    assert learning.learned(fields) == [KEY, keys().key(b"def")]
    assert not keys(("query", "sid"), ("cookie", "@")).learns


class TestOwnCookie:
    keys = keys(("cookie", "@"))
    random = bytes(range(16))

    def cookie(self, **changes):
        return self.keys.issue(self.random, is_secure=changes.get("is_secure", False))

    def test_it_names_its_session_again(self):
        assert self.keys.sets_cookie
        key, field = self.cookie()
        pair, _, attributes = field.partition(b"; ")
        assert pair.startswith(OWN_COOKIE.encode() + b"=")
        assert attributes == b"Path=/; HttpOnly; SameSite=Lax"
        assert self.keys.read([(b"cookie", b"a=b; " + pair)], b"/", b"", None) == key

    def test_it_is_secure_on_tls(self):
        assert self.cookie(is_secure=True)[1].endswith(b"; SameSite=Lax; Secure")

    def test_what_was_changed_or_made_elsewhere_names_none(self):
        pair = self.cookie()[1].partition(b";")[0]
        for position in range(len(OWN_COOKIE) + 1, len(pair) - 1):
            changed = bytearray(pair)
            changed[position] = ord("A") if changed[position] != ord("A") else ord("B")
            assert self.keys.read([(b"cookie", bytes(changed))], b"/", b"", None) is None
        for value in (pair[:-1], pair + b"A", re.sub(b"=.*", b"=", pair), b"x=y"):
            assert self.keys.read([(b"cookie", value)], b"/", b"", None) is None
        foreign = keys(("cookie", "@"), secret=bytes(SECRET_SIZE))
        assert foreign.read([(b"cookie", pair)], b"/", b"", None) is None


class TestSlots:
    keys = tuple(range(0, 1 << 63, (1 << 63) // 4000))

    def test_they_are_even(self):
        counts = Counter(slot_of(key, [0, 1, 2, 3]) for key in self.keys)
        assert min(counts.values()) > 0.85 * len(self.keys) / 4

    def test_another_slot_moves_only_its_share(self):
        moved = [key for key in self.keys if slot_of(key, range(4)) != slot_of(key, range(5))]
        assert {slot_of(key, range(5)) for key in moved} == {4}
        assert len(moved) < 0.25 * len(self.keys)

    def test_order_does_not_matter(self):
        assert all(slot_of(key, [3, 0, 7]) == slot_of(key, [7, 3, 0]) for key in self.keys[:100])
