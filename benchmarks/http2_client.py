"""The HTTP/2 load of which no two requests are alike: path and cookie are new each time, as h2load cannot have them.

Each connection sends blocks that were compressed ahead for it, 32 of them under way, and begins anew after the last.
"""

import random
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY, _WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x7, 0x8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_AT_ONCE = 32
_EACH = 1500
"""Requests of one connection."""
_READ = 256 * 1024
_FIELDS = (
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "www.example.org"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.8,de;q=0.5,fr;q=0.3"),
    ("referer", "https://www.example.org/articles/2026/11/a-rather-long-address?utm_source=newsletter"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("upgrade-insecure-requests", "1"),
)


class WrongAnswerError(Exception):
    """The server did not answer as it should; one line."""


def opening() -> bytes:
    """What a client sends first: it takes as much as any connection gives."""
    update = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30))
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + update


def requests(seed: int, count: int = _EACH, *, path: str = "", body: bytes = b"") -> list[bytes]:
    """Whole requests of one connection, in their order, each with a path and a cookie of its own.

    With `path` they are the same, and posts if there is a `body`.
    """
    from hpack import Encoder  # noqa: PLC0415 -- only this load needs it

    source, encoder = random.Random(seed), Encoder()
    frames = []
    for number in range(count):
        target, cookie = path, "session=0"
        if not path:
            target = f"/articles/{number}/{source.getrandbits(32):08x}?page={source.randrange(500)}"
            cookie = (
                f"session={source.getrandbits(128):032x}; theme=dark; csrftoken={source.getrandbits(64):016x}"
            )
        method = (":method", "POST") if body else _FIELDS[0]
        block = encoder.encode([method, *_FIELDS[1:3], (":path", target), *_FIELDS[3:], ("cookie", cookie)])
        stream = 2 * number + 1
        if body:
            head = _frame(_HEADERS, _END_HEADERS, stream, block)
            frames.append(head + _frame(_DATA, _END_STREAM, stream, body))
        else:
            frames.append(_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, block))
    return frames


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


class _Caller:
    def __init__(self, frames: Sequence[bytes], connect: Callable[[], socket.socket]) -> None:
        self._frames = frames
        self._connect = connect
        self.answered = 0

    def begin(self) -> socket.socket:
        """Connect, and send the first requests."""
        self.sock = self._connect()
        self._sent = self._done = 0
        self._buffer = b""
        self.sock.sendall(opening())
        self._send(_AT_ONCE)
        return self.sock

    def _send(self, count: int) -> None:
        self.sock.sendall(b"".join(self._frames[self._sent : self._sent + count]))
        self._sent = min(self._sent + count, len(self._frames))

    def on_readable(self) -> bool:
        """Take what came, and ask as often again; false if all was asked and answered."""
        data = self.sock.recv(_READ)
        if not data:
            raise WrongAnswerError("the server closed a connection")
        buffer, at, done = self._buffer + data, 0, 0
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3])
            if len(buffer) - at < 9 + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            if kind <= _HEADERS:
                done += flags & _END_STREAM
            elif kind == _SETTINGS and not flags & _ACK:
                self.sock.sendall(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind in (0x3, _GOAWAY):
                raise WrongAnswerError("the server ended a stream or the connection")
            at += 9 + size
        self._buffer = buffer[at:]
        self._done += done
        self.answered += done
        if self._sent < len(self._frames):
            self._send(done)
        return self._done < len(self._frames)


def call(connect: Callable[[], socket.socket], connections: int, seconds: float, *, tls: bool) -> int:
    """Returns how many requests were answered."""
    secure = connect
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])

        def secure() -> socket.socket:
            return context.wrap_socket(connect())

    poll = select.epoll()
    callers = {}
    for seed in range(connections):
        caller = _Caller(requests(seed), secure)
        callers[caller.begin().fileno()] = caller
    for fd in callers:
        poll.register(fd, select.EPOLLIN)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for fd, _event in poll.poll(1):
            caller = callers[fd]
            pending = True
            while pending:
                if not caller.on_readable():
                    poll.unregister(fd)
                    del callers[fd]
                    caller.sock.close()
                    callers[new := caller.begin().fileno()] = caller
                    poll.register(new, select.EPOLLIN)
                    break
                pending = tls and caller.sock.pending() > 0
    return sum(caller.answered for caller in callers.values())
