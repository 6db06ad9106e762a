"""Both WebSocket engines against RFC 6455, and against each other on the same bytes."""

import subprocess
import sys
import tracemalloc
import zlib
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_master.http.websocket import fast
from asgi_master.http.websocket.deflate import Compression, DeflateParameters
from asgi_master.http.websocket.fast import FastEngine, unmask, unmask_in_python
from asgi_master.http.websocket.frames import (
    FRAGMENT,
    Close,
    CloseCode,
    Engine,
    Ping,
    Pong,
    WebSocketError,
    may_be_sent,
)
from asgi_master.http.websocket.reference import WsprotoEngine

ENGINES = [FastEngine, WsprotoEngine]
KEY = b"\x12\x34\x56\x78"

FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    first: int, payload: bytes = b"", *, key: bytes = KEY, size: int | None = None, width: int | None = None
):
    """A masked frame; `size` and `width` lie about the length and how it is written."""
    size = len(payload) if size is None else size
    width = (0 if size < 126 else 2 if size < 0x10000 else 8) if width is None else width
    short = {0: size, 2: 126, 8: 127}[width]
    return (
        bytes((first, 0x80 | short))
        + (size.to_bytes(width, "big") if width else b"")
        + key
        + unmask(payload, key)
    )


def deflated(payload: bytes, *, last: bool = True) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data[:-4] if last else data


def make(engine, *, message_size: int = 0, deflate: DeflateParameters | None = None):
    return engine(message_size=message_size, compression=None if deflate is None else Compression(deflate))


def outcome(engine, pieces: list[bytes]) -> list[object]:
    """All events of a stream; the last one is the close code if it failed."""
    events: list[object] = []
    try:
        for piece in pieces:
            engine.receive_data(piece)
            while (event := engine.next_event()) is not None:
                if event is not FRAGMENT:
                    events.append(event)
                if isinstance(event, Close):
                    return events
    except WebSocketError as error:
        events.append(error.code)
    return events


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def engine_type(request):
    return request.param


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 2047, 2048, 2049, 65535, 65536, 70001])
def test_messages_of_every_length_form(engine_type, size):
    data = bytes(index & 0xFF for index in range(size))
    stream = frame(FIN | BINARY, data) + frame(FIN | TEXT, b"a" * size)
    assert outcome(make(engine_type), [stream]) == [data, "a" * size]
    assert outcome(
        make(engine_type), [stream[index : index + 997] for index in range(0, len(stream), 997)]
    ) == [
        data,
        "a" * size,
    ]


def test_byte_by_byte(engine_type):
    stream = b"".join(
        (
            frame(FIN | TEXT, "grüße".encode()),
            frame(BINARY, b"ab"),
            frame(FIN | PING, b"!"),
            frame(FIN, b"c"),
            frame(FIN | BINARY, b"d" * 126),
            frame(FIN | BINARY, b"e" * 65536)[:20],
        )
    )
    pieces = [stream[index : index + 1] for index in range(len(stream))]
    assert outcome(make(engine_type), pieces) == ["grüße", Ping(b"!"), b"abc", b"d" * 126]


def test_many_fragments_in_one_segment_are_one_message(engine_type):
    stream = (
        frame(TEXT, b"0")
        + b"".join(frame(CONTINUATION, b"%d" % (n % 10)) for n in range(1, 1000))
        + frame(FIN)
    )
    assert outcome(make(engine_type), [stream]) == ["0123456789" * 100]


def test_a_character_split_over_fragments(engine_type):
    assert outcome(make(engine_type), [frame(TEXT, b"\xc3") + frame(CONTINUATION) + frame(FIN, b"\xbc")]) == [
        "ü"
    ]


def test_control_frames(engine_type):
    stream = (
        frame(FIN | PING)
        + frame(FIN | PONG, b"p" * 125)
        + frame(FIN | CLOSE, b"\x0f\xa0" + "tschüß".encode())
    )
    assert outcome(make(engine_type), [stream]) == [Ping(b""), Pong(b"p" * 125), Close(4000, "tschüß")]


