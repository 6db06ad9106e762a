"""A client that speaks HTTP/2 on a blocking socket, its protocol by the `h2` library.

client = H2Client(server.connect())
stream = client.request("POST", "/upload", body=b"data")
assert client.response(stream).status == 200
"""

import contextlib
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

Fields = Sequence[tuple[str, str]]


@dataclass
class H2Response:
    """What came of one stream so far."""

    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    interim: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    """The error code of RST_STREAM, if there was one."""

    def field(self, name: str) -> str | None:
        return dict(self.fields).get(name)


def survive_goaway(connection: h2.connection.H2Connection) -> None:
    """Have the library go on with the streams that are under way: it takes GOAWAY for the end of all (RFC 9113 §6.8)."""
    machine: Any = connection.state_machine
    is_open, goaway = h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionInputs.RECV_GOAWAY
    machine._transitions = {**machine._transitions, (is_open, goaway): (None, is_open)}


class H2Client:
    """One connection. What arrives is read while something is waited for."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        window: int | None = None,
        acknowledges: bool = True,
    ) -> None:
        """`window` is what a stream may send ahead; data is `acknowledges`d as it comes, or never."""
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        survive_goaway(self.h2)
        self.responses: dict[int, H2Response] = {}
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.events: list[h2.events.Event] = []
        self.is_closed = False
        self.acknowledges = acknowledges
        if window is not None:
            initial = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=initial)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `read` tells
                self.sock.sendall(data)

    def open(
        self, method: str, path: str, fields: Fields = (), *, ends: bool = True, flush: bool = True
    ) -> int:
        """Send a request's head; returns the stream's number."""
        stream = self.h2.get_next_available_stream_id()
        head = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
            *fields,
        ]
        self.h2.send_headers(stream, head, end_stream=ends)
        self.responses[stream] = H2Response()
        if flush:
            self.flush()
        return stream

    def request(self, method: str, path: str, fields: Fields = (), *, body: bytes = b"") -> int:
        """Send a request, and its body as far as the server's windows open; returns the stream's number."""
        stream = self.open(method, path, fields, ends=not body, flush=not body)
        if body:
            self.send(stream, body, ends=True)
        return stream

    def get(self, path: str, fields: Fields = ()) -> H2Response:
        """The whole response to a GET."""
        return self.response(self.request("GET", path, fields))

    def send(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Send a piece of a body; waits for the server's windows."""
        while True:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            if piece or not data:
                self.h2.send_data(stream, piece, end_stream=ends and not data)
                self.flush()
            if not data:
                return
            if not room:
                self.read()

    def read(self) -> None:
        """Wait for bytes, and take in what they say."""
        data = self.sock.recv(65536)
        if not data:
            self.is_closed = True
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        stream: Any = getattr(event, "stream_id", None)
        response = self.responses.setdefault(stream, H2Response()) if stream else H2Response()
        match event:
            case h2.events.ResponseReceived():
                response.status, response.fields = _head(event.headers)
            case h2.events.InformationalResponseReceived():
                response.interim.append(_head(event.headers))
            case h2.events.DataReceived():
                response.body += event.data
                if self.acknowledges and event.flow_controlled_length:
                    with contextlib.suppress(h2.exceptions.StreamClosedError):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            case h2.events.TrailersReceived():
                response.trailers = _text(event.headers)
            case h2.events.StreamEnded():
                response.ended = True
            case h2.events.StreamReset():
                response.reset = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaways.append(event)
            case _:
                pass

    def read_until(self, condition: Callable[[], object]) -> None:
        """Read until that is true. Fails if the server closes before."""
        while not condition():
            assert not self.is_closed, "the server closed the connection"
            self.read()

    def response(self, stream: int) -> H2Response:
        """The response, once it is complete or reset."""
        response = self.responses[stream]
        self.read_until(lambda: response.ended or response.reset is not None)
        return response

    def head(self, stream: int) -> H2Response:
        """The response, once its head is there."""
        response = self.responses[stream]
        self.read_until(lambda: response.status or response.reset is not None)
        return response

    def read_to_end(self) -> None:
        """Read until the server closes."""
        while not self.is_closed:
            self.read()


def _head(fields: Iterable[Any]) -> tuple[int, list[tuple[str, str]]]:
    """Status and fields."""
    (_status, status), *rest = _text(fields)
    return int(status), rest


def _text(fields: Iterable[Any]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in fields]


class Tunnel:
    """A stream of an extended CONNECT, as a socket: what `websocket_peer.Peer` speaks on."""

    def __init__(
        self, client: H2Client, path: str = "/", fields: Fields = (), protocol: str = "websocket"
    ) -> None:
        """Send the request; `answer` waits for what it came to."""
        client.read_until(lambda: client.h2.remote_settings.enable_connect_protocol)
        self._client = client
        self.stream = client.h2.get_next_available_stream_id()
        self.response = client.responses[self.stream] = H2Response()
        head = [
            *((":method", "CONNECT"), (":protocol", protocol), (":scheme", "http")),
            *((":authority", "localhost"), (":path", path), ("sec-websocket-version", "13"), *fields),
        ]
        client.h2.send_headers(self.stream, head)
        client.flush()
        self._taken = 0

    def answer(self) -> H2Response:
        return self._client.head(self.stream)

    def settimeout(self, timeout: float) -> None:
        self._client.sock.settimeout(timeout)

    def sendall(self, data: bytes) -> None:
        self._client.send(self.stream, data)

    def recv(self, size: int) -> bytes:
        response = self.response
        self._client.read_until(
            lambda: len(response.body) > self._taken or response.ended or response.reset is not None
        )
        data = response.body[self._taken : self._taken + size]
        self._taken += len(data)
        return data

    def end(self) -> None:
        """End the client's side."""
        with contextlib.suppress(h2.exceptions.StreamClosedError):  # the server has reset it
            self._client.h2.end_stream(self.stream)
        self._client.flush()

    def reset(self, code: int = 8) -> None:
        self._client.h2.reset_stream(self.stream, code)
        self._client.flush()
