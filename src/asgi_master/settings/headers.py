"""Headers that the operator adds to every response, as `Name: value`."""

import re

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
# RFC 9110, section 5.5: visible characters, obs-text, and inner spaces and tabs.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING = {"connection", "content-length", "date", "server", "transfer-encoding", "upgrade"}


def parse_header(text: str) -> tuple[bytes, bytes]:
    """The lower-case name and the value. Raises `ValueError`, whose text completes `<text> ...`."""
    name, colon, value = text.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise ValueError("is not a header: write 'Name: value'")
    if name.lower() in _FRAMING:
        raise ValueError(f"sets {name}, which belongs to the server")
    value = value.strip(" \t")
    if not _VALUE.fullmatch(value):
        raise ValueError("has characters that no header value may have")
    return name.lower().encode("ascii"), value.encode("latin-1")
