"""What other clients feel of some that flood one worker: the longest wait for an answer, by kind of flood.

    python benchmarks/flood.py [--seconds 2] [--kinds NAME,...] [--loop asyncio] [--http h11] [--against SOURCES]

One worker, one process that floods it over 1 and over 24 connections, and a client that asks on a new connection each
20 ms. With `--against`, the `src` of another version is measured in turn with this one. Loopback only; three minutes.
"""

import argparse
import contextlib
import http.client
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parent / "src"
COUNTS = (1, 24)
BAR = 0.1
"""Seconds that another client may have to wait."""
_PAUSE = 0.02
_PATIENCE = 30.0
_PIECE = 256 * 1024
_MESSAGE = 16 * 2**20 - 16
"""Bytes of the largest message that a WebSocket takes by default, nearly."""


def frame(first: int, payload: bytes = b"") -> bytes:
    """A frame masked with zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def bomb(size: int) -> bytes:
    """A little that inflates to much."""
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OTHERS = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\nX: %d\r\n\r\n" % (k, k) for k in range(2000))
POST = b"POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
CHUNKED_POST = (
    b"POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 20
    + b"0\r\n\r\n"
)
UPLOAD = b"POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


@dataclass(frozen=True)
class Kind:
    """What a flooding client says: first once, and then again and again."""

    unit: Callable[[], bytes]
    opening: bytes = b""
    is_websocket: bool = False
    is_tls: bool = False
    record: int = 0
    """Bytes of each TLS record; 0: as large as they come."""
    is_refilled: bool = True
    """Whether it connects again when the server ends a connection."""


def _websocket(unit: Callable[[], bytes], opening: bytes = b"") -> Kind:
    return Kind(unit, opening, is_websocket=True)


KINDS = {
    "pipelined GETs": Kind(lambda: GET * 4000),
    "pipelined GETs, all different": Kind(lambda: OTHERS),
    "pipelined POSTs of a byte": Kind(lambda: POST * 4000),
    "pipelined chunked POSTs": Kind(lambda: CHUNKED_POST * 1000),
    "1-byte chunks, read": Kind(lambda: b"1\r\nx\r\n" * 8000, UPLOAD % b"/read"),
    "1-byte chunks, not read": Kind(lambda: b"1\r\nx\r\n" * 8000, UPLOAD % b"/idle"),
    "1-byte chunks, answered before": Kind(lambda: b"1\r\nx\r\n" * 8000, UPLOAD % b"/a"),
    "chunk extensions": Kind(lambda: b"2;a=b\r\nxy\r\n" * 6000, UPLOAD % b"/read"),
    "a body without end, read": Kind(lambda: bytes(4 * 2**20), LONG % b"/read"),
    "a body without end, answered before": Kind(lambda: bytes(4 * 2**20), LONG % b"/a"),
    "a response of small parts": Kind(lambda: b"", b"GET /small HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a response of large parts": Kind(lambda: b"", b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"),
    "requests refused, again and again": Kind(lambda: b"GET / HTTP/1.1\r\nnonsense\r\n\r\n" * 1000),
    "an application that does not hear the end": Kind(lambda: b"", b"GET /deaf HTTP/1.1\r\nHost: h\r\n\r\n"),
    "pings": _websocket(lambda: frame(0x89) * 20000),
    "pings of 125 bytes": _websocket(lambda: frame(0x89, b"p" * 125) * 4000),
    "pongs": _websocket(lambda: frame(0x8A) * 20000),
    "empty fragments": _websocket(lambda: frame(0x00) * 20000, frame(0x01)),
    "1-byte fragments": _websocket(lambda: frame(0x00, b"x") * 20000, frame(0x02)),
    "empty messages": _websocket(lambda: frame(0x82) * 20000),
    "1-byte messages": _websocket(lambda: frame(0x81, b"x") * 20000),
    "16 MiB messages": _websocket(lambda: frame(0x81, "\u20ac".encode() * (_MESSAGE // 3))),
    "bombs of 16 MiB": _websocket(lambda: frame(0xC2, bomb(_MESSAGE))),
    "pings after the close": _websocket(lambda: frame(0x89) * 20000, frame(0x88, b"\x03\xe8")),
    "TLS, pipelined GETs": Kind(lambda: GET * 4000, is_tls=True),
    "TLS, a byte a record": Kind(lambda: GET * 100, is_tls=True, record=1),
    "TLS, a body in 1-byte records": Kind(lambda: bytes(4000), LONG % b"/read", is_tls=True, record=1),
    "TLS, a body without end, read": Kind(lambda: bytes(4 * 2**20), LONG % b"/read", is_tls=True),
}


# --- the client that floods: a process of its own


class Client:
    """One flooding connection."""

    def __init__(self, kind: Kind, port: int, unit: bytes) -> None:
        self._kind = kind
        self._unit = unit
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._shaken_hands() if kind.is_tls else None
        opening = kind.opening
        if kind.is_websocket:
            self.sock.sendall(UPGRADE)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += self._received()
        self._rest = memoryview(self._encrypted(opening) if opening else b"")
        self.sock.setblocking(False)

    def _received(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server ended the connection")
        return data

    def _shaken_hands(self) -> ssl.SSLObject:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls = context.wrap_bio(self._incoming, self._outgoing)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self._received())
            else:
                self.sock.sendall(self._outgoing.read())
                return tls

    def _encrypted(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        size = self._kind.record or len(data)
        for start in range(0, len(data), size):
            self._tls.write(data[start : start + size])
        return self._outgoing.read()

    def write(self) -> None:
        """Send as much as goes."""
        if not self._rest and self._unit:
            self._rest = memoryview(self._encrypted(self._unit))
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[self.sock.send(self._rest[:_PIECE]) :]

    @property
    def wants_to_write(self) -> bool:
        return bool(self._rest or self._unit)

    def read(self) -> bool:
        """Take in what came; false if that was the end."""
        with contextlib.suppress(BlockingIOError):
            return bool(self.sock.recv(2**20))
        return True


def flood(kind: Kind, port: int, count: int, seconds: float) -> None:
    """Do it for so long."""
    unit = kind.unit()
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:

        def connect() -> None:
            with contextlib.suppress(OSError):
                client = Client(kind, port, unit)
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.wants_to_write else 0)
                selector.register(client.sock, events, client)

        for _ in range(count):
            connect()
        print("flooding", flush=True)
        while time.monotonic() < end:
            for key, mask in selector.select(0.1):
                client = key.data
                try:
                    alive = client.read() if mask & selectors.EVENT_READ else True
                    if alive and mask & selectors.EVENT_WRITE:
                        client.write()
                except OSError:
                    alive = False
                if not alive:
                    selector.unregister(client.sock)
                    client.sock.close()
            while len(selector.get_map()) < count and kind.is_refilled and time.monotonic() < end:
                connect()


# --- the server, and the other client


@contextlib.contextmanager
def serving(sources: Path, arguments: argparse.Namespace, *, is_tls: bool) -> Iterator[int]:
    """One worker of a version, on a free port of loopback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "asgi_master", "flood_app:app", "--app-dir", str(HERE)]
        scheme = "https://" if is_tls else ""
        command += ["--bind", f"{scheme}127.0.0.1:{port}", "--workers", "1", "--loop", arguments.loop]
        command += ["--http", arguments.http, "--control-socket", "none", "--log-level", "error"]
        if is_tls:
            command += certified(Path(directory))
        command += ["--hang-timeout", "0", "--drain-timeout", "1"]
        master = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(sources)},
            stderr=None if sources == SOURCES else subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + _PATIENCE
            while True:
                with contextlib.suppress(OSError):
                    ask(port, is_tls=is_tls)
                    break
                if master.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the server did not start")
                time.sleep(0.05)
            yield port
        finally:
            master.send_signal(signal.SIGQUIT)
            master.wait(_PATIENCE)


