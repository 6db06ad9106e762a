"""Which engines serve, by the name of the parser."""

from asgi_master.http.engines import engines_of
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.websocket.fast import FastEngine
from asgi_master.http.websocket.reference import WsprotoEngine


def test_each_parser_has_its_websocket_engine() -> None:
    fast, reference = engines_of("httptools"), engines_of("h11")
    assert (fast.parser, fast.websocket) == (HttptoolsParser, FastEngine)
    assert (reference.parser, reference.websocket) == (H11Parser, WsprotoEngine)
