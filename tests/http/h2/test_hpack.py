"""Field blocks as fields, and the table behind them."""

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.http.h2 import hpack as hpack_room
from asgi_master.http.h2.errors import ConnectionError, ErrorCode  # noqa: A004 -- the term of RFC 9113
from asgi_master.http.h2.field_kinds import kind_of
from asgi_master.http.h2.hpack import FieldDecoder
from asgi_master.http.h2.static_table import STATIC_FIELDS

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

SMALL_TABLE = b"\x3f\xe1\x01"
"""The table's size becomes 256, as in the examples of RFC 7541, Appendix C.5 and C.6."""


def decoder(most_fields: int = 1000) -> FieldDecoder:
    return FieldDecoder(most_fields)


def fields_of(block: bytes) -> list[tuple[bytes, bytes]]:
    return decoder().decode(block)[0]


def table(fields: FieldDecoder) -> list[tuple[bytes, bytes]]:
    """What is in the dynamic table, the newest first."""
    entries = []
    try:
        while True:
            index = 62 + len(entries)
            block = bytes((0x80 | index,)) if index < 0x7F else b"\xff" + bytes(_number(index - 0x7F))
            entries += fields.decode(block)[0]
    except ConnectionError:
        return entries


def _number(value: int) -> list[int]:
    return [value] if value < 0x80 else [value & 0x7F | 0x80, *_number(value >> 7)]


def refused(block: bytes, fields: FieldDecoder | None = None) -> str:
    with pytest.raises(ConnectionError) as caught:
        (fields or decoder()).decode(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR
    return caught.value.reason


# -- the examples of RFC 7541, Appendix C --------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "field", "enters"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), True),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), False),
        ("100870617373776f726406736563726574", (b"password", b"secret"), False),
        ("82", (b":method", b"GET"), False),
    ],
)
def test_representations(block, field, enters):
    """C.2."""
    fields = decoder()
    assert fields.decode(bytes.fromhex(block))[0] == [field]
    assert table(fields) == [field] * enters


REQUESTS = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]


@pytest.mark.parametrize(
    "blocks",
    [
        (
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
    ids=["C.3", "C.4"],
)
def test_requests(blocks):
    fields = decoder()
    for block, expected in zip(blocks, REQUESTS, strict=True):
        assert fields.decode(bytes.fromhex(block))[0] == expected
    assert table(fields) == [
        (b"custom-key", b"custom-value"),
        (b"cache-control", b"no-cache"),
        (b":authority", b"www.example.com"),
    ]


DATES = b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
C_5 = """
4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e17687474
70733a2f2f7777772e6578616d706c652e636f6d

4803333037c1c0bf

88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a
4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31
"""
C_6 = """
488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae
82ae43d3

4883640effc1c0bf

88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960
d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007
"""


@pytest.mark.parametrize("blocks", [C_5, C_6], ids=["C.5", "C.6"])
def test_responses_that_evict(blocks):
    fields = decoder()
    fields.decode(SMALL_TABLE)
    private, location = (b"cache-control", b"private"), (b"location", b"https://www.example.com")
    expected = [
        [(b":status", b"302"), private, (b"date", DATES[0]), location],
        [(b":status", b"307"), private, (b"date", DATES[0]), location],
        [
            (b":status", b"200"),
            private,
            (b"date", DATES[1]),
            location,
            (b"content-encoding", b"gzip"),
            (b"set-cookie", COOKIE),
        ],
    ]
    assert [fields.decode(bytes.fromhex(block))[0] for block in blocks.split("\n\n")] == expected
    assert table(fields) == [(b"set-cookie", COOKIE), (b"content-encoding", b"gzip"), (b"date", DATES[1])]


def test_the_static_table():
    """RFC 7541, Appendix A: as `hpack` has it."""
    assert STATIC_FIELDS == HeaderTable.STATIC_TABLE
    assert [fields_of(bytes((0x80 | index,))) for index in range(1, 62)] == [
        [field] for field in STATIC_FIELDS
    ]


# -- what is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "not in the table"),
        (b"\xff\x00", "not in the table"),
        (b"\xff\x80\x80\x80\x7f", "not in the table"),
        (b"\x7f\x00\x01v", "not in the table"),
        (b"\x0f\x70\x01v", "not in the table"),
        (b"\xff", "too early"),
        (b"\x40", "too early"),
        (b"\x40\x01", "too early"),
        (b"\x40\x01a", "too early"),
        (b"\x40\x01a\x02b", "longer than"),
        (b"\x40\x01a\x7f\x01", "longer than"),
        (b"\x41\x7f", "too early"),
        (b"\x41\x7f\xff\xff\xff\xff\x00", "too large"),
        (b"\x41\x81\x00", "padding"),
        (b"\x40\x81\x00\x00", "padding"),
        (b"\x3f\xe2\x1f", "larger than"),
        (b"\x3f\xff\xff\xff\xff\xff\x00", "too large"),
        (b"\x3f", "too early"),
        (b"\x20" * 9, "too often"),
        (b"\x82\x20", "within"),
        (b"\x82\x3f\xe1\x1f", "within"),
    ],
)
def test_what_cannot_be_decoded(block, reason):
    assert reason in refused(block)


