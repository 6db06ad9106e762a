"""Whose request it is, by X-Forwarded-* and Forwarded: believed from the right, and only as far as it goes."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_master.http.forwarded import Forwarded, Origin, Trust, _elements, read_node

OURS = Trust([ip_network("10.0.0.0/8"), ip_network("192.0.2.1"), ip_network("fd00::/8")])


def x_forwarded(*chain, proto=(), trust=OURS):
    headers = [(b"host", b"a"), *((b"x-forwarded-for", line) for line in chain), (b"accept", b"*/*")]
    return Forwarded(trust).origin(headers + [(b"x-forwarded-proto", line) for line in proto])


def forwarded(*lines, trust=OURS):
    return Forwarded(trust, rfc7239=True).origin([(b"forwarded", line) for line in lines])


def client(address, port=0, scheme=""):
    return Origin(has_client=True, client=(address, port), scheme=scheme)


UNKNOWN = Origin(has_client=True, client=None)


# -- who is believed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trust", "believed", "not_believed"),
    [
        (Trust([]), [], ["127.0.0.1", "::1", None]),
        (OURS, ["10.1.2.3", "192.0.2.1", "fd00::1", "::ffff:10.0.0.1"], ["11.0.0.1", "192.0.2.2", "fc00::1", None]),
        (Trust([ip_network("fe80::/10")]), ["fe80::1%eth0"], ["10.0.0.1"]),
        (Trust([], unix_peers=True), [None], ["127.0.0.1"]),
        (Trust([], any_peer=True), ["1.2.3.4", "::1"], [None]),
        (Trust([ip_network("0.0.0.0/0")]), ["1.2.3.4"], ["::1", None, "", "nonsense"]),
    ],
)  # fmt: skip
def test_who_is_believed(trust, believed, not_believed):
    for peer in believed:
        assert trust.trusts(peer), peer
    for peer in not_believed:
        assert not trust.trusts(peer), peer
    assert bool(trust) == bool(believed)


# -- X-Forwarded-For ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "origin"),
    [
        ([], Origin()),
        ([b""], Origin()),
        ([b" , ,"], Origin()),
        ([b"1.2.3.4"], client("1.2.3.4")),
        ([b"6.6.6.6, 1.2.3.4"], client("1.2.3.4")),
        ([b"6.6.6.6, 1.2.3.4, 10.0.0.1"], client("1.2.3.4")),
        ([b"6.6.6.6,1.2.3.4,10.0.0.1,192.0.2.1,fd12::1"], client("1.2.3.4")),
        ([b"6.6.6.6, 1.2.3.4", b"10.0.0.1"], client("1.2.3.4")),  # haproxy adds a line of its own
        ([b"6.6.6.6", b"", b"1.2.3.4 , "], client("1.2.3.4")),
        ([b"10.9.9.9, 10.0.0.1"], client("10.9.9.9")),  # a client of our own network
        ([b"1.2.3.4:5678"], client("1.2.3.4", 5678)),
        ([b"10.0.0.1:99, 10.0.0.2:1"], client("10.0.0.1", 99)),
        ([b"2001:db8::1"], client("2001:db8::1")),
        ([b"2001:DB8:0:0::1"], client("2001:db8::1")),
        ([b"[2001:db8::1]"], client("2001:db8::1")),
        ([b"[2001:db8::1]:443"], client("2001:db8::1", 443)),
        ([b"1.2.3.4, [fd00::1]:443"], client("1.2.3.4")),
        ([b"::ffff:1.2.3.4"], client("1.2.3.4")),
        ([b"1.2.3.4, ::ffff:10.0.0.1"], client("1.2.3.4")),
        ([b"unknown"], UNKNOWN),
        ([b"1.2.3.4, unknown"], UNKNOWN),
        ([b"1.2.3.4, unknown, 10.0.0.1"], UNKNOWN),
        ([b"1.2.3.4, _hidden"], UNKNOWN),
        ([b"1.2.3.4, unix:"], UNKNOWN),
        ([b"<script>, 1.2.3.4"], client("1.2.3.4")),
        ([b"\xff\xfe, 10.0.0.1"], UNKNOWN),
        ([b"1.2.3.4:"], UNKNOWN),
        ([b"1.2.3.4:65536"], UNKNOWN),
        ([b"1.2.3.4:-1"], UNKNOWN),
        ([b"1.2.3.4:\xb2"], UNKNOWN),
        ([b"1.2.3"], UNKNOWN),
        ([b"01.2.3.4"], UNKNOWN),
        ([b"[1.2.3.4]"], UNKNOWN),
        ([b"[::1"], UNKNOWN),
        ([b"::1]"], UNKNOWN),
        ([b"[::1]x"], UNKNOWN),
        ([b"fe80::1%eth0"], UNKNOWN),
        ([b"1.2.3.4 5.6.7.8"], UNKNOWN),
        ([b'"1.2.3.4"'], UNKNOWN),
        ([b"1" * 70_000], UNKNOWN),
        ([b"6.6.6.6," * 10_000 + b"1.2.3.4"], client("1.2.3.4")),
        ([b"10.0.0.1," * 10_000 + b"10.0.0.2"], UNKNOWN),  # more proxies than anybody has
        ([b"," * 60_000 + b"1.2.3.4"], client("1.2.3.4")),
    ],
)  # fmt: skip
def test_x_forwarded_for(lines, origin):
    assert x_forwarded(*lines) == origin


@pytest.mark.parametrize(
    ("chain", "proto", "scheme"),
    [
        (b"1.2.3.4", [], ""),
        (b"1.2.3.4", [b"https"], "https"),
        (b"1.2.3.4", [b"HTTP"], "http"),
        (b"1.2.3.4", [b"wss"], "https"),
        (b"1.2.3.4", [b"ws"], "http"),
        (b"1.2.3.4", [b"javascript"], ""),
        (b"1.2.3.4", [b""], ""),
        (b"1.2.3.4", [b"https", b"http"], "http"),  # the first one came from the client
        (b"6.6.6.6, 1.2.3.4", [b"https, http"], "http"),
        (b"1.2.3.4, 10.0.0.1", [b"https, http"], "https"),  # each proxy added its own
        (b"1.2.3.4, 10.0.0.1", [b"https"], "https"),  # one for all
        (b"1.2.3.4, 10.0.0.1, 10.0.0.2", [b"https, http"], "https"),
        (b"", [b"https"], "https"),
        (b"unknown", [b"https"], "https"),
    ],
)
def test_the_scheme_is_the_one_that_the_clients_proxy_saw(chain, proto, scheme):
    assert x_forwarded(chain, proto=proto).scheme == scheme


def test_any_peer_is_believed_for_one_address_only():
    """Otherwise everybody could say what they like: their words stand left of what the proxy adds."""
    anybody = Trust([], any_peer=True)
    assert x_forwarded(b"6.6.6.6, 1.2.3.4", trust=anybody) == client("1.2.3.4")
    with_ours = Trust([ip_network("10.0.0.0/8")], any_peer=True)
    assert x_forwarded(b"6.6.6.6, 1.2.3.4, 10.0.0.1", trust=with_ours) == client("1.2.3.4")


# -- Forwarded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "origin"),
    [
        ([], Origin()),
        ([b""], Origin()),
        ([b" , "], Origin()),
        ([b"for=1.2.3.4"], client("1.2.3.4")),
        ([b"For=1.2.3.4;PROTO=HTTPS;by=10.0.0.1;host=a.example"], client("1.2.3.4", 0, "https")),
        ([b'for="1.2.3.4:56"'], client("1.2.3.4", 56)),
        ([b'for="1.2.3.4:_port"'], client("1.2.3.4")),
        ([b'for="[2001:db8::1]"'], client("2001:db8::1")),
        ([b'for="[2001:db8::1]:47011";proto=http'], client("2001:db8::1", 47011, "http")),
        ([b"for=[2001:db8::1]:47011"], client("2001:db8::1", 47011)),  # unquoted, against the RFC
        ([b"for=2001:db8::1"], client("2001:db8::1")),
        ([b"for=1.2.3.4 ; proto=https ;; by=x;"], client("1.2.3.4", 0, "https")),
        ([b'for="\\1\\.2.3.4"'], client("1.2.3.4")),
        ([b"for=6.6.6.6, for=1.2.3.4;proto=https, for=10.0.0.1;proto=http"], client("1.2.3.4", 0, "https")),
        ([b"for=6.6.6.6", b"for=1.2.3.4", b'for="[fd00::1]"'], client("1.2.3.4")),
        ([b"for=1.2.3.4, for=10.0.0.1;proto=https"], client("1.2.3.4", 0, "https")),
        ([b'for=1.2.3.4;host="a, for=6.6.6.6"'], client("1.2.3.4")),
        ([b'for=1.2.3.4;host="a, for=6.6.6.6;b=\\""'], client("1.2.3.4")),
        ([b'for=1.2.3.4;a="x, for=6.6.6.6;y=";b="z"'], client("1.2.3.4")),
        ([b'for="', b"for=1.2.3.4"], client("1.2.3.4")),  # the client's quote does not swallow what was added
        ([b'for=6.6.6.6;x="', b'for="1.2.3.4:1"'], client("1.2.3.4", 1)),
        ([b'x="\\', b'for="1.2.3.4:1"'], client("1.2.3.4", 1)),
        ([b"for=unknown"], UNKNOWN),
        ([b"for=_SEVKISEK, for=10.0.0.1"], UNKNOWN),
        ([b"for=1.2.3.4, for=unknown"], UNKNOWN),
        ([b"by=10.0.0.1"], UNKNOWN),
        ([b"for"], UNKNOWN),
        ([b"for="], UNKNOWN),
        ([b"for=1.2.3.4, nonsense"], UNKNOWN),
        ([b"for=1.2.3.4;for=6.6.6.6"], UNKNOWN),
        ([b'for=1.2.3.4;x="'], UNKNOWN),
        ([b"for=6.6.6.6, for=1.2.3.4;x=\\,"], UNKNOWN),
        ([b"for=" + b"1" * 70_000], UNKNOWN),
        ([b"for=6.6.6.6," * 5000 + b"for=1.2.3.4"], client("1.2.3.4")),
        ([b"for=10.0.0.1," * 5000 + b"for=10.0.0.1"], UNKNOWN),
        ([b'for="' + b"," * 60_000], UNKNOWN),
        ([b'a=";' * 20_000], UNKNOWN),
        ([b"a=b;" * 20_000], UNKNOWN),
    ],
)  # fmt: skip
def test_forwarded(lines, origin):
    assert forwarded(*lines) == origin


def test_the_other_family_is_not_looked_at():
    headers = [
        (b"forwarded", b"for=1.1.1.1;proto=https"),
        (b"x-forwarded-for", b"2.2.2.2"),
        (b"x-forwarded-proto", b"http"),
    ]
    assert Forwarded(OURS).origin(headers) == client("2.2.2.2", 0, "http")
    assert Forwarded(OURS, rfc7239=True).origin(headers) == client("1.1.1.1", 0, "https")


# -- what holds for all of them ----------------------------------------------------------------------


def test_what_is_remembered_is_bounded():
    reader = Forwarded(OURS)
    for number in range(5000):
        address = str(ip_address(number + 2**30))
        assert reader.origin([(b"x-forwarded-for", address.encode())]).client == (address, 0)
    assert len(reader._known) <= 1024
    reader.origin([(b"x-forwarded-for", b"x" * 5000)])
    assert max(len(chain) for chain, _schemes in reader._known) < 300


hostile = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from([b'"', b"\\", b",", b";", b"=", b"for=", b"6.6.6.6", b"10.0.0.1", b"proto=https", b" ", b"[", b"::1", b"]:1", b"\t", b"\xff"]),
        max_size=25,
    ).map(b"".join),
)  # fmt: skip
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: not OURS.is_proxy(str(address)) and getattr(address, "ipv4_mapped", None) is None
)


@given(hostile, addresses, st.integers(1, 65535), st.booleans())
@example(b'for="', ip_address("2001:db8::1"), 5, False)
def test_whatever_the_client_sent_the_address_that_was_added_counts(sent, address, port, one_line):
    """The proxy of the client adds what it saw, the next one the first one's address."""
    host = f"[{address}]" if address.version == 6 else str(address)
    added = f"{host}:{port}, 10.0.0.1".encode()
    lines = [sent + b", " + added] if one_line else [sent, added]
    assert x_forwarded(*lines) == client(str(address), port)
    added = f'for="{host}:{port}";proto=https;by="_a,b", for=10.0.0.1;proto=http'.encode()
    lines = [sent + b", " + added] if one_line else [sent, added]
    assert forwarded(*lines) == client(str(address), port, "https")


