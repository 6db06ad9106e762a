"""Session affinity: which session a request belongs to, and which of several slots a session belongs to.

A session is named by something in the request, such as a cookie. What is kept of the name is its *key*: 63 bits of a
keyed hash, so that clients cannot choose names that share a slot, and no name is written down anywhere.
"""

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from asgi_master.http.message import Headers

COOKIE, HEADER, QUERY, PATH, CLIENT_IP = "cookie", "header", "query", "path", "client-ip"
OWN = "@"
"""In place of a cookie's name: a cookie of the server's own."""
OWN_COOKIE = "asgi_master_session"

SECRET_SIZE = 32
"""Bytes of the secret that keys and cookies depend on."""

_ID_SIZE = 16
_MAC_SIZE = 16
_OWN_VALUE = re.compile(rb"[A-Za-z0-9_-]{43}")
_WORD = (1 << 64) - 1

ClientAddress = tuple[str, int | None] | None
_Reader = Callable[[Headers, bytes, bytes, ClientAddress], bytes | None]


class SessionKeys:
    """Finds the key of a request's session, in the first of several sources that names one."""

    def __init__(self, sources: Iterable[tuple[str, str]], secret: bytes) -> None:
        """`sources` are pairs of a kind and a name, in order of precedence. `secret` has `SECRET_SIZE` bytes."""
        self._hash_key = blake2b(b"session keys", key=secret, digest_size=32).digest()
        self._mac_key = blake2b(b"session cookies", key=secret, digest_size=32).digest()
        self._readers: list[_Reader] = []
        self._learned_cookies: list[bytes] = []
        self._learned_headers: list[bytes] = []
        self.sets_cookie = False
        """Whether a client whose session has no name is to get a cookie of ours."""
        self.reads_client = False
        """Whether `read` looks at the client's address."""
        for kind, name in sources:
            self._add(kind, name.encode("ascii"))

    def _add(self, kind: str, name: bytes) -> None:
        match kind:
            case "cookie" if name == OWN.encode():
                self.sets_cookie = True
                self._readers.append(self._own_cookie)
            case "cookie":
                self._learned_cookies.append(name + b"=")
                self._readers.append(lambda headers, _path, _query, _client: _cookie(headers, name))
            case "header":
                self._learned_headers.append(name)
                self._readers.append(lambda headers, _path, _query, _client: _field(headers, name))
            case "query":
                self._readers.append(lambda _headers, _path, query, _client: _parameter(query, name))
            case "path":
                search = re.compile(name).search
                self._readers.append(
                    lambda _headers, path, _query, _client: found[1] if (found := search(path)) else None
                )
            case _:
                self.reads_client = True
                self._readers.append(lambda _headers, _path, _query, client: _address(client))

    @property
    def learns(self) -> bool:
        """Whether a response can name a session: with `Set-Cookie`, or with the field."""
        return bool(self._learned_cookies or self._learned_headers)

    def read(self, headers: Headers, path: bytes, query: bytes, client: ClientAddress) -> int | None:
        """The key of the session that a request names; `None` if it names none."""
        for reader in self._readers:
            name = reader(headers, path, query, client)
            if name:
                return self.key(name)
        return None

    def key(self, name: bytes) -> int:
        """The key of the session of this name."""
        return int.from_bytes(blake2b(name, key=self._hash_key, digest_size=8).digest()) >> 1

    def learned(self, fields: Iterable[Sequence[bytes]]) -> list[int]:
        """The keys of the sessions that the fields of a response name."""
        keys = []
        for raw_name, value in fields:
            name = raw_name.lower()
            if name == b"set-cookie":
                keys += [
                    self.key(named)
                    for start in self._learned_cookies
                    if value.startswith(start)
                    and (named := _cookie_text(value[len(start) :].partition(b";")[0]))
                ]
            elif name in self._learned_headers and value:
                keys.append(self.key(bytes(value)))
        return keys

    def issue(self, random: bytes, *, is_secure: bool) -> tuple[int, bytes]:
        """A new session: its key, and the value of the `Set-Cookie` field that names it. `random` has 16 bytes.

        The cookie lasts as long as the browser's session. It holds nothing but a random number and its MAC.
        """
        value = base64.urlsafe_b64encode(random + self._mac(random)).rstrip(b"=")
        attributes = b"; Path=/; HttpOnly; SameSite=Lax" + (b"; Secure" if is_secure else b"")
        return self.key(random), OWN_COOKIE.encode() + b"=" + value + attributes

    def _own_cookie(
        self, headers: Headers, _path: bytes, _query: bytes, _client: ClientAddress
    ) -> bytes | None:
        value = _cookie(headers, OWN_COOKIE.encode())
        if value is None or not _OWN_VALUE.fullmatch(value):
            return None
        content = base64.urlsafe_b64decode(value + b"=")
        random, mac = content[:_ID_SIZE], content[_ID_SIZE:]
        return random if hmac.compare_digest(mac, self._mac(random)) else None

    def _mac(self, random: bytes) -> bytes:
        return blake2b(random, key=self._mac_key, digest_size=_MAC_SIZE).digest()


def slot_of(key: int, slots: Sequence[int]) -> int:
    """The slot of a session that has none yet, by rendezvous hashing: one slot more or less moves only its own share.

    `slots` is not empty.
    """
    return max(slots, key=lambda slot: (_mixed(key, slot), slot))


def _mixed(key: int, slot: int) -> int:
    """Bits that depend on all bits of both (the finalizer of SplitMix64)."""
    word = (key ^ ((slot + 1) * 0x9E3779B97F4A7C15)) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _cookie(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first cookie of this name (RFC 6265 §5.4)."""
    for field, value in headers:
        if field == b"cookie" and name in value:
            for pair in value.split(b";"):
                given, equals, text = pair.partition(b"=")
                if equals and given.strip() == name:
                    return _cookie_text(text)
    return None


def _cookie_text(text: bytes) -> bytes:
    """A cookie's value without the quotes that it may stand in (RFC 6265 §4.1.1)."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[:1] == b'"' == text[-1:] else text


def _field(headers: Headers, name: bytes) -> bytes | None:
    for field, value in headers:
        if field == name:
            return value
    return None


def _parameter(query: bytes, name: bytes) -> bytes | None:
    if name not in query:
        return None
    for pair in query.split(b"&"):
        given, _, value = pair.partition(b"=")
        if given == name:
            return value
    return None


def _address(client: ClientAddress) -> bytes | None:
    return b"client " + client[0].encode() if client is not None else None
