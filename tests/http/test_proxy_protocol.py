"""The PROXY header, versions 1 and 2, whole and in pieces."""

import struct
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.http.proxy_protocol import ProxyHeader, ProxyHeaderError, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HIGHEST = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
LONGEST_V1 = f"PROXY TCP6 {HIGHEST} {HIGHEST} 65535 65535\r\n".encode()


def v2(command=0x21, family=0x11, body=b"", length=None):
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def inet(source="1.2.3.4", destination="5.6.7.8", ports=(1000, 443)):
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", *ports)


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


INET6 = inet("2001:db8::1", "2001:db8::2")
UNIX = b"/client".ljust(108, b"\0") + b"/run/proxy.sock".ljust(108, b"\0")
TLS = tlv(0x20, b"\x01\x00\x00\x00\x00" + tlv(0x21, b"TLSv1.3"))
NO_TLS = tlv(0x20, b"\x00\x00\x00\x00\x01")
PADDING = tlv(0x04, b"\0" * 300)
FOUR = (("1.2.3.4", 1000), ("5.6.7.8", 443))
SIX = (("2001:db8::1", 1000), ("2001:db8::2", 443))


def header(source=None, destination=None, *, is_tls=False):
    return (True, source, destination, is_tls)


NOT_PROXIED = (False, None, None, False)

GOOD = [
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n", header(*FOUR)),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", header(("0.0.0.0", 0), ("255.255.255.255", 65535))),
    (b"PROXY TCP6 2001:DB8::1 2001:db8:0::2 1000 443\r\n", header(*SIX)),
    (b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1000 443\r\n", header(("1.2.3.4", 1000), ("::1", 443))),
    (LONGEST_V1, header((HIGHEST, 65535), (HIGHEST, 65535))),
    (b"PROXY UNKNOWN\r\n", NOT_PROXIED),
    (b"PROXY UNKNOWN ffff:f...f 65535 \xff\x00\r\n", NOT_PROXIED),
    (v2(body=inet()), header(*FOUR)),
    (v2(family=0x21, body=INET6), header(*SIX)),
    (v2(family=0x21, body=inet("::ffff:1.2.3.4", "::1")), header(("1.2.3.4", 1000), ("::1", 443))),
    (v2(family=0x12, body=inet()), header(*FOUR)),
    (v2(family=0x31, body=UNIX), header()),
    (v2(body=inet() + PADDING), header(*FOUR)),
    (v2(body=inet() + tlv(0xEE, b"") + TLS + PADDING), header(*FOUR, is_tls=True)),
    (v2(body=inet() + NO_TLS), header(*FOUR)),
    (v2(family=0x21, body=INET6 + TLS), header(*SIX, is_tls=True)),
    (v2(family=0x31, body=UNIX + TLS), header(is_tls=True)),
    (v2(body=inet() + b"\x04\x0f\xf1" + b"\0" * 4081), header(*FOUR)),
    (v2(0x20, 0x00), NOT_PROXIED),
    (v2(0x20, 0x11, inet()), NOT_PROXIED),
    (v2(0x20, 0x11, b"x"), NOT_PROXIED),
    (v2(0x21, 0x00), NOT_PROXIED),
    (v2(0x21, 0x00, b"whatever"), NOT_PROXIED),
    (v2(0x21, 0x10, inet()), NOT_PROXIED),
    (v2(0x21, 0x01, b""), NOT_PROXIED),
]

BAD = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"PROXX",
    b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"\r\nPROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"\r\n\r\n\x00\r\nQUIX",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \xb2\r\n",
    b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 ::1 ::2 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    b"PROXY TCP4 1.2.3.4\n5.6.7.8 1 2\r\n",
    LONGEST_V1[:-2] + b"0\r\n",
    b"PROXY UNKNOWN " + b"x" * 200,
    v2(0x11, body=inet()),
    v2(0x31, body=inet()),
    v2(0x22, body=inet()),
    v2(family=0x41, body=inet()),
    v2(family=0xF0, body=inet()),
    v2(family=0x13, body=inet()),
    v2(body=inet()[:-1]),
    v2(body=b""),
    v2(family=0x21, body=inet()),
    v2(family=0x31, body=UNIX[:-1]),
    v2(length=4097),
    v2(length=65535),
    v2(body=inet() + b"\x20"),
    v2(body=inet() + b"\x20\x00"),
    v2(body=inet() + b"\x20\x00\x09\x01"),
    v2(body=inet() + TLS + b"\x04\xff\xff"),
]


@pytest.mark.parametrize(("data", "expected"), GOOD)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n"])
def test_a_header_ends_where_it_ends(data, expected, rest):
    found = read_header(data + rest)
    assert found is not None
    assert found.size == len(data)
    assert (found.is_proxied, found.source, found.destination, found.is_tls) == expected


@pytest.mark.parametrize(("data", "_expected"), GOOD)
def test_no_beginning_of_a_header_is_one_or_is_refused(data, _expected):
    for end in range(len(data)):
        assert read_header(data[:end]) is None


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data):
    with pytest.raises(ProxyHeaderError, match="PROXY header"):
        read_header(data)


@pytest.mark.parametrize("data", BAD)
def test_it_stays_refused_whatever_follows(data):
    refused = 0
    for end in range(len(data) + 1):
        try:
            found = read_header(data[:end] + b"\r\n" * (end == len(data)))
        except ProxyHeaderError:
            refused += 1
        else:
            assert found is None
            assert not refused, "bytes that were refused are a beginning again"
    assert refused


def test_the_longest_header_of_version_1_is_read_and_nothing_longer_waited_for():
    assert read_header(LONGEST_V1[:-2]) is None
    found = read_header(LONGEST_V1)
    assert found is not None
    assert found.size == 104
    assert read_header(b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n") == ProxyHeader(107)
    assert read_header(b"PROXY UNKNOWN " + b"x" * 92) is None
    with pytest.raises(ProxyHeaderError):
        read_header(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n")


ports = st.integers(0, 65535)


@given(st.data(), st.sampled_from([4, 6]), ports, ports, st.binary(max_size=30))
def test_both_versions_say_the_same(data, version, source_port, destination_port, rest):
    source, destination = data.draw(st.ip_addresses(v=version)), data.draw(st.ip_addresses(v=version))
    line = f"PROXY TCP{version} {source} {destination} {source_port} {destination_port}\r\n".encode()
    binary = v2(
        family=0x11 if version == 4 else 0x21,
        body=source.packed + destination.packed + struct.pack("!HH", source_port, destination_port),
    )
    one, two = read_header(line + rest), read_header(binary + rest)
    assert one is not None
    assert two is not None
    assert (one.source, one.destination) == (two.source, two.destination)
    assert one.source is not None
    mapped = getattr(source, "ipv4_mapped", None)
    assert one.source == (str(mapped or source), source_port)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_wait(data):
    try:
        found = read_header(data)
    except ProxyHeaderError:
        return
    assert found is None or data.startswith((b"PROXY ", SIGNATURE))


@given(st.binary(max_size=80), st.sampled_from([0x20, 0x21]), st.integers(0, 255))
def test_arbitrary_bytes_behind_a_signature(body, command, family):
    try:
        found = read_header(v2(command, family, body))
    except ProxyHeaderError:
        return
    assert found is not None
    assert found.size == 16 + len(body)
    if found.source is not None:
        assert isinstance(ip_address(found.source[0]), IPv4Address) or family >> 4 == 2
