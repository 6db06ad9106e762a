"""Headers shown in the access log: `x-tenant` of requests, `response:x-cache` of responses."""

import re
from collections.abc import Iterable

from asgi_master.records import record

RESPONSE_PREFIX = "response:"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_CREDENTIALS = {"authorization", "cookie", "proxy-authorization", "set-cookie"}


@record
class AccessHeaders:
    """The names, in lower case."""

    request: tuple[str, ...] = ()
    response: tuple[str, ...] = ()


NO_HEADERS = AccessHeaders()


def parse_header_name(text: str) -> str:
    """A header's name in lower case. Raises `ValueError`, whose text completes `<text> ...`."""
    if not _NAME.fullmatch(text):
        raise ValueError("is not the name of a header")
    return text.lower()


def parse_access_header(text: str) -> tuple[bool, str]:
    """Whether the header is of the response, and its name. Raises `ValueError`, whose text completes `<text> ...`."""
    of_response = text.lower().startswith(RESPONSE_PREFIX)
    try:
        name = parse_header_name(text[len(RESPONSE_PREFIX) :].strip() if of_response else text)
    except ValueError:
        raise ValueError(f"names no header: write NAME, or {RESPONSE_PREFIX}NAME") from None
    if name in _CREDENTIALS:
        raise ValueError("carries credentials, which do not belong into a log")
    return of_response, name


def sort_access_headers(texts: Iterable[str]) -> AccessHeaders:
    """The headers of requests and of responses, without duplicates. Raises `ValueError`."""
    parsed = list(dict.fromkeys(parse_access_header(text) for text in texts))
    return AccessHeaders(
        tuple(name for of_response, name in parsed if not of_response),
        tuple(name for of_response, name in parsed if of_response),
    )
