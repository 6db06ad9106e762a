"""The default parser: heads are read by httptools (llhttp, in C)."""

import httptools

from asgi_master.http.limits import HttpLimits
from asgi_master.http.parser import HeadError, Parser
from asgi_master.http.request import COMMON_METHODS, Headers, Request


class _Fields:
    """Where llhttp puts the fields of a head. An object of its own, so that no cycle keeps a connection alive."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


class HttptoolsParser(Parser):
    """Strict where llhttp is, and where it is not, by what `Parser` and `make_request` check."""

    __slots__ = ("_engine", "_fields")

    def __init__(self, limits: HttpLimits) -> None:
        super().__init__(limits)
        self._fields = _Fields()
        self._engine: httptools.HttpRequestParser | None = None

    def _read_headers(self, head: bytes, request: Request) -> Headers:
        engine = self._engine or httptools.HttpRequestParser(self._fields)
        self._engine = engine
        headers = self._fields.headers = []
        if request.method not in COMMON_METHODS:
            # llhttp knows a fixed list of methods; the request line was judged already.
            head = b"GET" + head[len(request.method) :]
        try:
            engine.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._engine = None
        except httptools.HttpParserError as error:
            raise HeadError(str(error)) from error
        if head.find(b" \r\n") >= 0 or head.find(b"\t") >= 0:
            headers = [(name, value.rstrip(b" \t")) for name, value in headers]
        return headers

    def _take_fields(self, head: bytes, request: Request) -> None:
        super()._take_fields(head, request)
        if request.body_length != 0:
            self._engine = None  # it would wait for a body that it never gets to see
