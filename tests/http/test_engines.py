"""Which engines serve, by the name of the parser."""

import sys

import pytest

from asgi_master.http.engines import engines_of
from asgi_master.http.h1.h11_parser import H11Parser
from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.zttp_parser import ZttpParser
from asgi_master.http.h2.builtin import BuiltinEngine
from asgi_master.http.h2.reference import ReferenceEngine
from asgi_master.http.websocket.fast import FastEngine
from asgi_master.http.websocket.reference import WsprotoEngine


@pytest.fixture
def without_zttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no wheel of zttp."""
    monkeypatch.delitem(sys.modules, "asgi_master.http.h1.zttp_parser")
    monkeypatch.setitem(sys.modules, "zttp", None)


@pytest.mark.parametrize(
    ("name", "parser"), [("auto", ZttpParser), ("zttp", ZttpParser), ("httptools", HttptoolsParser)]
)
def test_each_parser_has_its_websocket_engine(name, parser) -> None:
    fast, reference = engines_of(name), engines_of("h11")
    assert (fast.parser, fast.websocket) == (parser, FastEngine)
    assert (reference.parser, reference.websocket) == (H11Parser, WsprotoEngine)


@pytest.mark.usefixtures("without_zttp")
def test_without_zttp_httptools_reads() -> None:
    assert engines_of("auto").parser is HttptoolsParser
    with pytest.raises(ImportError):
        engines_of("zttp")


def test_each_engine_of_http_2_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines_of("auto").http2 is engines_of("h11", "own").http2 is BuiltinEngine
    assert engines_of("auto", "h2").http2 is ReferenceEngine
    monkeypatch.delitem(sys.modules, "asgi_master.http.h2.reference")
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ImportError):
        engines_of("auto", "h2")
    assert engines_of("auto").http2 is BuiltinEngine
