"""A WebSocket client that may misbehave: raw frames over a socket."""

import contextlib
import socket
from base64 import b64encode
from typing import Self

from asgi_master.http.websocket.fast import unmask

KEY = b64encode(b"0123456789abcdef")
MASK = b"\x01\x02\x03\x04"
FIN, RSV1 = 0x80, 0x40
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def handshake(*extra: bytes, target: bytes = b"/", key: bytes = KEY, version: bytes = b"13") -> bytes:
    """The bytes of an opening handshake; `extra` are whole header lines without CRLF."""
    lines = [
        b"GET " + target + b" HTTP/1.1",
        b"host: example.com",
        b"upgrade: websocket",
        b"connection: keep-alive, Upgrade",
        b"sec-websocket-key: " + key,
        b"sec-websocket-version: " + version,
        *extra,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def frame(first: int, payload: bytes = b"") -> bytes:
    """A masked frame."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 0x10000:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes((first,)) + length + MASK + unmask(payload, MASK)


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(FIN | CLOSE, code.to_bytes(2, "big") + reason.encode())


class Peer:
    """One connection. Every wait ends after ten seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def open(self, *extra: bytes, then: bytes = b"", **changes: bytes) -> Self:
        """Shake hands, and send `then` in the same segment."""
        self.send(handshake(*extra, **changes) + then)
        head = self.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def read_head(self) -> bytes:
        """A response head, its last CRLF pair included."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def read_frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame."""
        size = self._exactly(2)
        first, short = size
        assert not short & 0x80, "servers do not mask"
        length = short
        if short >= 126:
            length = int.from_bytes(self._exactly(2 if short == 126 else 8), "big")
        return first, self._exactly(length)

    def read_close(self) -> tuple[int, str]:
        """Code and reason of the close frame that must come next."""
        first, payload = self.read_frame()
        assert first == FIN | CLOSE, (first, payload)
        return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")

    def read_to_end(self) -> bytes:
        """Everything until the server closes; a reset ends it too."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                self._receive()
        data, self._buffer = self._buffer, b""
        return data

    def reset(self) -> None:
        """Leave without a word."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data
