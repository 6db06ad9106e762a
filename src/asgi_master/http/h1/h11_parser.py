"""The reference parser: heads are read by h11, behind the checks that h11 leaves to others."""

import re

import h11

from asgi_master.http.grammar import HEAD_TEXT
from asgi_master.http.h1.parser import HeadError, Parser
from asgi_master.http.h1.request_head import H1Request
from asgi_master.http.message import Headers

_LENGTHS = re.compile(
    rb"\r\ncontent-length:[^\r]*(,|\r\n(.*\r\n)?content-length:)", re.IGNORECASE | re.DOTALL
)
_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*(chunked)", re.IGNORECASE)
_TAB_AFTER_CODING = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked *\t", re.IGNORECASE)


class H11Parser(Parser):
    """Slow, and written from the grammar of the RFC: what the default parser is compared with."""

    __slots__ = ()

    def _read_headers(self, head: bytes, request: H1Request) -> Headers:  # noqa: ARG002 -- h11 reads all of the head
        line_ends = head.count(b"\r\n")
        if head.translate(None, HEAD_TEXT) or not head.count(b"\r") == head.count(b"\n") == line_ends:
            raise HeadError("control character or bare line end")
        if head.find(b"\n ") >= 0 or head.find(b"\n\t") >= 0:
            raise HeadError("obsolete line folding")
        if _LENGTHS.search(head):
            raise HeadError("h11 would make one length of several")
        if _TAB_AFTER_CODING.search(head):
            raise HeadError(
                "not every proxy takes a coding that ends with a tab for one, and llhttp does not either"
            )
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(head)
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise HeadError(str(error)) from error
        assert isinstance(event, h11.Request)
        return [_as_sent(name, value, head) for name, value in event.headers]


def _as_sent(name: bytes, value: bytes, head: bytes) -> tuple[bytes, bytes]:
    """The field with its value as it came: h11 makes the one coding that it takes lower case."""
    coding = _CODING.search(head) if name == b"transfer-encoding" else None
    return name, value if coding is None else coding[1]
