"""Header fields that a client repeats, byte for byte, in its next request on the same connection.

Most do (what changes is the request line), so what was read and judged once is not read and judged again.
"""

from asgi_master.http.request import Headers, Request

_MOST_BYTES = 1024
"""Larger ones are not kept, so that ten thousand idle connections do not hold much."""


class Repeated:
    """The header section of the last request, and what it came to."""

    __slots__ = ("_http_version", "fields", "headers", "keep_alive")

    def __init__(self, fields: bytes, request: Request) -> None:
        self.fields = fields
        """From the end of the request line to the end of the head."""
        self.headers: Headers = request.headers.copy()
        self.keep_alive = request.keep_alive
        self._http_version = request.http_version

    @classmethod
    def of(cls, fields: bytes, request: Request) -> "Repeated | None":
        """What to remember of a request that was judged; nothing if its fields said something about itself alone."""
        if (
            len(fields) > _MOST_BYTES
            or request.body_length != 0
            or request.expect_continue
            or request.upgrade is not None
            or request.authority is not None
        ):
            return None
        return cls(fields, request)

    def goes_with(self, request: Request) -> bool:
        """Whether the fields would be judged the same with this request line."""
        return request.http_version == self._http_version and request.authority is None
