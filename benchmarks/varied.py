"""Requests of which no two are alike, and the mix of a web application: bytes only, the same on each call.

A browser's requests differ in path, query, cookie, user agent and request id; real traffic therefore does not benefit
from what a server remembers of whole heads.
"""

import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

from app import CHUNK, TINY

COUNT = 60_000
"""Requests before they repeat: more than any cache of heads keeps."""
_SEED = 20261130
_KILOBYTE = 1024
_POST_SIZES = (_KILOBYTE, 20 * _KILOBYTE)
_MESSAGE_SIZES = (32, 512)
_GET_KINDS = 14
_POST_KINDS = 3
_STREAM_KINDS = 2
_WEBSOCKET_KINDS = 1

_OK = b"HTTP/1.1 200"
_HEAD = (
    "{method} {target} HTTP/1.1\r\n"
    "Host: www.example.org\r\n"
    "User-Agent: Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{chrome} Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.8,de;q=0.5,fr;q=0.3\r\n"
    "Cookie: session={session:032x}; theme=dark; csrftoken={token:016x}\r\n"
    "Referer: https://www.example.org/articles/{article}\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "X-Request-Id: {id:032x}\r\n"
)
_SYSTEMS = (
    "X11; Linux x86_64",
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "Linux; Android 10; K",
)


class Exchange(NamedTuple):
    """A request or WebSocket message, and how its answer begins and ends."""

    sent: bytes
    begins: bytes
    ends: bytes
    is_message: bool = False
    """Whether it goes over the client's WebSocket."""


def requests(count: int = COUNT) -> Iterator[bytes]:
    """GET requests of a browser, each with its own path, query, cookie, user agent and request id."""
    source = random.Random(_SEED)
    return (_get(source, number) for number in range(count))


def mix(count: int = 20_000) -> Iterator[Exchange]:
    """70 % varied GET, 15 % POST of 1 to 20 KB, 10 % streams, 5 % WebSocket messages, in random order."""
    source = random.Random(_SEED)
    makers = (_get_exchange,) * _GET_KINDS + (_post_exchange,) * _POST_KINDS
    makers += (_stream_exchange,) * _STREAM_KINDS + (_message_exchange,) * _WEBSOCKET_KINDS
    for start in range(0, count, len(makers)):
        for number, maker in enumerate(source.sample(makers, len(makers)), start):
            yield maker(source, number)


def message(payload: bytes, mask: bytes) -> Exchange:
    """A binary WebSocket message and its echo."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    sent = b"\x82" + bytes([length[0] | 0x80]) + length[1:] + mask + masked
    return Exchange(sent, b"\x82" + length, payload, is_message=True)


def tiny(*fields: str) -> Exchange:
    """The least request, with these header fields."""
    head = "\r\n".join(["GET / HTTP/1.1", "Host: bench", *fields, "", ""])
    return Exchange(head.encode(), _OK, b"\r\n\r\n" + TINY)


def _get(source: random.Random, number: int) -> bytes:
    query = f"page={source.randrange(500)}&q={source.getrandbits(40):x}"
    return _head(source, "GET", f"/articles/{number}/{source.getrandbits(32):08x}?{query}") + b"\r\n"


def _get_exchange(source: random.Random, number: int) -> Exchange:
    return Exchange(_get(source, number), _OK, b"\r\n\r\n" + TINY)


def _post_exchange(source: random.Random, number: int) -> Exchange:
    body = source.randbytes(source.randint(*_POST_SIZES))
    fields = f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    sent = _head(source, "POST", f"/post?form={number}") + fields.encode() + body
    return Exchange(sent, _OK, f"\r\n\r\n{len(body)}".encode())


def _stream_exchange(source: random.Random, number: int) -> Exchange:
    sent = _head(source, "GET", f"/stream?since={number}") + b"\r\n"
    return Exchange(sent, _OK, CHUNK[-2:] + b"\r\n0\r\n\r\n")


def _message_exchange(source: random.Random, _number: int) -> Exchange:
    return message(source.randbytes(source.randint(*_MESSAGE_SIZES)), source.randbytes(4))


def _head(source: random.Random, method: str, target: str) -> bytes:
    """A head without its last empty line."""
    return _HEAD.format(
        method=method,
        target=target,
        system=source.choice(_SYSTEMS),
        chrome=f"{source.randrange(120, 143)}.0.{source.randrange(6000, 8000)}.{source.randrange(200)}",
        session=source.getrandbits(128),
        token=source.getrandbits(64),
        article=source.randrange(1_000_000),
        id=source.getrandbits(128),
    ).encode()