def certified(directory: Path) -> list[str]:
    """Options that name a certificate made for the occasion."""
    import trustme  # noqa: PLC0415 -- only those who measure TLS need it

    leaf = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return ["--certfile", str(certificate), "--keyfile", str(key)]


def ask(port: int, *, is_tls: bool) -> float:
    """The seconds that an answer took, on a new connection."""
    begin = time.monotonic()
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=_PATIENCE, context=context)
    else:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        client.request("GET", "/a")
        client.getresponse().read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        client.close()
    return time.monotonic() - begin


def measure(name: str, count: int, sources: Path, arguments: argparse.Namespace) -> tuple[float, float]:
    """The median and the longest wait of another client, in seconds."""
    kind = KINDS[name]
    waits: list[float] = []
    is_over = threading.Event()

    def others(port: int) -> None:
        while not is_over.is_set():
            try:
                waits.append(ask(port, is_tls=kind.is_tls))
            except OSError:
                waits.append(_PATIENCE)
            is_over.wait(_PAUSE)

    with serving(sources, arguments, is_tls=kind.is_tls) as port:
        command = [sys.executable, __file__, "--flood", name, str(port), str(count), str(arguments.seconds)]
        flooding = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert flooding.stdout is not None
        flooding.stdout.readline()
        asking = threading.Thread(target=others, args=(port,))
        asking.start()
        flooding.wait()
        flooding.stdout.close()
        is_over.set()
        asking.join()
    waits.sort()
    return waits[len(waits) // 2], waits[-1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each flood (default 2)")
    parser.add_argument(
        "--kinds", default="", help="only those whose names hold one of these, with commas between"
    )
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="connections (default 1,24)")
    parser.add_argument("--loop", default="uvloop", choices=("uvloop", "asyncio"))
    parser.add_argument("--http", default="httptools", choices=("httptools", "h11"))
    parser.add_argument("--against", type=Path, help="the sources of another version to compare with")
    parser.add_argument(
        "--flood", nargs=4, metavar=("KIND", "PORT", "COUNT", "SECONDS"), help=argparse.SUPPRESS
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if arguments.flood:
        name, port, count, seconds = arguments.flood
        flood(KINDS[name], int(port), int(count), float(seconds))
        return 0
    wanted = arguments.kinds.split(",")
    counts = [int(count) for count in arguments.counts.split(",")]
    versions = {"": SOURCES} if arguments.against is None else {"before ": arguments.against, "": SOURCES}
    cells = [f"{version}{count}" for count in counts for version in versions]
    print(f"The longest wait of another client, in ms (its median): {arguments.loop}, {arguments.http}\n")
    print("| flood, by so many connections | " + " | ".join(cells) + " |")
    print("|---|" + "---|" * len(cells))
    worst = 0.0
    for name in KINDS:
        if not any(part in name for part in wanted):
            continue
        row = []
        for count in counts:
            for version, sources in versions.items():
                median, longest = measure(name, count, sources, arguments)
                row.append(f"{longest * 1000:.0f} ({median * 1000:.1f})")
                worst = worst if version else max(worst, longest)
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)
    verdict = "below" if worst < BAR else "ABOVE"
    print(f"\nThe longest of all: {worst * 1000:.0f} ms, {verdict} the bar of {BAR * 1000:.0f} ms")
    return 0 if worst < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
