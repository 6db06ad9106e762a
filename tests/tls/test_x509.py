import contextlib
import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.tls.x509 import missing_issuer, pem_certificates, read_certificate
from certificates import Authority, chain_of, der_of, parsed

KEY = ec.generate_private_key(ec.SECP256R1())
START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def signed(subject, *, end=dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC), names=(), critical=False):
    """The certificate of a subject, as DER, made by somebody else."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(end)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    certificate = builder.sign(KEY, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.DER), certificate


def name(*attributes):
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@pytest.mark.parametrize(
    "subject",
    [
        name(),
        name((NameOID.COMMON_NAME, "example")),
        name(
            (NameOID.COUNTRY_NAME, "CH"),
            (NameOID.STATE_OR_PROVINCE_NAME, "Zürich"),
            (NameOID.LOCALITY_NAME, "Zürich"),
            (NameOID.STREET_ADDRESS, "Bahnhofstrasse 1"),
            (NameOID.ORGANIZATION_NAME, "Müller, Meier & Söhne"),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "ops"),
            (NameOID.DOMAIN_COMPONENT, "example"),
            (NameOID.USER_ID, "7"),
            (NameOID.COMMON_NAME, "アスギ"),
        ),
        name((NameOID.COMMON_NAME, '# a "b" + c; <d> \\ e, f ')),
        name((NameOID.COMMON_NAME, " x")),
        x509.Name(
            [
                x509.RelativeDistinguishedName(
                    [
                        x509.NameAttribute(NameOID.COMMON_NAME, "a"),
                        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "b"),
                    ]
                ),
                x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "c")]),
            ]
        ),
    ],
)
def test_the_subject_is_what_another_reader_says(subject):
    der, theirs = signed(subject)
    assert read_certificate(der).subject == theirs.subject.rfc4514_string()


def test_an_attribute_without_a_short_name_is_written_as_its_encoding():
    der, _ = signed(name((NameOID.EMAIL_ADDRESS, "a@b.example"), (NameOID.COMMON_NAME, "a")))
    assert read_certificate(der).subject == "CN=a,1.2.840.113549.1.9.1=#160b6140622e6578616d706c65"


def test_names_are_those_of_the_extension():
    names = [x509.DNSName("A.Example"), x509.DNSName("*.b.example"), x509.RFC822Name("c@d.example")]
    for critical in (False, True):
        der, _ = signed(name((NameOID.COMMON_NAME, "other")), names=names, critical=critical)
        assert read_certificate(der).names == ("a.example", "*.b.example")


def test_without_the_extension_the_common_name_counts():
    der, _ = signed(name((NameOID.COMMON_NAME, "Old.example")))
    assert read_certificate(der).names == ("old.example",)


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2120])
def test_the_end(year):
    end = dt.datetime(year, 12, 31, 23, 59, 58, tzinfo=dt.UTC)
    der, _ = signed(name((NameOID.COMMON_NAME, "a")), end=end)
    assert read_certificate(der).ends_at == end.timestamp()


def test_what_an_authority_issues():
    leaf = Authority().child().issue("a.example", common_name="a")
    certificate = read_certificate(der_of(leaf))
    assert certificate.subject == parsed(leaf).subject.rfc4514_string()
    assert certificate.names == ("a.example",)
    chain = pem_certificates("a comment\n" + chain_of(leaf) + "\nanother")
    assert len(chain) == 2
    assert chain[0] == der_of(leaf)


def test_pem_is_read_as_python_reads_it():
    pem = chain_of(Authority().issue("a.example"))
    assert pem_certificates(pem) == [ssl.PEM_cert_to_DER_cert(pem)]
    assert pem_certificates(pem.replace("\n", "\r\n")) == [ssl.PEM_cert_to_DER_cert(pem)]
    assert pem_certificates("no certificate") == []


WHOLE = signed(name((NameOID.COMMON_NAME, "example")), names=[x509.DNSName("a.example")])[0]


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(WHOLE) - 1).map(lambda size: WHOLE[:size])))
def test_what_is_no_certificate_is_refused(data):
    with pytest.raises(ValueError):
        read_certificate(data)


@settings(max_examples=300)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_wrong_byte_does_no_more_than_be_refused(place, byte):
    damaged = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    with contextlib.suppress(ValueError):
        read_certificate(damaged)


def test_the_issuer_that_is_missing():
    root = Authority()
    intermediate = root.child()
    leaf = intermediate.issue("a.example")
    chain = chain_of(leaf)
    first = chain[: chain.index("-----END CERTIFICATE-----") + 26]
    assert missing_issuer(chain) == ""
    assert missing_issuer(first) == read_certificate(pem_certificates(chain)[0]).issuer != ""
    assert missing_issuer(root.pem) == ""  # its own
    assert missing_issuer("no certificate at all") == ""
