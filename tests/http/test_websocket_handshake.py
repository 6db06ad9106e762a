"""The opening handshake: who gets in, with what extensions, and what the answer may hold."""

import pytest

from asgi_master.http.errors import ProtocolError
from asgi_master.http.h1.request_head import H1Request
from asgi_master.http.h1.upgrade import accept_token, read_key, switching_protocols
from asgi_master.http.websocket.handshake import Handshake, accept_fields, read_handshake, upgrade_required

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def request(*extra: tuple[bytes, bytes], without: bytes = b"", **changes) -> H1Request:
    headers = [
        (b"host", b"example.com"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
    ]
    values = {
        "method": "GET",
        "target": b"/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "headers": [header for header in headers if header[0] != without] + list(extra),
        "http_version": "1.1",
        "keep_alive": True,
        "upgrade": b"websocket",
    }
    return H1Request(**(values | changes))


def read(handshake: H1Request) -> tuple[bytes, Handshake]:
    """The whole of a handshake by upgrade."""
    return read_key(handshake), read_handshake(handshake, per_message_deflate=True)


def test_the_example_of_the_rfc():
    assert accept_token(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_valid_handshake():
    assert read(request()) == (KEY, Handshake([], None))


def test_websocket_among_other_upgrades():
    assert read_key(request(upgrade=b"h2c, websocket")) == KEY


def test_subprotocols_in_order_over_several_fields():
    handshake = read_handshake(
        request((b"sec-websocket-protocol", b"chat, superchat"), (b"sec-websocket-protocol", b" v2 ,")),
        per_message_deflate=True,
    )
    assert handshake.subprotocols == ["chat", "superchat", "v2"]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        pytest.param(request(method="POST"), 400, id="method"),
        pytest.param(request(http_version="1.0"), 400, id="HTTP/1.0"),
        pytest.param(request(upgrade=None), 400, id="no upgrade"),
        pytest.param(request(upgrade=b"h2c"), 400, id="other upgrade"),
        pytest.param(request(body_length=5), 400, id="body"),
        pytest.param(request(body_length=None), 400, id="chunked body"),
        pytest.param(request(without=b"sec-websocket-version"), 426, id="no version"),
        pytest.param(
            request((b"sec-websocket-version", b"8"), without=b"sec-websocket-version"), 426, id="version 8"
        ),
        pytest.param(request((b"sec-websocket-version", b"13")), 426, id="two versions"),
        pytest.param(request(without=b"sec-websocket-key"), 400, id="no key"),
        pytest.param(request((b"sec-websocket-key", KEY)), 400, id="two keys"),
        *[
            pytest.param(
                request((b"sec-websocket-key", key), without=b"sec-websocket-key"), 400, id=f"key {key!r}"
            )
            for key in (b"", b"!", b"AAAA", KEY[:-1], KEY + b"=", b"A" * 24, b" " + KEY[1:])
        ],
    ],
)
def test_what_is_no_handshake(bad, status):
    with pytest.raises(ProtocolError) as error:
        read(bad)
    assert error.value.status == status


def agreed(*offers: bytes) -> bytes | None:
    fields = [(b"sec-websocket-extensions", offer) for offer in offers]
    deflate = read_handshake(request(*fields), per_message_deflate=True).deflate
    return None if deflate is None else deflate.header()


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate"),
        (b"Permessage-Deflate", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits=8", b"permessage-deflate"),
        (
            b"permessage-deflate; server_no_context_takeover;client_no_context_takeover",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (b"permessage-deflate; server_max_window_bits=9", b"permessage-deflate; server_max_window_bits=9"),
        (
            b'permessage-deflate ; server_max_window_bits = "15"',
            b"permessage-deflate; server_max_window_bits=15",
        ),
        (b"x-webkit-deflate-frame, permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; unknown, permessage-deflate; client_max_window_bits", b"permessage-deflate"),
    ],
)
def test_deflate_that_is_agreed(offer, answer):
    assert agreed(offer) == answer


@pytest.mark.parametrize(
    "parameters",
    [
        b"unknown",
        b"unknown=1",
        b"server_no_context_takeover; server_no_context_takeover",
        b"server_no_context_takeover=1",
        b"client_no_context_takeover=true",
        b"server_max_window_bits",
        b"server_max_window_bits=",
        b"server_max_window_bits=8",
        b"server_max_window_bits=16",
        b"server_max_window_bits=09",
        b"client_max_window_bits=7",
        b"client_max_window_bits=x",
        b"client_max_window_bits=",
        b"",
    ],
)
def test_deflate_that_is_declined(parameters):
    assert agreed(b"permessage-deflate; " + parameters) is None


def test_deflate_over_several_fields():
    assert agreed(b"other", b"permessage-deflate") == b"permessage-deflate"


def test_deflate_switched_off():
    offer = (b"sec-websocket-extensions", b"permessage-deflate")
    assert read_handshake(request(offer), per_message_deflate=False).deflate is None


class TestAnswer:
    def answer(self, *headers, subprotocol=None, defaults=None) -> list[bytes]:
        handshake = read_handshake(
            request(
                (b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-extensions", b"permessage-deflate")
            ),
            per_message_deflate=True,
        )
        fields = accept_fields(handshake, subprotocol=subprotocol, headers=headers)
        head = switching_protocols(KEY, fields, defaults or {})
        assert head.endswith(b"\r\n\r\n")
        return head[:-4].split(b"\r\n")

    def test_plain(self):
        assert self.answer() == [
            b"HTTP/1.1 101 Switching Protocols",
            b"upgrade: websocket",
            b"connection: Upgrade",
            b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            b"sec-websocket-extensions: permessage-deflate",
        ]

    def test_subprotocol_and_headers(self):
        answer = self.answer(
            (b"x-a", b"1"), (b"x-a", b"2"), subprotocol="b", defaults={b"server": b"server: us\r\n"}
        )
        assert answer[4] == b"sec-websocket-protocol: b"
        assert answer[-3:] == [b"x-a: 1", b"x-a: 2", b"server: us"]

    def test_a_default_stands_back(self):
        answer = self.answer(
            (b"Server", b"mine"), defaults={b"server": b"server: us\r\n", b"date": b"date: now\r\n"}
        )
        assert answer[-2:] == [b"Server: mine", b"date: now"]

    def test_a_subprotocol_that_was_not_offered(self):
        with pytest.raises(ValueError, match="did not offer the subprotocol 'c'"):
            self.answer(subprotocol="c")

    @pytest.mark.parametrize(
        "name",
        [b"upgrade", b"Connection", b"sec-websocket-accept", b"sec-websocket-protocol", b"content-length"],
    )
    def test_headers_of_the_handshake_itself(self, name):
        with pytest.raises(ValueError, match="cannot set"):
            self.answer((name, b"x"))

    @pytest.mark.parametrize("header", [(b"a b", b"1"), (b"", b"1"), (b"a", b"1\r\nb: 2"), (b"a", b"\x00")])
    def test_headers_that_are_not_well_formed(self, header):
        with pytest.raises(ValueError, match="not well-formed"):
            self.answer(header)


def test_fields_of_an_answer_that_agrees_on_nothing() -> None:
    handshake = read_handshake(request(), per_message_deflate=True)
    assert accept_fields(handshake, subprotocol=None, headers=[(b"x", b"y")]) == ((b"x", b"y"),)


def test_what_a_426_says_besides() -> None:
    assert upgrade_required() == ((b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"))