def test_an_entry_that_was_evicted_is_not_in_the_table():
    fields = decoder()
    fields.decode(b"\x40\x01a\x01b")
    assert fields.decode(b"\xbe")[0] == [(b"a", b"b")]
    fields.decode(b"\x20")
    assert "not in the table" in refused(b"\xbe", fields)


@given(st.binary(max_size=200))
def test_arbitrary_bytes(block):
    """They are fields, or break HPACK: nothing else."""
    fields = decoder()
    fields.decode(b"\x40\x01a\x01b\x40\x01c\x01d")
    try:
        decoded, kinds = fields.decode(block)
    except ConnectionError:
        return
    assert kinds == bytes(kind_of(*field) for field in decoded)


# -- the table -----------------------------------------------------------------------------------------


def test_the_size_of_the_table():
    """RFC 7541 §4.1, §4.3: name, value and 32 bytes an entry, 4096 in all."""
    fields = decoder()
    for index in range(200):
        fields.decode(b"\x40\x04%04d\x00" % index)
    assert [name for name, _ in table(fields)] == [
        b"%04d" % index for index in range(199, 199 - 4096 // 36, -1)
    ]


def test_an_entry_that_is_larger_than_the_table_empties_it():
    """RFC 7541 §4.4: that is no error. Its name may be that of an entry which goes."""
    fields = decoder()
    fields.decode(b"\x40\x04name\x00")
    block = b"\x7e\x7f\xe1\x1f" + b"v" * 4192
    assert fields.decode(block)[0] == [(b"name", b"v" * 4192)]
    assert table(fields) == []
    fields.decode(b"\x40\x04name\x00")
    assert table(fields) == [(b"name", b"")]


def test_changes_of_the_size_at_the_beginning_of_a_block():
    """RFC 7541 §4.2, §6.3: down to nothing and up again, which empties the table."""
    fields = decoder()
    fields.decode(b"\x40\x01a\x00")
    assert fields.decode(b"\x20\x3f\xe1\x1f\x82")[0] == [(b":method", b"GET")]
    assert table(fields) == []
    fields.decode(b"\x3e")  # 30 bytes
    fields.decode(b"\x40\x01a\x00")
    assert table(fields) == []
    fields.decode(b"\x3f\x02\x40\x01a\x00")  # 33 bytes
    assert table(fields) == [(b"a", b"")]
    assert fields.decode(b"\x20")[0] == []


def test_an_index_of_more_than_a_byte():
    fields = decoder()
    for index in range(100):
        fields.decode(b"\x40\x02%02d\x00" % index)
    assert fields.decode(b"\xff\x00\xff\x22\xfe\xbe")[0] == [
        (b"34", b""),
        (b"00", b""),
        (b"35", b""),
        (b"99", b""),
    ]
    kinds = fields.decode(b"\x40\x04host\x01h" + b"\x40\x01a\x00" * 65 + b"\xff\x00\xfe\xff\x01")[1]
    assert kinds[-3:] == b"hff"


def test_a_name_of_the_dynamic_table():
    fields = decoder()
    assert fields.decode(b"\x40\x01a\x01b\x7e\x01c\x0f\x2f\x01d")[0] == [
        (b"a", b"b"),
        (b"a", b"c"),
        (b"a", b"d"),
    ]


def test_whether_the_table_was_changed():
    fields = decoder()
    fields.decode(b"\x82\x04\x01/\x10\x01a\x01b")
    assert not fields.is_changed
    for block in (b"\x41\x01h", b"\x20"):
        fields.decode(block)
        assert fields.is_changed
        fields.is_changed = False


def test_where_the_path_is():
    fields = decoder()
    for block, place in [
        (b"\x82\x04\x01/", (2, 4)),
        (b"\x14\x02/a\x82", (1, 4)),
        (b"\x84", None),
        (b"\x44\x01/", None),
        (b"", None),
    ]:
        fields.decode(block)
        assert fields.path == place


def test_the_largest_entry():
    fields = decoder()
    static = max(32 + len(name) + len(value) for name, value in STATIC_FIELDS)
    assert fields.largest == static
    fields.decode(b"\x40\x01a\x40" + b"b" * 64)
    assert fields.largest == 32 + 1 + 64
    fields.decode(b"\x40\x01a\x01b")
    assert fields.largest == 32 + 1 + 64
    fields.decode(b"\x20")
    assert fields.largest == static


# -- literal fields that come again --------------------------------------------------------------------


def literal(first: int, name: bytes | None, value: bytes, huffman: bool = False) -> bytes:
    """A field that is not indexed; `first` is its first byte, or more of them for an index that does not fit into one."""
    block = bytes((first,)) if first < 0x100 else first.to_bytes(2, "big")
    for text in (name, value):
        if text is not None:
            coded = HUFFMAN.encode(text) if huffman else text
            length = [len(coded)] if len(coded) < 0x7F else [0x7F, *_number(len(coded) - 0x7F)]
            block += bytes((length[0] | 0x80 * huffman, *length[1:])) + coded
    return block


@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize("value", [b"", b"gzip", b"v" * 120, b"v" * 200], ids=len)
@pytest.mark.parametrize(
    ("first", "name", "expected"),
    [
        (0x00, b"x-own", b"x-own"),
        (0x00, b"n" * 130, b"n" * 130),
        (0x10, b"x-own", b"x-own"),
        (0x40, b"x-own", b"x-own"),
        (0x01, None, b":authority"),
        (0x04, None, b":path"),
        (0x44, None, b":path"),
        (0x0F00, None, b"accept-charset"),
        (0x0F11, None, b"cookie"),
        (0x0F2E, None, b"www-authenticate"),
        (0x1F2E, None, b"www-authenticate"),
        (0x50, None, b"accept-encoding"),
        (0x60, None, b"cookie"),
        (0x7D, None, b"www-authenticate"),
    ],
)
def test_a_literal_field_means_the_same_on_each_connection(first, name, expected, value, huffman):
    block = literal(first, name, value, huffman)
    for _ in range(3):
        fields = decoder()
        for _ in range(2):
            decoded, kinds = fields.decode(block + b"\x82")
            assert decoded == [(expected, value), (b":method", b"GET")]
            assert kinds == bytes((kind_of(expected, value),)) + b"m"
        assert table(fields) == [(expected, value)] * 2 * (first >= 0x40 and first < 0x100)


@pytest.mark.parametrize("block", [b"\x7e\x01v", b"\x0f\x2f\x01v", b"\x1f\x2f\x01v", b"\xbe"])
def test_what_refers_to_the_dynamic_table_means_another_field_on_another_connection(block):
    for name in (b"a", b"b", b"c"):
        fields = decoder()
        fields.decode(b"\x40\x01%b\x01v" % name)
        for _ in range(2):
            assert fields.decode(block)[0] == [(name, b"v")]


def test_literal_fields_of_which_there_are_many():
    """They do not stay for ever, and are right nevertheless."""
    for index in range(6000):
        value = b"%d" % index
        assert fields_of(literal(0x00, b"a", value)) == [(b"a", value)]
    assert len(hpack_room._known) <= 1024


# -- bounds --------------------------------------------------------------------------------------------


def test_far_too_many_fields():
    literal_fields = b"".join([b"\x00\x02%02d\x00" % index for index in range(50)])
    for block in (literal_fields, b"\x82" * 50, b"\xff\x00" * 50):
        for most, is_refused in ((50, False), (49, True)):
            fields = decoder(most)
            for _ in range(66):
                fields.decode(b"\x40\x01a\x00")
            if not is_refused:
                assert len(fields.decode(block)[0]) == 50
                continue
            with pytest.raises(ConnectionError) as caught:
                fields.decode(block)
            assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_many_references_to_a_large_field_share_it():
    """A bomb: 60 kB for 240 MB."""
    fields = decoder(100_000)
    (large,), _ = fields.decode(b"\x40\x01a\x7f\x81\x1f" + b"b" * 4096)
    assert len(large[1]) == 4096
    fields.decode(b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968)
    decoded, kinds = fields.decode(b"\xbe" * 60_000)
    assert len(decoded) == len(kinds) == 60_000
    assert len(set(map(id, decoded))) == 1


# -- beside another encoder ----------------------------------------------------------------------------

NAMES = st.sampled_from([b"a", b"cookie", b"x-custom", b":path", b"host", b"content-length"]) | st.binary(
    max_size=40
)
VALUES = st.sampled_from([b"", b"1", b"/", b"www.example.com", b"v" * 300]) | st.binary(max_size=300)
HEADS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=20)


@given(st.lists(st.tuples(HEADS, st.booleans(), st.none() | st.integers(0, 4096)), max_size=8))
def test_what_hpack_encodes(heads):
    encoder = hpack.Encoder()
    fields = decoder()
    for head, huffman, size in heads:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(head, huffman=huffman)  # of each field: name, value, whether it is sensitive
        decoded, kinds = fields.decode(block)
        assert decoded == [(name, value) for name, value, _ in head]
        assert kinds == bytes(kind_of(*field) for field in decoded)
        assert table(fields) == list(encoder.header_table.dynamic_entries)
