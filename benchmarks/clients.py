"""The loads that wrk has not: WebSockets, Unix sockets, TLS connections for one request each, and the mix.

    python clients.py KIND ADDRESS CONNECTIONS SECONDS

ADDRESS is HOST:PORT or the path of a Unix socket. Prints how many answers came.
"""

import base64
import itertools
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import http2_client
from varied import Exchange, message, mix, tiny

_TIMEOUT = 10.0
_READ = 64 * 1024


class LoadError(Exception):
    """The load did not run, or the server answered wrongly; one line."""


class _Caller:
    """Makes one exchange after another: requests on one connection, messages on another."""

    def __init__(
        self, exchanges: Iterator[Exchange], http: socket.socket | None, websocket: socket.socket | None
    ) -> None:
        self._exchanges = exchanges
        self._http = http
        self._websocket = websocket
        self.sockets = [sock for sock in (http, websocket) if sock is not None]
        self.answered = 0

    def send(self) -> None:
        self._exchange = exchange = next(self._exchanges)
        self._reply = b""
        (self._websocket if exchange.is_message else self._http).sendall(exchange.sent)

    def on_readable(self, sock: socket.socket) -> None:
        data = sock.recv(_READ)
        if not data:
            raise LoadError("the server closed a connection")
        self._reply += data
        if not self._reply.startswith(self._exchange.begins):
            raise LoadError(f"wrong answer: {self._reply[:40]!r}")
        if self._reply.endswith(self._exchange.ends):
            self.answered += 1
            self.send()


def _call(callers: list[_Caller], seconds: float) -> int:
    poll = select.epoll()
    by_fd = {sock.fileno(): (caller, sock) for caller in callers for sock in caller.sockets}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    deadline = time.monotonic() + seconds
    for caller in callers:
        caller.send()
    while time.monotonic() < deadline:
        for fd, _event in poll.poll(1):
            caller, sock = by_fd[fd]
            caller.on_readable(sock)
    return sum(caller.answered for caller in callers)


def _echo(address: str, connections: int, seconds: float, *, size: int) -> int:
    exchange = message(os.urandom(size), os.urandom(4))
    callers = [
        _Caller(itertools.repeat(exchange), None, _upgrade(_connect(address))) for _ in range(connections)
    ]
    return _call(callers, seconds)


def _tiny(address: str, connections: int, seconds: float) -> int:
    callers = [_Caller(itertools.repeat(tiny()), _connect(address), None) for _ in range(connections)]
    return _call(callers, seconds)


def _mix(address: str, connections: int, seconds: float) -> int:
    """Each caller has a connection for its requests and a WebSocket; all draw from one sequence."""
    exchanges = itertools.cycle(list(mix()))
    callers = [_Caller(exchanges, _connect(address), _upgrade(_connect(address))) for _ in range(connections)]
    return _call(callers, seconds)


def _handshakes(address: str, connections: int, seconds: float, *, resumed: bool) -> int:
    """TLS connections for one request each; while OpenSSL works or a socket waits, Python's lock is free."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(connections) as pool:
        connect = partial(_connect_until, address, context, resumed=resumed)
        return sum(pool.map(connect, [deadline] * connections))


def _connect_until(address: str, context: ssl.SSLContext, deadline: float, *, resumed: bool) -> int:
    """Connect again and again; with `resumed` each connection resumes the session of the one before."""
    exchange, session, answered = tiny("Connection: close"), None, 0
    while time.monotonic() < deadline:
        with context.wrap_socket(_connect(address), session=session) as tls:
            if tls.session_reused is not (session is not None):
                raise LoadError("the session was not resumed" if session else "the session was resumed")
            tls.sendall(exchange.sent)
            reply = _read_all(iter(partial(tls.recv, _READ), b""), exchange)
            if resumed:
                session = tls.session
        answered += reply
    return answered


def _read_all(pieces: Iterable[bytes], exchange: Exchange) -> int:
    reply = b"".join(pieces)
    if not (reply.startswith(exchange.begins) and reply.endswith(exchange.ends)):
        raise LoadError(f"wrong answer: {reply[:40]!r}")
    return 1


def _http2_varied(address: str, connections: int, seconds: float, *, tls: bool) -> int:
    try:
        return http2_client.call(partial(_connect, address), connections, seconds, tls=tls)
    except http2_client.WrongAnswerError as error:
        raise LoadError(str(error)) from None
    except ImportError:
        raise LoadError("needs hpack: pip install hpack") from None


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if host:
        sock = socket.create_connection((host, int(port)), _TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_TIMEOUT)
        sock.connect(address)
    return sock


def _upgrade(sock: socket.socket) -> socket.socket:
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096) or b"\r\n\r\n"
    if not answer.startswith(b"HTTP/1.1 101"):
        raise LoadError(f"no WebSocket: {answer.splitlines()[:1]}")
    return sock


KINDS: dict[str, Callable[[str, int, float], int]] = {
    "echo-64": partial(_echo, size=64),
    "echo-16k": partial(_echo, size=16 * 1024),
    "tiny": _tiny,
    "mix": _mix,
    "full-handshakes": partial(_handshakes, resumed=False),
    "resumed-handshakes": partial(_handshakes, resumed=True),
    "http2-varied": partial(_http2_varied, tls=False),
    "http2-varied-tls": partial(_http2_varied, tls=True),
}


if __name__ == "__main__":
    kind, address, connections, seconds = sys.argv[1:]
    try:
        print(KINDS[kind](address, int(connections), float(seconds)))
    except (LoadError, OSError) as error:
        sys.exit(str(error))
