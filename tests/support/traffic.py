"""Clients that keep asking while a test does something to the server, and count every failure."""

import http.client
import json
import socket
import ssl
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from fleet import PATIENCE, Fleet, wait_until


class Traffic:
    """Keep-alive clients in threads, each asking `/who` on one connection again and again.

    A response that announces `Connection: close` ends its connection in good order, and the client opens another.
    Everything else that is not a 200 is a failure: a refused or reset connection, a closed one, a wrong status.
    """

    def __init__(self, fleet: Fleet, clients: int = 6, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        """Answers by generation."""
        self._port = fleet.port
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.total >= len(self._threads), "the traffic flows")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def total(self) -> int:
        return sum(self.answers.values())

    def wait_for_more(self, answers: int) -> None:
        """Wait until this many further answers came."""
        enough = self.total + answers
        wait_until(lambda: self.total >= enough or self.failures, f"{answers} more answers")

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=PATIENCE, context=self._tls)

    def _ask(self) -> None:
        connection = self._connection()
        # Without the pause they would take the processor from the reload that they watch.
        while not self._stopping.wait(0.005):
            try:
                connection.request("GET", "/who")
                response = connection.getresponse()
                body = response.read()
                if response.status == 200:
                    self.answers[json.loads(body)["generation"]] += 1
                else:
                    self.failures.append(f"status {response.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()


class RawConnection:
    """One keep-alive connection of which each byte is under the test's control."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._file = self._socket.makefile("rb")

    def fileno(self) -> int:
        """Of its socket, to wait for."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, path: str = "/who") -> bytes:
        """Send a GET and return the body of its answer."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return self.read_answer()

    def read_answer(self) -> bytes:
        status = self._file.readline()
        assert status.startswith(b"HTTP/1.1 200"), f"got {status!r}"
        length = 0
        while (line := self._file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return self._file.read(length)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
