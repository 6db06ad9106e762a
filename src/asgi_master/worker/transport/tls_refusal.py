"""The answer to a peer whose TLS handshake fails: OpenSSL's alert, or a plain 400 if it spoke no TLS.

The loops' TLS drops what OpenSSL has to say at the end (RFC 8446 §6.2), and the peer would see its connection end
for no reason.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from email.utils import formatdate

_LINGER_TIMEOUT = 1.0
_LINGER_BYTES = 256 * 1024
"""For how long, in seconds, and for how much a refused peer is still read, so that it comes to read why."""
_PIECE = 16 * 1024
_METHOD_PEEK = 5
"""Bytes of a first line in which `HEAD` can be told apart from other methods."""
_BODY = b"400 Bad Request: this port speaks HTTPS, and the request came without TLS\n"
_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"


class Opening:
    """The first bytes of a peer, which decide the form of that answer."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = b""

    def feed(self, data: memoryview) -> None:
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


def send_last(fd: int, data: bytes) -> socket.socket | None:
    """Send it at once, as much as the kernel takes, on a socket whose descriptor is about to be closed.

    Returns another descriptor of the socket, for `linger`; `None` if it cannot be had. It never blocks.
    """
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError:
        return None  # the process has no descriptor to spare
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.send(data)
    return sock


async def linger(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Close the socket once its peer has, or after a short time.

    A socket that is closed while something is unread resets the connection, and the peer may lose the answer
    (RFC 9112 §9.6). In TLS 1.3 a client whose certificate is refused has mostly sent its request already.
    """
    with sock, contextlib.suppress(OSError, TimeoutError):
        sock.shutdown(socket.SHUT_WR)
        left = _LINGER_BYTES
        async with asyncio.timeout(_LINGER_TIMEOUT):
            while left > 0 and (data := await loop.sock_recv(sock, _PIECE)):
                left -= len(data)


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
