from ipaddress import ip_network

import pytest

from asgi_master.errors import SettingsError
from asgi_master.settings.peers import parse_peer
from asgi_master.settings.resolve import resolve


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
    ],
)
def test_what_is_no_peer(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_peer(text)


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
