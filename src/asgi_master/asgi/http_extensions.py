"""What the messages of ASGI's HTTP extensions say, apart from when they may come (see `http_exchange`)."""

from typing import Any

from asgi_master.asgi.types import Message
from asgi_master.http.additional_fields import links
from asgi_master.http.message import Fields
from asgi_master.records import record

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"
EARLY_HINT = "http.response.early_hint"
TRAILERS = "http.response.trailers"


@record
class EarlyHint:
    """An interim response with Link fields (RFC 8297)."""

    fields: Fields


@record
class Trailers:
    """The end of the response, with at least one trailer field."""

    fields: Fields


@record
class FileBody:
    """A file, or a part of it, as a piece of the body."""

    file: Any
    """An absolute path, or an open file: a descriptor, or what has one (`fileno`)."""
    offset: int | None = None
    """Where the part begins, in bytes; `None` is the open file's position."""
    count: int | None = None
    """Bytes of the part. `None` is all that the file has, or that the response's Content-Length leaves."""
    more_body: bool = False


def early_hint(message: Message) -> EarlyHint:
    """Read `http.response.early_hint`. Raises `KeyError`, `ValueError` or `TypeError` if it is malformed."""
    values = message["links"]
    if isinstance(values, str | bytes):
        raise TypeError(f"links of {EARLY_HINT} is one value, not several")
    return EarlyHint(links(values))


def path_send(message: Message) -> FileBody:
    """Read `http.response.pathsend`. Raises `KeyError`, `ValueError` or `TypeError` if it is malformed."""
    path = message["path"]
    if not isinstance(path, str):
        raise TypeError(f"path of {PATHSEND} is of type {type(path).__name__}")
    if path[:1] != "/":
        raise ValueError(f"path of {PATHSEND} is not absolute: {path!r}")
    return FileBody(path, offset=0)


def zero_copy_send(message: Message) -> FileBody:
    """Read `http.response.zerocopysend`. Raises `KeyError`, `ValueError` or `TypeError` if it is malformed."""
    file = message["file"]
    if not isinstance(file, int) and not hasattr(file, "fileno"):
        raise TypeError(f"file of {ZEROCOPYSEND} has no descriptor: {file!r}")
    offset, count = message.get("offset"), message.get("count")
    for name, value in (("offset", offset), ("count", count)):
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{name} of {ZEROCOPYSEND} is of type {type(value).__name__}")
        if value is not None and value < 0:
            raise ValueError(f"{name} of {ZEROCOPYSEND} is negative")
    return FileBody(file, offset, count, bool(message.get("more_body")))