@given(hostile, hostile)
def test_nothing_but_addresses_comes_out(chain, proto):
    origins = [
        x_forwarded(chain, proto=[proto]),
        forwarded(chain, proto),
        x_forwarded(chain, trust=Trust([ip_network("0.0.0.0/0"), ip_network("::/0")])),
    ]
    for origin in origins:
        assert origin.scheme in ("", "http", "https")
        if origin.client is not None:
            assert origin.has_client
            host, port = origin.client
            assert str(ip_address(host)) == host
            assert 0 <= port <= 65535


@given(st.binary(max_size=70))
def test_a_node_is_an_address_or_nothing(text):
    node = read_node(text)
    assert node is None or str(ip_address(node[0])) == node[0]


# -- what was taken away -----------------------------------------------------------------------------


def prefix(*lines, chain=(), trust=OURS, reads=True):
    headers = [(b"x-forwarded-for", line) for line in chain] + [
        (b"x-forwarded-prefix", line) for line in lines
    ]
    return Forwarded(trust, prefix=reads).origin(headers).prefix


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"/api"], b"/api"),
        ([b"/api/"], b"/api"),
        ([b"/api/v1"], b"/api/v1"),
        ([b"/a%20b/~x:@"], b"/a%20b/~x:@"),
        ([b"/"], b""),
        ([b""], b""),
        ([b"api"], b""),
        ([b"//evil.example"], b""),
        ([b"/a//b"], b""),
        ([b"/a/../b"], b""),
        ([b"/.."], b""),
        ([b"/."], b""),
        ([b"/...x"], b"/...x"),
        ([b"/%2e%2e"], b""),
        ([b"/a%2Fb"], b""),
        ([b"/a%00"], b""),
        ([b"/a%zz"], b""),
        ([b"/a?b"], b""),
        ([b"/a b"], b""),
        ([b"/\xc3\xa4"], b""),
        ([b"http://a/b"], b""),
        ([b"/" + b"a" * 600], b""),
        ([b"/evil", b"/api"], b"/api"),
        ([b"/evil, /api"], b"/api"),
    ],
)
def test_the_prefix_that_one_proxy_took_away(lines, expected):
    assert prefix(*lines) == expected


