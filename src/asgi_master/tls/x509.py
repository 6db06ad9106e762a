"""Reads the subject, DNS names, issuer and expiry of an X.509 certificate (RFC 5280).

The standard library provides these only for verified certificates of peers, and in a form that has lost the types of
the subject's attributes. This reads these fields from the DER, and nothing else.
"""

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from asgi_master.records import record

_PEM = re.compile(
    r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)-----END (?:TRUSTED |X509 )?CERTIFICATE-----"
)
_SEQUENCE, _SET, _OID, _OCTETS = 0x30, 0x31, 0x06, 0x04
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME = 0x82
_SUBJECT_ALT_NAME = "2.5.29.17"
_COMMON_NAME = "2.5.4.3"
# RFC 4514 §3: the attribute names that every implementation recognises.
_SHORT_NAMES = {
    _COMMON_NAME: "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
# UTF8String, NumericString, PrintableString, TeletexString, IA5String, VisibleString, UniversalString, BMPString.
_TEXTS = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_CENTURY_TURNS_AT = 50  # RFC 5280 §4.1.2.5.1


@record
class Certificate:
    """The fields of a certificate."""

    subject: str
    """The distinguished name in the form of RFC 4514; empty if there is none."""
    names: tuple[str, ...]
    """The host names, in lower case, including wildcards; without any, the common name."""
    issuer: str
    """The distinguished name of the issuer."""
    ends_at: float
    """Expiry, in seconds since the epoch."""


def pem_certificates(text: str) -> list[bytes]:
    """The DER of each certificate in a PEM text, in order. Raises `ValueError`."""
    return [base64.b64decode(match[1]) for match in _PEM.finditer(text)]


def read_certificate(der: bytes) -> Certificate:
    """Parse a certificate. Raises `ValueError`."""
    try:
        return _read(der)
    except (IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"is not a certificate: {error}") from None


def missing_issuer(text: str) -> str:
    """The issuer of the first certificate of a PEM text, if its certificate is missing from the text; else empty.

    Raises `ValueError`. A root that clients know may be missing; an intermediate must not.
    """
    certificates = [read_certificate(der) for der in pem_certificates(text)]
    if not certificates or certificates[0].issuer in {one.subject for one in certificates}:
        return ""
    return certificates[0].issuer


def _read(der: bytes) -> Certificate:
    _tag, certificate = _element(der)
    _tag, to_be_signed = _element(certificate)
    fields = [*_elements(to_be_signed)]
    if fields[0][0] == _VERSION:
        fields = fields[1:]
    _serial, _algorithm, issuer, validity, subject, _key, *optional = fields
    (_start_tag, _start), (end_tag, end) = _elements(validity[1])
    attributes = [[*_attributes(rdn)] for _tag, rdn in _elements(subject[1])]
    names = [name for tag, content in optional if tag == _EXTENSIONS for name in _dns_names(content)]
    if not names:
        names = [_text(tag, raw) for rdn in attributes for oid, tag, raw in rdn if oid == _COMMON_NAME]
    return Certificate(
        subject=_distinguished_name(attributes),
        names=tuple(name.lower() for name in names),
        issuer=_distinguished_name([[*_attributes(rdn)] for _tag, rdn in _elements(issuer[1])]),
        ends_at=_time(end_tag, end),
    )


# DER (X.690)


def _element(data: bytes) -> tuple[int, bytes]:
    """The tag and content of the element at the beginning of `data`."""
    for element in _elements(data):
        return element
    raise ValueError("is not a certificate: something is empty")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and content of each element."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise ValueError("is not a certificate: a length has no end")
            length = int.from_bytes(data[at : at + size])
            at += size
        if at + length > len(data):
            raise ValueError("is not a certificate: it is cut off")
        yield tag, data[at : at + length]
        at += length


def _oid(content: bytes) -> str:
    numbers = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _CENTURY_TURNS_AT else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("is not a certificate: its end is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


# Names


def _attributes(rdn: bytes) -> Iterator[tuple[str, int, bytes]]:
    """The type of each attribute, and the tag and content of its value."""
    for _tag, attribute in _elements(rdn):
        (_oid_tag, oid), (tag, value) = _elements(attribute)
        yield _oid(oid), tag, value


def _dns_names(extensions: bytes) -> Iterator[str]:
    _tag, listed = _element(extensions)
    for _tag, extension in _elements(listed):
        (_oid_tag, oid), *_critical, (tag, value) = _elements(extension)
        if _oid(oid) == _SUBJECT_ALT_NAME and tag == _OCTETS:
            _tag, names = _element(value)
            for kind, name in _elements(names):
                if kind == _DNS_NAME:
                    yield name.decode("ascii")


def _text(tag: int, raw: bytes) -> str:
    return raw.decode(_TEXTS.get(tag, "latin-1"))


def _distinguished_name(rdns: list[list[tuple[str, int, bytes]]]) -> str:
    """RFC 4514 §2: the last relative name first."""
    return ",".join("+".join(_attribute(*attribute) for attribute in rdn) for rdn in reversed(rdns))


def _attribute(oid: str, tag: int, raw: bytes) -> str:
    name = _SHORT_NAMES.get(oid)
    if name is None or tag not in _TEXTS:
        # RFC 4514 §2.4: the value of a type without a name is its encoding, in hexadecimal.
        return f"{name or oid}=#{_encoded(tag, raw).hex()}"
    return f"{name}={_escaped(_text(tag, raw))}"


def _encoded(tag: int, raw: bytes) -> bytes:
    length = len(raw)
    if length < 0x80:
        return bytes([tag, length]) + raw
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size) + raw


def _escaped(text: str) -> str:
    escaped = re.sub(r'(["+,;<>\\])', r"\\\1", text).replace("\0", "\\00")
    if escaped[:1] in (" ", "#"):
        escaped = "\\" + escaped
    if text[-1:] == " " and len(text) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped
