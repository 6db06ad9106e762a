"""The state of an idle connection that moves from one worker to another.

The socket travels with it, and its addresses are known from there. This is the rest: one value, which the receiving
worker accepts as far as it is well-formed. What a connection knows beyond an idle moment belongs here.

The metadata is a JSON object of which each version passes over the keys that it does not know. Versions before it wrote
an array for `ends`, the words for a PROXY header to come, or nothing: that is still read.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from asgi_master.worker.transport.endpoints import Endpoints

T = TypeVar("T")

_MOST = 2**63
"""Above all that is counted or timed."""
_OLD_HEADER_TO_COME = b"header to come"


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """Of an idle connection; as it stands here, that of a fresh one."""

    ends: Endpoints | None = None
    """Client and server address from a PROXY header, if the socket's own do not apply."""
    expects_proxy_header: bool = False
    """Whether a PROXY header comes first, and has not begun."""
    served: int = 0
    """Requests, so far."""
    idle_since: float | None = None
    """Since when its peer is waited for: seconds on the monotonic clock, the same for all processes of a host.

    `None` if the sender did not say.
    """
    passes: int = 0
    """How often it was passed to the worker with the session of a request, since a request was served."""

    def to_metadata(self) -> bytes:
        """To travel with the connection."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_metadata(cls, metadata: bytes) -> "ConnectionState":
        """As the sender wrote it. Keys that only another version knows are passed over.

        An older version does not say whether there was a request: almost all had one, the others wait longer.
        Raises `ValueError` for what no version of ours writes.
        """
        if metadata == _OLD_HEADER_TO_COME:
            return cls(expects_proxy_header=True)
        if not metadata:
            return cls(served=1)
        try:
            known = json.loads(metadata)
            if type(known) is list:
                client, server, is_tls, is_unix = known
                ends = {"client": client, "server": server, "is_tls": is_tls, "is_unix": is_unix}
                return cls(ends=_ends(ends), served=1)
            return cls(
                ends=_ends(known.get("ends")),
                expects_proxy_header=_is(known.get("expects_proxy_header", False), bool),
                served=_count(known.get("served", 0)),
                idle_since=_time(known.get("idle_since")),
                passes=_count(known.get("passes", 0)),
            )
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not the state of a connection: {error!r}") from None


TransferConnection = Callable[[socket.SocketType, ConnectionState], bool]
"""Offers a connection to the other workers, with its state.

False if they cannot take it now. The caller closes its own copy.
"""

NEW: Final = ConnectionState()
"""Of a connection that was just accepted."""


def _ends(known: Any) -> Endpoints | None:
    if known is None:
        return None
    return Endpoints(
        _address(known["client"]),
        _address(known["server"]),
        _is(known["is_tls"], bool),
        _is(known["is_unix"], bool),
    )


def _address(known: Any) -> tuple[str, int | None] | None:
    if known is None:
        return None
    host, port = known
    return _is(host, str), None if port is None else _count(port)


def _count(value: Any) -> int:
    count = _is(value, int)
    if not 0 <= count < _MOST:
        raise ValueError(f"{count} is no count")
    return count


def _time(value: Any) -> float | None:
    if value is None:
        return None
    time = _is(value, float)
    if not 0 <= time < _MOST:
        raise ValueError(f"{time} is no time")
    return time


def _is(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
