"""The answer to a peer whose TLS handshake fails: OpenSSL's alert, or a plain 400 if it spoke no TLS."""

import ssl
from email.utils import formatdate

_METHOD_PEEK = 5
"""Bytes of a first line in which `HEAD` can be told apart from other methods."""
_BODY = b"400 Bad Request: this port speaks HTTPS, and the request came without TLS\n"
_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"


class Opening:
    """The first bytes of a peer, which decide the form of that answer."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = b""

    def feed(self, data: bytes) -> None:
        """These came."""
        if len(self._seen) < _METHOD_PEEK:
            self._seen += data[: _METHOD_PEEK - len(self._seen)]

    def refusal(self, alert: bytes) -> bytes:
        """What to send to a peer whose handshake failed with this alert; empty if there is nothing to say.

        No TLS record begins with a letter (RFC 8446 §5.1), and each method of HTTP does.
        """
        if not self._seen[:1].isalpha():
            return alert
        head = (
            b"HTTP/1.1 400 Bad Request\r\n"
            b"date: %b\r\n"
            b"content-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\n"
            b"connection: close\r\n\r\n"
        ) % (formatdate(usegmt=True).encode(), len(_BODY))
        return head if self._seen == b"HEAD " else head + _BODY


def reason_of(error: BaseException) -> str:
    """Why a handshake failed, in the words of OpenSSL or the system; none are the peer's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason == _NO_CERTIFICATE:
        return "it gave no certificate"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error) or type(error).__name__


def is_of_certificate(error: BaseException) -> bool:
    """Whether the peer's certificate was refused, or one was missing."""
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ssl.SSLError) and error.reason == _NO_CERTIFICATE
    )