def test_an_empty_close_frame_is_1005(engine_type):
    assert outcome(make(engine_type), [frame(FIN | CLOSE)]) == [Close(1005, "")]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        pytest.param(bytes((FIN | TEXT, 1)) + b"x", 1002, id="not masked"),
        pytest.param(frame(FIN | RSV1 | TEXT, b"x"), 1002, id="rsv1 without extension"),
        pytest.param(frame(FIN | RSV2 | TEXT, b"x"), 1002, id="rsv2"),
        pytest.param(frame(FIN | RSV3 | BINARY, b"x"), 1002, id="rsv3"),
        pytest.param(frame(FIN | 0x3, b"x"), 1002, id="reserved data opcode"),
        pytest.param(frame(FIN | 0xB, b"x"), 1002, id="reserved control opcode"),
        pytest.param(frame(PING, b"x"), 1002, id="fragmented ping"),
        pytest.param(frame(CLOSE), 1002, id="fragmented close"),
        pytest.param(frame(FIN | PING, b"x" * 126), 1002, id="long ping"),
        pytest.param(frame(FIN, b"x"), 1002, id="nothing to continue"),
        pytest.param(frame(TEXT, b"x") + frame(FIN | TEXT, b"y"), 1002, id="text within a message"),
        pytest.param(frame(BINARY, b"x") + frame(FIN | BINARY, b"y"), 1002, id="binary within a message"),
        pytest.param(frame(FIN | BINARY, b"x" * 5, width=2), 1002, id="short length in two bytes"),
        pytest.param(frame(FIN | BINARY, b"x" * 300, width=8), 1002, id="medium length in eight bytes"),
        pytest.param(frame(FIN | BINARY, b"", size=2**63, width=8), 1002, id="negative length"),
        pytest.param(frame(FIN | CLOSE, b"\x03"), 1002, id="half a close code"),
        *[
            pytest.param(frame(FIN | CLOSE, code.to_bytes(2, "big")), 1002, id=f"close code {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ],
        pytest.param(frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007, id="close reason not UTF-8"),
        pytest.param(frame(FIN | TEXT, b"\xff"), 1007, id="text not UTF-8"),
        pytest.param(frame(FIN | TEXT, b"\xed\xa0\x80"), 1007, id="surrogate in text"),
        pytest.param(frame(FIN | TEXT, b"\xc3"), 1007, id="text ends within a character"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="first fragment not UTF-8"),
        pytest.param(
            frame(TEXT, b"\xc3") + frame(FIN, b""), 1007, id="last fragment leaves a character open"
        ),
    ],
)
def test_what_breaks_the_protocol(engine_type, stream, code):
    good = frame(FIN | TEXT, b"good")
    assert outcome(make(engine_type), [good + stream]) == ["good", code]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 3000, 4999])
def test_close_codes_of_peers(engine_type, code):
    assert outcome(make(engine_type), [frame(FIN | CLOSE, code.to_bytes(2, "big"))]) == [Close(code, "")]
    assert may_be_sent(code)


def test_a_close_code_that_only_iana_knows():
    assert outcome(make(FastEngine), [frame(FIN | CLOSE, (1014).to_bytes(2, "big"))]) == [Close(1014, "")]


class TestLimit:
    def test_at_the_limit(self, engine_type):
        stream = frame(FIN | BINARY, b"x" * 100) + frame(BINARY, b"y" * 60) + frame(FIN, b"z" * 40)
        assert outcome(make(engine_type, message_size=100), [stream]) == [b"x" * 100, b"y" * 60 + b"z" * 40]

    @pytest.mark.parametrize(
        "stream",
        [
            frame(FIN | BINARY, b"x" * 101),
            frame(FIN | TEXT, "ü".encode() * 51),
            frame(BINARY, b"y" * 60) + frame(FIN, b"z" * 41),
        ],
    )
    def test_above_the_limit(self, engine_type, stream):
        assert outcome(make(engine_type, message_size=100), [stream]) == [CloseCode.TOO_BIG]

    def test_a_huge_frame_is_refused_by_its_header(self):
        header = frame(FIN | BINARY, b"", size=2**40, width=8)
        assert outcome(make(FastEngine, message_size=1000), [header]) == [CloseCode.TOO_BIG]

    def test_the_limit_is_of_one_message(self, engine_type):
        stream = frame(BINARY, b"a" * 50) + frame(FIN, b"b" * 50)
        assert outcome(make(engine_type, message_size=100), [stream * 3]) == [b"a" * 50 + b"b" * 50] * 3


class TestDeflate:
    @pytest.mark.parametrize(
        "parameters", [DeflateParameters(), DeflateParameters(client_no_context_takeover=True)]
    )
    def test_messages(self, engine_type, parameters):
        stream = b"".join(
            (
                frame(FIN | RSV1 | TEXT, deflated(b"hello " * 100)),
                frame(FIN | TEXT, b"plain"),
                frame(FIN | RSV1 | BINARY, deflated(b"")),
            )
        )
        assert outcome(make(engine_type, deflate=parameters), [stream]) == ["hello " * 100, "plain", b""]

    def test_context_is_kept_between_messages(self, engine_type):
        compressor = zlib.compressobj(wbits=-15)
        payloads = [
            (compressor.compress(b"the same words") + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
            for _ in range(3)
        ]
        assert len(payloads[1]) < len(payloads[0])
        stream = b"".join(frame(FIN | RSV1 | TEXT, payload) for payload in payloads)
        assert outcome(make(engine_type, deflate=DeflateParameters()), [stream]) == ["the same words"] * 3

    def test_fragments_with_a_ping_between(self, engine_type):
        payload = deflated(b"abc" * 1000)
        stream = b"".join(
            (
                frame(RSV1 | BINARY, payload[:3]),
                frame(FIN | PING, b"?"),
                frame(CONTINUATION, payload[3:7]),
                frame(FIN, payload[7:]),
            )
        )
        assert outcome(make(engine_type, deflate=DeflateParameters()), [stream]) == [
            Ping(b"?"),
            b"abc" * 1000,
        ]

    def test_a_final_block_ends_a_message(self, engine_type):
        compressor = zlib.compressobj(wbits=-15)
        final = compressor.compress(b"final") + compressor.flush()
        stream = frame(FIN | RSV1 | TEXT, final) + frame(FIN | RSV1 | TEXT, final + b"\x00") * 2
        assert outcome(make(engine_type, deflate=DeflateParameters()), [stream]) == ["final"] * 3

    @pytest.mark.parametrize(
        ("stream", "code"),
        [
            pytest.param(frame(FIN | RSV1 | TEXT, b"\xff\xff\xff"), 1007, id="not deflate"),
            pytest.param(frame(FIN | RSV1 | TEXT, deflated(b"\xff")), 1007, id="not UTF-8"),
            pytest.param(
                frame(FIN | RSV1 | BINARY, zlib.compress(b"", wbits=-15) + b"more"), 1007, id="after final"
            ),
            pytest.param(frame(FIN | RSV1 | PING), 1002, id="compressed ping"),
            pytest.param(
                frame(RSV1 | TEXT, deflated(b"a", last=False)) + frame(FIN | RSV1), 1002, id="rsv1 twice"
            ),
        ],
    )
    def test_what_breaks_the_protocol(self, engine_type, stream, code):
        assert outcome(make(engine_type, deflate=DeflateParameters()), [stream]) == [code]

    @pytest.mark.parametrize("size", [1000, 1001])
    def test_the_limit_counts_what_comes_out(self, engine_type, size):
        engine = make(engine_type, message_size=1000, deflate=DeflateParameters())
        message = b"x" * size
        expected = [message] if size == 1000 else [CloseCode.TOO_BIG]
        assert outcome(engine, [frame(FIN | RSV1 | BINARY, deflated(message))]) == expected

    def test_a_bomb_is_not_inflated(self, engine_type):
        bomb = frame(FIN | RSV1 | BINARY, deflated(bytes(64 * 2**20)))
        engine = make(engine_type, message_size=2**20, deflate=DeflateParameters())
        tracemalloc.start()
        try:
            assert outcome(engine, [bomb]) == [CloseCode.TOO_BIG]
            _current, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * 2**20

    def test_a_bomb_in_fragments_is_not_inflated(self, engine_type):
        payload = deflated(bytes(64 * 2**20))
        engine = make(engine_type, message_size=2**20, deflate=DeflateParameters())
        stream = frame(RSV1 | BINARY, payload[:100]) + frame(CONTINUATION, payload[100:30000])
        assert outcome(engine, [stream]) == [CloseCode.TOO_BIG]

    @pytest.mark.parametrize("size", [0, 10, 127, 128, 5000, 70000])
    @pytest.mark.parametrize(
        "parameters",
        [DeflateParameters(), DeflateParameters(server_no_context_takeover=True, server_max_window_bits=9)],
    )
    def test_what_we_send_inflates(self, engine_type, size, parameters):
        engine = make(engine_type, deflate=parameters)
        inflater = zlib.decompressobj(wbits=-(parameters.server_max_window_bits or 15))
        for _ in range(2):
            sent = engine.binary(b"ab" * (size // 2))
            header = 2 if sent[1] < 126 else 4 if sent[1] == 126 else 10
            if parameters.server_no_context_takeover:
                inflater = zlib.decompressobj(wbits=-9)
            compressed = bool(sent[0] & RSV1)
            assert compressed == (size >= 128)
            payload = sent[header:]
            assert (inflater.decompress(payload + b"\0\0\xff\xff") if compressed else payload) == b"ab" * (
                size // 2
            )


class TestSending:
    """The bytes both engines write are the same."""

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
    def test_messages(self, size):
        fast, reference = make(FastEngine), make(WsprotoEngine)
        assert fast.text("x" * size) == reference.text("x" * size)
        assert fast.binary(b"x" * size) == reference.binary(b"x" * size)

    def test_control_frames(self):
        fast, reference = make(FastEngine), make(WsprotoEngine)
        assert fast.ping(b"?") == reference.ping(b"?") == b"\x89\x01?"
        assert fast.pong(b"!" * 125) == reference.pong(b"!" * 125)

    @pytest.mark.parametrize("reason", ["", "bye", "ü" * 100])
    def test_close(self, reason):
        assert make(FastEngine).close(4001, reason) == make(WsprotoEngine).close(4001, reason)

    def test_close_without_code(self):
        assert make(FastEngine).close(1005, "") == make(WsprotoEngine).close(1005, "") == b"\x88\x00"


@pytest.mark.parametrize("unmask", [unmask, unmask_in_python], ids=["chosen", "python"])
@given(payload=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4))
def test_unmask_is_a_repeated_xor(unmask, payload, key):
    assert unmask(payload, key) == bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    long = bytearray(2048) + payload
    assert unmask(long, key) == bytes(byte ^ key[index % 4] for index, byte in enumerate(long))


@pytest.mark.parametrize(
    "module",
    [None, "__init__.py", "speedups.py", f"speedups{EXTENSION_SUFFIXES[0]}"],
    ids=["no package", "no module", "not compiled", "broken"],
)
def test_without_the_compiled_function_it_unmasks_in_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str | None
) -> None:
    if module is not None:
        (tmp_path / "websockets").mkdir()
        (tmp_path / "websockets" / "__init__.py").touch()
        (tmp_path / "websockets" / module).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert fast._load_unmask() is unmask_in_python


def test_unmasking_does_not_import_the_package() -> None:
    source = "import sys, asgi_master.http.websocket.fast; print('websockets' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "False"


TEXTS = st.one_of(
    st.text(max_size=200).map(str.encode),
    st.sampled_from([b"", b"\xff", b"\xc3", b"\xbc", b"a" * 126, b"b" * 3000]),
)
PAYLOADS = st.one_of(TEXTS, st.binary(max_size=300), TEXTS.map(deflated))
# Not 1014: IANA registered it, and wsproto does not know it.
CODES = st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1011, 1012, 1015, 2999, 3000, 4999, 5000])
CLOSES = st.one_of(
    st.just(b""),
    st.just(b"\x03"),
    st.tuples(CODES, TEXTS).map(lambda pair: pair[0].to_bytes(2, "big") + pair[1][:123]),
)