def test_two_proxies_take_one_each():
    chain = [b"1.2.3.4, 10.0.0.1"]
    assert prefix(b"/outer", b"/inner", chain=chain) == b"/outer/inner"
    assert prefix(b"/outer,/inner", chain=chain) == b"/outer/inner"
    assert prefix(b"/evil,/outer,/inner", chain=chain) == b"/outer/inner"
    assert prefix(b"/only", chain=chain) == b"/only"
    assert prefix(b"evil", b"/inner", chain=chain) == b""
    assert prefix(b"/outer,/inner", chain=[b"1.2.3.4"]) == b"/inner"


def test_no_prefix_is_believed_unless_it_is_wanted():
    assert prefix(b"/api", reads=False) == b""
    assert Forwarded(OURS, rfc7239=True, prefix=True).origin([(b"x-forwarded-prefix", b"/api")]).prefix == b""


def test_a_known_origin_is_not_that_of_another_prefix():
    reader = Forwarded(OURS, prefix=True)
    for path in (b"/a", b"/b", b"/a"):
        assert reader.origin([(b"x-forwarded-prefix", path)]).prefix == path


@given(st.lists(st.binary(max_size=12), max_size=4))
def test_a_prefix_is_a_path_or_nothing(lines):
    found = prefix(*lines, chain=[b"1.2.3.4, 10.0.0.1"])
    assert found == b"" or (found[:1] == b"/" and b"//" not in found and not found.endswith(b"/"))
    assert b"/../" not in found + b"/"


def test_a_malformed_element_is_the_last() -> None:
    assert list(_elements(b"for=1.2.3.4, broken, for=1.1.1.1")) == [{b"for": b"1.1.1.1"}, {}]
