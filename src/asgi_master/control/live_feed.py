"""The live status as bytes, made once for all clients: at most once for each second of the history."""

import json
from typing import Any, Protocol

from asgi_master.control.api import Span
from asgi_master.control.connection import Chunk, Response

_JSON = "application/json"
_EVENT_STREAM = "text/event-stream"
_RETRY_MS = 2000
"""How long browsers wait before they connect again."""


class LiveSource(Protocol):
    """The live status of the master. No method blocks."""

    @property
    def tick(self) -> int:
        """The number of the newest second of the history."""

    def document(self, *, span: Span, events_after: int) -> dict[str, Any]:
        """The status, with the history of this span, and the events of higher numbers than `events_after`."""

    def last_event(self) -> int:
        """The number of the newest event."""


class LiveFeed:
    """Bytes for `GET /status.json` and `GET /events`; those of a tick are the same for all clients."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._moment = (-1, 0)
        self._made: dict[Span, bytes] = {}
        """The document of this second."""
        self._pushed_tick = -1
        self._pushed_event = 0
        self._chunk: Chunk | None = None

    @property
    def tick(self) -> int:
        """The number of the newest second."""
        return self._source.tick

    def status(self, *, span: Span) -> Response:
        """The reply to `GET /status.json`."""
        return Response(200, self._document(span) + b"\n", _JSON)

    def stream(self) -> Response:
        """The begin of an event stream: the whole document with its history, as an event `status`."""
        head = b"retry: %d\n" % _RETRY_MS
        return Response(200, head + _event(b"status", self._document(Span.ALL)), _EVENT_STREAM)

    def _document(self, span: Span) -> bytes:
        moment = self._source.tick, self._source.last_event()
        if moment != self._moment:
            self._moment = moment
            self._made.clear()
        made = self._made.get(span)
        if made is None:
            made = self._made[span] = _encoded(self._source.document(span=span, events_after=0))
        return made

    def chunk(self) -> Chunk:
        """The event `tick` of this second: the document without its history, and with the events that are new."""
        source = self._source
        if self._chunk is None or source.tick != self._pushed_tick:
            # A client that came in between has these events already, and knows them by their numbers.
            document = source.document(span=Span.NONE, events_after=self._pushed_event)
            self._pushed_tick, self._pushed_event = source.tick, source.last_event()
            self._chunk = Chunk(_event(b"tick", _encoded(document)))
        return self._chunk


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data)
