"""What reads and writes the bytes of connections: the engines of production, or those they are tested against."""

from collections.abc import Callable
from dataclasses import dataclass

from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.parser import Parser
from asgi_master.http.h2.builtin import BuiltinEngine
from asgi_master.http.h2.engine import Engine as H2Engine
from asgi_master.http.h2.engine import Owner
from asgi_master.http.h2.response_head import ResponseHeadEncoder
from asgi_master.http.h2.stream_quota import StreamQuota
from asgi_master.http.limits import Http2Limits, HttpLimits
from asgi_master.http.websocket.fast import FastEngine
from asgi_master.http.websocket.frames import Engine


@dataclass(frozen=True, slots=True)
class Engines:
    """One of each."""

    parser: Callable[[HttpLimits], Parser]
    """Of HTTP/1.1."""
    websocket: Callable[..., Engine]
    """Made with `message_size` and `compression`."""
    http2: Callable[[Owner, HttpLimits, Http2Limits, ResponseHeadEncoder, StreamQuota], H2Engine]


def engines_of(parser: str, http2: str = "own") -> Engines:
    """By the name of the parser: `zttp`, `httptools`, `auto` for the first of these that is installed, or `h11`.

    With `h11` goes the reference of WebSocket. `http2` is `own` for the engine of production, or `h2` for the
    reference. Only what is asked for is imported: call this before workers are forked. Raises `ImportError` for `zttp`
    and `h2` where they are not installed.
    """
    http2_engine = _reference_engine() if http2 == "h2" else BuiltinEngine
    if parser == "h11":
        from asgi_master.http.h1.h11_parser import H11Parser  # noqa: PLC0415 -- 3 MiB with wsproto
        from asgi_master.http.websocket.reference import WsprotoEngine  # noqa: PLC0415

        return Engines(H11Parser, WsprotoEngine, http2_engine)
    return Engines(_fast_parser(parser), FastEngine, http2_engine)


def _reference_engine() -> type[H2Engine]:
    from asgi_master.http.h2.reference import ReferenceEngine  # noqa: PLC0415 -- h2 may not be installed

    return ReferenceEngine


def _fast_parser(name: str) -> type[Parser]:
    if name != "httptools":
        try:
            from asgi_master.http.h1.zttp_parser import ZttpParser  # noqa: PLC0415 -- there may be no wheel of zttp
        except ImportError:
            if name == "zttp":
                raise
        else:
            return ZttpParser
    return HttptoolsParser