@st.composite
def frames(draw):
    """Mostly good frames, some bad ones, each written from its parts."""
    kind = draw(st.sampled_from("mmmmmffffppczr"))
    if kind == "m":
        return frame(
            FIN | draw(st.sampled_from([TEXT, BINARY])),
            draw(PAYLOADS),
            key=draw(st.binary(min_size=4, max_size=4)),
        )
    if kind == "f":
        return frame(draw(st.sampled_from([TEXT, BINARY, CONTINUATION, CONTINUATION, FIN])), draw(PAYLOADS))
    if kind == "p":
        return frame(FIN | draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=130)))
    if kind == "c":
        return frame(FIN | CLOSE, draw(CLOSES))
    if kind == "z":
        return frame(RSV1 | draw(st.sampled_from([TEXT, FIN | TEXT, FIN | BINARY])), deflated(draw(TEXTS)))
    payload = draw(st.binary(max_size=200))
    size = draw(st.sampled_from([len(payload), len(payload), 0, 126, 2000]))
    width = draw(st.sampled_from([2, 8])) if size > 125 else draw(st.sampled_from([0, 2, 8]))
    return frame(draw(st.integers(0, 255)), payload, size=size, width=width)


@st.composite
def streams(draw):
    """The same bytes cut twice at random places."""
    stream = b"".join(draw(st.lists(frames(), max_size=8)))
    if draw(st.booleans()) and stream:
        index = draw(st.integers(0, len(stream) - 1))
        stream = stream[:index] + draw(st.binary(min_size=1, max_size=1)) + stream[index + 1 :]
    return cut(draw, stream), cut(draw, stream)


