"""Takes what other workers put into the queue of this worker's place."""

import logging
from collections.abc import Callable

from asgi_master.ipc.hand_off import HandOff, TransferredConnection
from asgi_master.telemetry.failure_log import FailureLog
from asgi_master.worker.affinity.router import SessionRouter
from asgi_master.worker.http.h1_sessions import SessionH1Connection
from asgi_master.worker.relay.caller import RELAY
from asgi_master.worker.relay.server import RelayServer
from asgi_master.worker.relay.session_application import SessionApplication
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import Endpoints
from asgi_master.worker.transport.passed_connection import from_metadata
from asgi_master.worker.transport.socket_transport import SocketTransport
from asgi_master.worker.transport.stream_transport import StreamProtocol

_MOST_PER_TURN = 8
_PAUSE_AFTER_A_FAULT = 0.1
_RELAY_ENDS = Endpoints(None, None, is_tls=False)


class PlaceQueue:
    """Serves the connections and relayed requests of one queue."""

    def __init__(
        self,
        context: WorkerContext,
        queue: HandOff,
        router: SessionRouter,
        application: SessionApplication,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_over` is called once nothing more can come."""
        self._context = context
        self._queue = queue
        self._router = router
        self._application = application
        self._on_over = on_over
        self._failures = FailureLog()
        self._is_watched = False

    def start(self) -> None:
        """Take from now on."""
        if not self._is_watched:
            self._is_watched = True
            self._context.loop.add_reader(self._queue.fds[1], self._on_readable)

    def end(self) -> None:
        """Let nothing more come, and take what is there."""
        self._queue.end()
        self._on_readable(most=1 << 16)

    def _on_readable(self, most: int = _MOST_PER_TURN) -> None:
        try:
            for taken in self._queue.take(most):
                self._open(taken)
        except OSError as error:
            self._stop()
            self._failures.failed(
                "taking connections of sessions", error, "it is retried", logging.ERROR, source=self
            )
            self._context.loop.call_later(_PAUSE_AFTER_A_FAULT, self.start)
            return
        if self._queue.is_over:
            self._stop()
            self._on_over()

    def _stop(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._context.loop.remove_reader(self._queue.fds[1])

    def _open(self, taken: TransferredConnection) -> None:
        context, connection = self._context, taken.connection
        connection.setblocking(
            False
        )  # it has the time-out that the application set for all sockets, if it did
        if taken.metadata == RELAY:
            ends = _RELAY_ENDS
            protocol: StreamProtocol = RelayServer(context, self._application.serve_here)
        else:
            try:
                state, received = from_metadata(taken.metadata or b"")
            except ValueError:
                self._queue.refuse(connection)
                return
            ends = Endpoints.of_socket(connection)
            protocol = SessionH1Connection(context, self._router, state, received)
        transport = SocketTransport(context.loop, context.poller, connection, ends)
        transport.context.run(transport.start, protocol)
