"""Heads that a client repeats, byte for byte, in its next request on the same connection.

Most repeat all header fields (what changes is the request line), many the whole head, so what was read and judged once
is not read and judged again.
"""

from asgi_master.http.h1.request_head import H1Request, read_request_line

_MOST_BYTES = 1024
"""Larger ones are not kept, so that ten thousand idle connections do not hold much."""


class HeadCache:
    """The head of the last request, and what it came to."""

    __slots__ = ("head", "line_end", "request")

    def __init__(self, head: bytes, request: H1Request) -> None:
        self.keep(head, head.find(b"\r\n"), request)

    def keep(self, head: bytes, line_end: int, request: H1Request) -> None:
        """Hold this head, whose first line ends at `line_end`, from now on."""
        self.head = head
        self.line_end = line_end
        self.request = request

    @classmethod
    def of(cls, head: bytes, request: H1Request, former: "HeadCache | None") -> "HeadCache | None":
        """What to remember of a request that was judged; nothing if its fields said something about itself alone.

        It takes the place of `former`, which is used again.
        """
        if (
            len(head) > _MOST_BYTES
            or request.expect_continue
            or request.upgrade is not None
            or request.authority is not None
        ):
            return None
        if former is None:
            return cls(head, request)
        former.keep(head, head.find(b"\r\n"), request)
        return former

    def read_other_line(self, head: bytes) -> H1Request | None:
        """The request of a head with the fields of this one and another first line; this then becomes that head's.

        `None` if its fields are others, or mean something else with its line. Raises `ProtocolError` for the line.
        """
        line_end = head.find(b"\r\n")
        if (
            len(head) - line_end != len(self.head) - self.line_end
            or len(head) > _MOST_BYTES
            or not self.head.endswith(head[line_end:])
        ):
            return None
        request = read_request_line(head[:line_end])
        known = self.request
        if request.http_version != known.http_version or request.authority is not None:
            return None
        request.headers = known.headers
        request.keep_alive = known.keep_alive
        request.body_length = known.body_length
        request.accepts_trailers = known.accepts_trailers
        request.accepts_hints = known.accepts_hints
        self.keep(head, line_end, request)
        return request
