"""The request that a log record is about."""

from collections.abc import Mapping
from typing import Any, cast

from asgi_master.records import mutable_record

_MAX_TARGET = 1024
"""Maximum number of characters of a target."""
_MAX_ID = 200


@mutable_record
class RequestIdHeaders:
    """The headers that carry a request's id.

    The client may choose its value: it is shown, and used for nothing else.
    """

    headers: tuple[bytes, ...] = (b"x-request-id", b"x-correlation-id", b"traceparent")
    """In lower case, in order of preference."""

    def of(self, fields: Mapping[bytes, bytes]) -> str | None:
        """The id in these headers, truncated; `None` if there is none."""
        for name in self.headers:
            if found := fields.get(name):
                return found[:_MAX_ID].decode("latin-1")
        return None


request_id_headers = RequestIdHeaders()
"""The configuration of this process; one object, never replaced."""


class RequestInfo(dict[str, str]):
    """`method`, `target`, `client` and `id` of a request, as far as known.

    A dictionary, so that other formatters can show it.
    """

    @property
    def title(self) -> str:
        """`GET /path?query`."""
        return f"{self['method']} {self['target']}"

    @property
    def address(self) -> str:
        """The client's address, without port."""
        client = self.get("client", "")
        if client.startswith("["):
            return client[1:].partition("]")[0]
        return client.partition(":")[0] if client.count(":") == 1 else client

    def client_and_id(self) -> str:
        """Client and request id in words; empty if neither is known."""
        parts = (
            f"{name} {self[key]}" for key, name in (("client", "client"), ("id", "request id")) if key in self
        )
        return ", ".join(parts)


def request_info(method: str, target: bytes, scope: Mapping[str, Any]) -> RequestInfo:
    """Describe the request. Of its scope, which the application may have changed, only what is well-formed is used."""
    request = RequestInfo(method=method, target=target[:_MAX_TARGET].decode("latin-1"))
    match scope.get("client"):
        case [str(host), int(port), *_]:
            address = f"[{host}]" if ":" in host else host
            request["client"] = f"{address}:{port}" if port else host
        case [str(host), *_]:
            request["client"] = host
    if number := _id_in(scope.get("headers")):
        request["id"] = number
    return request


def _id_in(headers: object) -> str | None:
    try:
        return request_id_headers.of(dict(cast("Any", headers)))
    except (TypeError, ValueError, AttributeError):
        return None