def cut(draw, stream: bytes) -> list[bytes]:
    places = sorted({0, len(stream), *draw(st.lists(st.integers(0, len(stream)), max_size=6))})
    return [stream[start:end] for start, end in pairwise(places)]


@settings(max_examples=300, deadline=None)
@given(streams(), st.sampled_from([0, 500]), st.booleans())
@example(([frame(TEXT, b"\xc3")[:-1], frame(TEXT, b"\xc3")[-1:]], [frame(TEXT, b"\xc3")]), 0, False)
def test_both_engines_agree(cuts, message_size, deflate):
    parameters = DeflateParameters() if deflate else None
    fast = outcome(make(FastEngine, message_size=message_size, deflate=parameters), cuts[0])
    again = outcome(make(FastEngine, message_size=message_size, deflate=parameters), cuts[1])
    reference = outcome(make(WsprotoEngine, message_size=message_size, deflate=parameters), cuts[1])
    assert fast == again
    assert agree(fast, reference, message_size=message_size, deflate=deflate)


def agree(fast: list[object], reference: list[object], *, message_size: int, deflate: bool) -> bool:
    """Equal, but for when a failure is noticed, and so which one comes first if a frame holds two.

    wsproto looks into an incomplete frame and finds text that is no UTF-8, or data where none may be; the fast engine
    judges size and place by the header, where wsproto inflates first.
    """
    if fast == reference:
        return True
    if len(reference) == len(fast) + 1 and reference[:-1] == fast:
        return reference[-1] in (CloseCode.INVALID_DATA, CloseCode.PROTOCOL_ERROR, CloseCode.TOO_BIG)
    if len(fast) == len(reference) + 1 and fast[:-1] == reference:
        return fast[-1] in (CloseCode.PROTOCOL_ERROR, CloseCode.TOO_BIG)
    if not fast or fast[:-1] != reference[:-1]:
        return False
    by_content = (CloseCode.INVALID_DATA, CloseCode.TOO_BIG)
    if fast[-1] == CloseCode.PROTOCOL_ERROR:
        return deflate and reference[-1] in by_content
    return message_size > 0 and {fast[-1], reference[-1]} == set(by_content)


@pytest.mark.parametrize("engine_type", ENGINES)
def test_what_is_held_of_a_message_underway(engine_type: type[Engine]) -> None:
    engine = make(engine_type)
    assert engine.held == 0
    engine.receive_data(frame(TEXT, b"abc"))
    assert engine.held > 0
    while engine.next_event() is not None:
        pass
    assert engine.held == 3
