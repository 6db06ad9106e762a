import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.settings.bind import (
    KEPT_PREFIX,
    ActivatedSocket,
    InheritedFd,
    TcpAddress,
    UnixAddress,
    for_slot,
    is_per_slot,
    parse_bind,
    speaks_tls,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("0.0.0.0:65535", TcpAddress("0.0.0.0", 65535)),
        ("[::1]:8000", TcpAddress("::1", 8000, ipv6=True)),
        ("[::]:80", TcpAddress("::", 80, ipv6=True)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80, ipv6=True)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:///run/app.sock", UnixAddress("/run/app.sock")),
        ("fd://3", InheritedFd(3)),
        ("https://0.0.0.0:443", TcpAddress("0.0.0.0", 443)),
        ("https://[::]:443", TcpAddress("::", 443, ipv6=True)),
        ("https://unix:/run/app.sock", UnixAddress("/run/app.sock")),
    ],
)
def test_addresses(text, address):
    assert parse_bind(text) == address


def test_where_tls_is_spoken():
    assert speaks_tls("https://0.0.0.0:443")
    assert not speaks_tls("0.0.0.0:443")
    assert not speaks_tls("unix:https://a")


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "[::1]:8000", "unix:/run/app.sock", "fd://3"])
def test_an_address_prints_as_it_was_written(text):
    assert str(parse_bind(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "HOST:PORT"),
        ("a\rb", "control character"),
        ("unix:a\nb", "control character"),
        ("8000", "write 127.0.0.1:8000"),
        ("localhost", "write localhost:PORT"),
        ("[::1]", "PORT"),
        (":8000", "write 0.0.0.0:8000 for all IPv4 addresses, \\[::\\]:8000"),
        ("::1:8000", "an IPv6 address needs brackets, \\[::1\\]:8000"),
        ("[127.0.0.1]:8000", "no IPv6 address in its brackets"),
        ("[::1:8000", "is not HOST:PORT"),
        ("http://localhost:8000", "is not HOST:PORT"),
        ("local host:8000", "is not HOST:PORT"),
        ("localhost:", "bad port"),
        ("localhost:http", "bad port"),
        ("localhost:65536", "bad port"),
        ("localhost:-1", "bad port"),
        ("localhost:٣", "bad port"),
        ("unix:", "names no path"),
        ("unix:@abstract", "abstract"),
        ("unix:/" + "x" * 107, "too long"),
        ("fd://", "names no descriptor"),
        ("fd://x", "names no descriptor"),
        ("fd://99999999999", "names no descriptor"),
    ],
)
def test_what_is_no_address_says_how_to_write_it(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_bind(text)


@settings(max_examples=200)
@given(st.one_of(st.text(), st.from_regex(r"(unix:|fd://|\[)?[a-z0-9:.\[\]%@/]*", fullmatch=True)))
def test_any_text_is_an_address_or_a_value_error(text):
    try:
        address = parse_bind(text)
    except ValueError:
        return
    assert parse_bind(str(address)) == address


@pytest.mark.parametrize("name", ["http", "asgi-master@shop.socket", "3", "x" * 255])
def test_sockets_of_systemd_are_named(name):
    assert parse_bind(f"systemd:{name}") == ActivatedSocket(name)
    assert str(ActivatedSocket(name)) == f"systemd:{name}"


@pytest.mark.parametrize("name", ["", "two:parts", "a space", "é", "x" * 256, f"{KEPT_PREFIX}unix"])
def test_what_systemd_does_not_take_as_a_name_is_none(name):
    with pytest.raises(ValueError, match="FileDescriptorName="):
        parse_bind(f"systemd:{name}")


def test_an_address_for_each_slot():
    assert for_slot("unix:/run/app-{slot}.sock", 11) == "unix:/run/app-11.sock"
    assert for_slot("127.0.0.1:90{slot:02}", 3) == "127.0.0.1:9003"
    assert is_per_slot("https://127.0.0.1:90{slot:02}")
    assert not is_per_slot("unix:/run/{slots}.sock")
    assert parse_bind("127.0.0.1:90{slot:02}") == TcpAddress("127.0.0.1", 9000)
    for bind in ("fd://{slot}", "systemd:web{slot}"):
        with pytest.raises(ValueError, match="for each slot"):
            parse_bind(bind)
