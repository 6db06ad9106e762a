"""From files to contexts, and what is said if they do not fit."""

import os
import ssl
import sys
from dataclasses import replace

import pytest

from asgi_master.errors import SettingsError
from asgi_master.settings.model import TlsSettings
from asgi_master.tls.bundle import Bundle, files_of, read_bundle
from asgi_master.tls.contexts import make_contexts
from certificates import Authority, chain_of, key_of, put

SECRET = "correct horse"


@pytest.fixture(scope="module")
def authority():
    return Authority()


def load(tls, directory):
    return make_contexts(read_bundle(tls, directory), tls)


def errors(tls, directory):
    with pytest.raises(SettingsError) as caught:
        load(tls, directory)
    return caught.value.errors


def shake_hands(server, client, name="localhost"):
    """A handshake in memory; both ends afterwards."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(10):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours, theirs


def test_a_pair(tmp_path, authority):
    tls = authority.write(tmp_path, "site", "localhost")
    contexts = load(tls, tmp_path)
    assert contexts.first.certificate.names == ("localhost",)
    ours, theirs = shake_hands(contexts.first, authority.client())
    assert theirs.version() == "TLSv1.3"
    assert theirs.selected_alpn_protocol() is None
    assert contexts.first.cipher_suites[ours.cipher()[0]] in {0x1301, 0x1302, 0x1303}


def test_certificate_and_key_in_one_file(tmp_path, authority):
    leaf = authority.issue("localhost")
    for text in (chain_of(leaf) + key_of(leaf), key_of(leaf) + chain_of(leaf)):
        put(tmp_path / "both.pem", text)
        tls = TlsSettings(certfile=("both.pem",))
        assert files_of(tls) == ["both.pem"]
        shake_hands(load(tls, tmp_path).first, authority.client())


def test_a_keyfile_with_a_certificate_in_it_gives_the_key_alone(tmp_path, authority):
    leaf, other = authority.issue("localhost"), authority.issue("other.example")
    put(tmp_path / "site.pem", chain_of(leaf) + key_of(other))
    put(tmp_path / "site.key", chain_of(other) + key_of(leaf))
    tls = TlsSettings(certfile=("site.pem",), keyfile=("site.key",))
    shake_hands(load(tls, tmp_path).first, authority.client())


def test_an_intermediate_authority_is_sent_along(tmp_path, authority):
    tls = authority.child().write(tmp_path, "site", "localhost")
    shake_hands(load(tls, tmp_path).first, authority.client())


def test_passwords(tmp_path, authority):
    tls = authority.write(tmp_path, "site", "localhost", password=SECRET)
    load(tls, tmp_path)
    (tmp_path / "password").write_text(f"{SECRET}\nnot this\n")
    in_file = replace(tls, keyfile_password="", keyfile_password_file="password")
    load(in_file, tmp_path)
    assert errors(replace(tls, keyfile_password="wrong"), tmp_path) == [
        'keyfile-password: it does not open "site.key"'
    ]
    assert errors(replace(tls, keyfile_password=""), tmp_path) == [
        'keyfile: "site.key" is encrypted: give its password with keyfile-password-file'
    ]
    assert "longer" in errors(replace(tls, keyfile_password="x" * 2000), tmp_path)[0]


def test_an_unneeded_password_is_no_error(tmp_path, authority):
    tls = authority.write(tmp_path, "site", "localhost")
    load(replace(tls, keyfile_password="unused"), tmp_path)


def test_every_file_that_is_missing_is_told(tmp_path):
    tls = TlsSettings(certfile=("no.pem",), keyfile=("no.key",), ca_certs="no.ca", client_cert="required")
    assert errors(tls, tmp_path) == [
        'certfile: "no.pem" cannot be read: No such file or directory',
        'keyfile: "no.key" cannot be read: No such file or directory',
        'ca-certs: "no.ca" cannot be read: No such file or directory',
    ]


def test_a_key_of_another_certificate(tmp_path, authority):
    authority.write(tmp_path, "site")
    authority.write(tmp_path, "other")
    tls = TlsSettings(certfile=("site.pem",), keyfile=("other.key",))
    assert errors(tls, tmp_path) == ['keyfile: "other.key" does not belong to the certificate in "site.pem"']


@pytest.mark.parametrize(
    ("certificate", "key", "line"),
    [
        ("", "KEY", 'certfile: "site.pem" holds no certificate in PEM'),
        ("CERT", "", 'keyfile: "site.key" holds no private key in PEM'),
        ("CERT", "CERT", 'keyfile: "site.key" holds no private key in PEM'),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "KEY",
            'certfile: "site.pem" holds a certificate that cannot be read',
        ),
        (
            "-----BEGIN CERTIFICATE-----\nthis is cut",
            "KEY",
            'certfile: "site.pem" holds a certificate that cannot be read',
        ),
    ],
)
def test_what_is_no_pair(tmp_path, authority, certificate, key, line):
    leaf = authority.issue("localhost")
    texts = {"CERT": chain_of(leaf), "KEY": key_of(leaf)}
    put(tmp_path / "site.pem", texts.get(certificate, certificate))
    put(tmp_path / "site.key", texts.get(key, key))
    assert errors(TlsSettings(certfile=("site.pem",), keyfile=("site.key",)), tmp_path) == [line]


def test_a_damaged_key(tmp_path, authority):
    tls = authority.write(tmp_path, "site")
    put(tmp_path / "site.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (line,) = errors(tls, tmp_path)
    assert line.startswith('certfile: "site.pem" with its key cannot be used: ')


def test_a_certificate_without_a_key(tmp_path, authority):
    authority.write(tmp_path, "site")
    assert errors(TlsSettings(certfile=("site.pem",)), tmp_path) == [
        'certfile: "site.pem" has no private key beside it: name it with keyfile'
    ]


def test_ciphers(tmp_path, authority):
    tls = authority.write(tmp_path, "site", "localhost")
    chosen = replace(tls, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    contexts = load(chosen, tmp_path)
    ours, _theirs = shake_hands(contexts.first, client)
    assert contexts.first.cipher_suites[ours.cipher()[0]] == 0xC02B
    assert errors(replace(tls, ciphers="NONSENSE"), tmp_path) == [
        'ciphers: "NONSENSE" selects none that OpenSSL has (see `openssl ciphers`)'
    ]


def test_the_oldest_version(tmp_path, authority):
    tls = replace(authority.write(tmp_path, "site", "localhost"), tls_min_version="1.3")
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(load(tls, tmp_path).first, client)


def test_authorities_that_are_none(tmp_path, authority):
    tls = replace(authority.write(tmp_path, "site"), client_cert="required", ca_certs="ca.pem")
    for text in ("", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        put(tmp_path / "ca.pem", text)
        (line,) = errors(tls, tmp_path)
        assert line.startswith('ca-certs: "ca.pem" gives no certificates: ')
    put(tmp_path / "ca.pem", "Ünicode comment\n" + authority.pem)
    assert load(tls, tmp_path).first.verify_mode is ssl.CERT_REQUIRED


def test_errors_of_several_pairs_are_reported_together(tmp_path, authority):
    authority.write(tmp_path, "a")
    authority.write(tmp_path, "b")
    tls = TlsSettings(certfile=("a.pem", "b.pem"), keyfile=("b.key", "a.key"))
    assert len(errors(tls, tmp_path)) == 2


@pytest.fixture(scope="module")
def named(tmp_path_factory, authority):
    directory = tmp_path_factory.mktemp("names")
    authority.write(directory, "first", "localhost")
    authority.write(directory, "exact", "a.example", "www.b.example")
    authority.write(directory, "wild", "*.b.example", "b.example")
    names = ("first", "exact", "wild")
    tls = TlsSettings(
        certfile=tuple(f"{name}.pem" for name in names), keyfile=tuple(f"{name}.key" for name in names)
    )
    return load(tls, directory)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("localhost", 0),
        ("a.example", 1),
        ("A.EXAMPLE.", 1),
        ("b.example", 2),
        ("x.b.example", 2),
        ("www.b.example", 1),
        ("y.x.b.example", 0),
        ("unknown.example", 0),
        ("", 0),
        (".", 0),
        ("*.b.example", 2),
    ],
)
def test_which_certificate_a_name_gets(named, name, place):
    assert named.of_name(name) is named.all[place]


def test_the_handshake_uses_it(named, authority):
    for name in ("localhost", "a.example", "x.b.example"):
        ours, _theirs = shake_hands(named.first, authority.client(), name)
        assert ours.context is named.of_name(name)


def test_a_client_that_names_none_gets_the_first(named, authority):
    client = authority.client()
    client.check_hostname = False
    ours, _theirs = shake_hands(named.first, client, None)
    assert ours.context is named.first


@pytest.fixture
def unraisable(monkeypatch):
    """What reaches the hook of the application, or of Python itself."""
    reached = []
    monkeypatch.setattr(sys, "unraisablehook", reached.append)
    return reached


def test_a_name_that_is_not_ascii_is_refused_without_a_word(tmp_path, authority, unraisable):
    """Only the end of the handshake reports it, however often it is asked for."""
    names = ("one.example", "two.example")
    for name in names:
        authority.write(tmp_path, name, name)
    tls = TlsSettings(certfile=tuple(f"{n}.pem" for n in names), keyfile=tuple(f"{n}.key" for n in names))
    contexts = load(tls, tmp_path)
    hook = sys.unraisablehook
    to_server, from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = contexts.first.wrap_bio(to_server, ssl.MemoryBIO(), server_side=True)
    theirs = authority.client().wrap_bio(ssl.MemoryBIO(), from_client, server_hostname="one.example")
    with pytest.raises(ssl.SSLWantReadError):
        theirs.do_handshake()
    to_server.write(from_client.read().replace(b"one.example", b"on\xff.example"))
    with pytest.raises(ssl.SSLError):
        ours.do_handshake()
    assert unraisable == []
    # All else is passed on, and renewed certificates add nothing.
    load(tls, tmp_path)
    assert sys.unraisablehook is hook

    class Failing:
        def __del__(self):
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "of the application")

    Failing()
    (told,) = unraisable
    assert isinstance(told.exc_value, UnicodeDecodeError)


def test_a_bundle_crosses_in_memory_and_cannot_be_changed(tmp_path, authority):
    tls = authority.write(tmp_path, "site", password=SECRET)
    bundle = read_bundle(tls, tmp_path)
    fd = bundle.to_memory()
    try:
        assert Bundle.of_memory(fd) == bundle
        assert Bundle.of_memory(fd) == bundle, "each reader begins at the beginning"
        with pytest.raises(OSError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(OSError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def test_a_bundle_does_not_show_its_secrets(tmp_path, authority):
    bundle = read_bundle(authority.write(tmp_path, "site", password=SECRET), tmp_path)
    assert SECRET not in repr(bundle)
    assert "PRIVATE KEY" not in repr(bundle)


def test_a_file_that_is_too_large_is_not_read(tmp_path, authority):
    tls = authority.write(tmp_path, "site")
    with (tmp_path / "site.pem").open("ab") as file:
        file.truncate(17 * 1024 * 1024)
    assert errors(tls, tmp_path) == ['certfile: "site.pem" is larger than 16 MiB']
