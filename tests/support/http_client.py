"""A client that hides nothing: it sends the bytes it is given and takes responses apart strictly."""

import contextlib
import socket
from dataclasses import dataclass


@dataclass
class Response:
    status: int
    reason: str
    version: str
    fields: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; a test that expects a field twice looks at `fields`."""
        return {name.lower(): value for name, value in self.fields}


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str = "/", *fields: str) -> Response:
        self.send(request("GET", target, *fields))
        return self.response()

    def response(self, method: str = "GET") -> Response:
        """The next response, `100 Continue` included."""
        head = self.read_until(b"\r\n\r\n")[:-4].decode("latin-1")
        first, *lines = head.split("\r\n")
        version, status, reason = first.split(" ", 2)
        fields = []
        for line in lines:
            name, value = line.split(": ", 1)
            fields.append((name, value))
        response = Response(int(status), reason, version, fields, b"")
        if method != "HEAD" and response.status >= 200 and response.status not in (204, 304):
            response.body = self._body(response.headers)
        return response

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return self.read(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        return self.read_to_end()

    def chunks(self) -> list[bytes]:
        """The chunks of a body, without the last, empty one."""
        chunks = []
        while size := int(self.read_until(b"\r\n"), 16):
            chunks.append(self.read(size))
            assert self.read(2) == b"\r\n"
        assert self.read(2) == b"\r\n"
        return chunks

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._receive()
        index = self._buffer.index(end) + len(end)
        return self.read(index)

    def read_to_end(self) -> bytes:
        """All bytes until the server closes in good order."""
        with contextlib.suppress(EOFError):
            while True:
                self._receive()
        data, self._buffer = self._buffer, b""
        return data

    def is_closed(self) -> bool:
        """Wait for the server to close; true if it did so without a further byte, in good order."""
        return self.read_to_end() == b""

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"the server closed after {self._buffer[:200]!r}")
        self._buffer += data


def request(method: str, target: str, *fields: str, body: bytes = b"", host: str = "localhost") -> bytes:
    """A request with a Host field, the fields given, and a Content-Length if it has a body."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
