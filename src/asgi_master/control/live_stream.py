"""The live status over one HTTP server: replies, and streams of server-sent events."""

from asgi_master.control.api import Span
from asgi_master.control.connection import Connection
from asgi_master.control.http_server import HttpServer
from asgi_master.control.live_feed import LiveFeed


class LiveStream:
    """Sends the bytes of a feed to the clients of a server."""

    def __init__(self, feed: LiveFeed, http: HttpServer) -> None:
        self._feed = feed
        self._http = http
        self._pushed = -1

    def answer(self, connection: Connection, *, span: Span) -> None:
        """Reply to `GET /status.json`."""
        self._http.answer(connection, self._feed.status(span=span))

    def open(self, connection: Connection) -> None:
        """Begin the reply to `GET /events`. Raises `Refusal`."""
        if not self._http.has_streams:
            # This second is in the begin of the stream.
            self._pushed = self._feed.tick
        self._http.open_stream(connection, self._feed.stream())

    def push(self) -> None:
        """Send the newest second to the clients of streams, once."""
        if self._http.has_streams and self._feed.tick != self._pushed:
            self._pushed = self._feed.tick
            self._http.push(self._feed.chunk())
