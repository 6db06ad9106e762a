"""The request that a line of the log is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

_LONGEST = 1024
"""Characters of a target."""
_LONGEST_ID = 200


@dataclass(slots=True)
class Numbering:
    """Where the number of a request is found. Whoever sent the request chose it: it is shown, and used for nothing."""

    headers: tuple[bytes, ...] = (b"x-request-id", b"x-correlation-id", b"traceparent")
    """In lower case; the first of them that a request has."""

    def of(self, fields: Mapping[bytes, bytes]) -> str | None:
        """The number of the request with these headers, cut to a length; `None` if it has none."""
        for name in self.headers:
            if found := fields.get(name):
                return found[:_LONGEST_ID].decode("latin-1")
        return None


numbering = Numbering()
"""Of this process. One object, never replaced."""


class Asked(dict[str, str]):
    """`method`, `target`, `client` and `id` of a request, as far as there are any.

    A dictionary, so that formatters of others can show it.
    """

    @property
    def title(self) -> str:
        """What a log calls it: `GET /path?query`."""
        return f"{self['method']} {self['target']}"

    @property
    def address(self) -> str:
        """The client's address, without its port."""
        client = self.get("client", "")
        if client.startswith("["):
            return client[1:].partition("]")[0]
        return client.partition(":")[0] if client.count(":") == 1 else client

    def whose(self) -> str:
        """Who asked, and by which number, as a line; empty if nothing is known."""
        parts = (
            f"{name} {self[key]}" for key, name in (("client", "client"), ("id", "request id")) if key in self
        )
        return ", ".join(parts)


def asked(method: str, target: bytes, scope: Mapping[str, Any]) -> Asked:
    """The request with this line. Of its scope, which the application may have changed, what can still be read."""
    request = Asked(method=method, target=target[:_LONGEST].decode("latin-1"))
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
        return numbering.of(dict(cast("Any", headers)))
    except (TypeError, ValueError, AttributeError):
        return None
