"""The priority that a client gives a response (RFC 9218 §4, §5)."""

import re
from functools import lru_cache
from typing import Final

DEFAULT_URGENCY: Final = 3

_MEMBER = re.compile(rb"(u)=([0-7])|(i)(?:=\?([01]))?")
_LONGEST_REMEMBERED = 32
_LONGEST = 256
"""Bytes that are read of a value: a member at each of 64 KiB would cost as much as a hundred requests."""


def read_priority(value: bytes) -> tuple[int, bool]:
    """Urgency, and whether the response is incremental, as a Priority field says.

    What it has beside, or says wrong, is ignored (RFC 9218 §4), where RFC 8941 has it fail as a whole.
    """
    if len(value) <= _LONGEST_REMEMBERED:
        return _remembered(value)
    return _read(value[:_LONGEST])


def _read(value: bytes) -> tuple[int, bool]:
    urgency, is_incremental = DEFAULT_URGENCY, False
    for member in value.split(b","):
        match = _MEMBER.fullmatch(member.partition(b";")[0].strip(b" \t"))
        if match is None:
            continue
        if match[1]:
            urgency = int(match[2])
        else:
            is_incremental = match[4] != b"0"
    return urgency, is_incremental


_remembered = lru_cache(maxsize=128)(_read)
