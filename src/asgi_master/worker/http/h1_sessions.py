"""An HTTP/1 connection that goes to the worker with the session of its next request."""

from asgi_master.http.h1.request_head import H1Request
from asgi_master.ipc.hand_off import LARGE_METADATA, Outcome
from asgi_master.worker.affinity.router import Place, SessionRouter
from asgi_master.worker.http.h1_connection import H1Connection
from asgi_master.worker.transport.connection_state import NEW, ConnectionState
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.passed_connection import to_metadata
from asgi_master.worker.transport.stream_transport import StreamTransport

_MOST_PASSES = 3
"""Of one request: two workers may know different places for its session, for a moment."""


class SessionH1Connection(H1Connection):
    """Passes itself on, with the bytes that were read, before the application sees the request.

    What cannot be passed is relayed, request by request: over TLS, or while a response is being sent.
    """

    __slots__ = ("_passes", "_received_before", "_router")

    def __init__(
        self,
        context: WorkerContext,
        router: SessionRouter,
        state: ConnectionState = NEW,
        received: bytes = b"",
    ) -> None:
        """`received` is what another worker has read."""
        super().__init__(context, state)
        self._router = router
        self._passes = state.passes
        self._received_before = received

    def connection_made(self, transport: StreamTransport) -> None:
        super().connection_made(transport)
        received, self._received_before = self._received_before, b""
        if received:
            self.data_received(received)

    def _begin(self, request: H1Request) -> None:
        if self._transport.tls is None and self._passes < _MOST_PASSES:
            client = self._scopes.scope(request, {})["client"] if self._router.keys.reads_client else None
            key = self._router.keys.read(request.headers, request.raw_path, request.query_string, client)
            place = self._router.elsewhere(key)
            if place is not None and self._pass_to(place, request):
                return
        self._passes = 0
        super()._begin(request)

    def _pass_to(self, place: Place, request: H1Request) -> bool:
        """Pass the connection with this request; false, with all as it was, if that is not possible now."""
        self.writer.flush()
        if self._eof or self.writer.is_paused:
            return False
        following = self._parser.trailing_data()
        state = ConnectionState(ends=self._given_endpoints, served=self._served, passes=self._passes + 1)
        metadata = to_metadata(state, _head_of(request) + following)
        if len(metadata) <= LARGE_METADATA and self._transport.move(
            lambda sock, _state: place.put_end.put(sock, metadata) is Outcome.SENT, state
        ):
            self.context.stats.passed += 1
            self._abandon()
            self._leave_when_done()
            return True
        if following:
            self._parser.receive_data(following)
        return False


def plaintext_protocol(context: WorkerContext, state: ConnectionState) -> H1Connection:
    """What reads the first bytes of HTTP on a connection without TLS."""
    if context.sessions is None:
        return H1Connection(context, state)
    return SessionH1Connection(context, context.sessions, state)


def _head_of(request: H1Request) -> bytes:
    """The head of a request, for another parser of ours."""
    version = request.http_version.encode()
    lines = [request.method.encode() + b" " + request.target + b" HTTP/" + version]
    lines += [name + b": " + value for name, value in request.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
