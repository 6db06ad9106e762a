from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.errors import SettingsError
from asgi_master.settings.peers import parse_peer
from asgi_master.settings.resolve import resolve
from asgi_master.worker.transport.endpoints import trust_of


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("*", "*"),
        ("unix", "unix"),
        ("127.0.0.1", ip_network("127.0.0.1/32")),
        ("10.0.0.0/8", ip_network("10.0.0.0/8")),
        ("::1", ip_network("::1/128")),
        ("fd00::/8", ip_network("fd00::/8")),
        ("0.0.0.0/0", ip_network("0.0.0.0/0")),
        ("::ffff:127.0.0.1", ip_network("127.0.0.1/32")),
        ("::FFFF:7f00:1", ip_network("127.0.0.1/32")),
        ("0:0:0:0:0:ffff:10.1.2.3/128", ip_network("10.1.2.3/32")),
        ("::ffff:10.0.0.0/104", ip_network("10.0.0.0/8")),
        ("::ffff:0:0/96", ip_network("0.0.0.0/0")),
        ("::/0", ip_network("::/0")),
        ("::fffe:0:0/95", ip_network("::fffe:0:0/95")),
        ("::127.0.0.1", ip_network("::127.0.0.1/128")),
    ],
)
def test_peers(text, peer):
    assert parse_peer(text) == peer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no address"),
        ("localhost", "is no address"),
        ("UNIX", "is no address"),
        ("10.0.0.0/33", "is no address"),
        ("10.0.0.1:80", "is no address"),
        ("[::1]", "is no address"),
        ("10.0.0.7/8", r"write 10\.0\.0\.0/8$"),
        ("fd00::1/8", "write fd00::/8$"),
        ("::ffff:10.0.0.7/104", r"write 10\.0\.0\.0/8$"),
        ("fe80::1%eth0", "has a zone"),
        ("fe80::%eth0/10", "has a zone"),
    ],
)
def test_what_is_no_peer(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_peer(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_network_means_the_same_by_either_version(number, length):
    network = IPv4Network((number >> (32 - length) << (32 - length), length))
    mapped = f"::ffff:{network.network_address}/{96 + length}"
    assert parse_peer(mapped) == parse_peer(str(network)) == network
    trust = trust_of([mapped])
    for host in (network[0], network[-1]):
        assert trust.trusts(str(host))
        assert trust.trusts(f"::ffff:{host}")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (
            {"forwarded_allow_ips": ["10.0.0.1", "proxy"]},
            'forwarded-allow-ips: "proxy" is no address, network, unix or *: write such as 10.0.0.7, 10.0.0.0/8 or fd00::/8 (--forwarded-allow-ips)',
        ),
        (
            {"proxy_protocol": "true"},
            "proxy-protocol: true, but proxy-protocol-allow-ips names no proxy: every connection would be refused (--proxy-protocol)",
        ),
        (
            {"proxy_protocol": "true", "proxy_protocol_allow_ips": ["10.0.0.7/8"]},
            'proxy-protocol-allow-ips: "10.0.0.7/8" has bits set right of its prefix: write 10.0.0.0/8 (--proxy-protocol-allow-ips)',
        ),
    ],
)
def test_wrong_settings_are_told(flags, error, tmp_path):
    with pytest.raises(SettingsError) as caught:
        resolve({"app": "main:app"} | flags, {}, tmp_path)
    assert caught.value.errors == [error]


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ({}, {"ASGI_MASTER_FORWARDED_ALLOW_IPS": "10.0.0.0/8, unix"}),
        ({"forwarded_allow_ips": ["10.0.0.0/8,unix"]}, {}),
        ({"forwarded_allow_ips": ["10.0.0.0/8", "unix,"]}, {}),
    ],
    ids=["variable", "flag", "flags"],
)
def test_a_list_is_separated_by_commas(flags, environment, tmp_path):
    resolved = resolve({"app": "main:app"} | flags, environment, tmp_path)
    assert resolved.settings.proxy.forwarded_allow_ips == ("10.0.0.0/8", "unix")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            {},
            "forwarded-prefix: true, but forwarded-allow-ips names no trusted proxy (--forwarded-prefix)",
        ),
        (
            {"forwarded_allow_ips": ["unix"], "forwarded_headers": "forwarded"},
            (
                "forwarded-prefix: true, but Forwarded (RFC 7239) knows no prefix: it needs forwarded-headers "
                "x-forwarded (--forwarded-prefix)"
            ),
        ),
    ],
)
def test_a_prefix_needs_somebody_to_say_it(tmp_path, flags, line):
    with pytest.raises(SettingsError) as caught:
        resolve({"app": "main:app", "forwarded_prefix": True, **flags}, {}, tmp_path)
    assert caught.value.errors == [line]
