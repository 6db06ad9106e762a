"""The parser where zttp is not installed, and for heads that zttp refuses: httptools (llhttp, in C) reads them."""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from asgi_master.http.h1.parser import HeadError, Parser
from asgi_master.http.h1.request_head import H1Request
from asgi_master.http.message import Headers
from asgi_master.http.methods import COMMON_METHODS


class HttptoolsParser(Parser):
    """Strict where llhttp is, and where it is not, by what `Parser` and `judge_headers` check."""

    __slots__ = ("_headers",)

    # Callbacks that llhttp would make are left out: the parser looks up each that exists.
    on_message_begin = on_url = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each field."""
        self._headers.append((name.lower(), value))

    def _read_headers(self, head: bytes, request: H1Request) -> Headers:
        headers: Headers = []
        self._headers = headers
        if request.method not in COMMON_METHODS:
            # llhttp knows a fixed list of methods; the request line was judged already.
            head = b"GET" + head[len(request.method) :]
        try:
            # An engine for each head: llhttp has its own opinion of what follows a message (a body, another protocol,
            # nothing), and what it thinks of one head must not reach the next.
            HttpRequestParser(self).feed_data(head)
        except HttpParserUpgrade:
            pass  # whether that happens is not for llhttp to say
        except HttpParserError as error:
            raise HeadError(str(error)) from error
        if head.rfind(b" \r\n") >= 0 or head.find(b"\t") >= 0:  # from the end takes half the time
            return [(name, value.rstrip(b" \t")) for name, value in headers]
        return headers
