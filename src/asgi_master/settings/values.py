"""Types of values: conversion from text or TOML, and back to TOML.

A raw value is a string (flags and environment) or a TOML value. Readers raise `ValueError` whose text completes the
sentence `<value> ...`, such as `is not a number`.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from asgi_master.records import record

Raw = Any
"""A string, or a TOML value (`int`, `float`, `bool`, `list`, ...)."""

UNSET_UMASK = -1
"""The umask is not changed."""

AUTO = "auto"
"""The number of usable CPUs; replaced by a number when the settings are resolved."""

AUTO_CONNECTIONS = -1
"""The number of connections that the descriptor limit allows; likewise replaced."""

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_QUANTITY = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([A-Za-z]*)\s*", re.ASCII)
_MAX_MODE = 0o777
_INHERIT = "inherit"
_MAX_INTEGER = 10**15
# Beyond a year the clocks of event loops and selectors overflow.
_MAX_SECONDS = 365 * 24 * 3600.0


@record
class ValueType:
    """A type of value."""

    metavar: str
    """Placeholder for the value in the help."""
    syntax: str
    """Description of the notation, for the reference page."""
    read: Callable[[Raw], Any]
    write: Callable[[Any], str]
    """The value as TOML; the inverse of `read`."""
    is_list: bool = False
    """Whether the flag may be repeated."""
    is_table: bool = False
    """Whether it may be a TOML table."""
    is_secret: bool = False
    """Whether the value must not be shown: `write` then only shows whether there is one."""


def quote(text: str) -> str:
    """The text as a TOML basic string, safe to print."""
    # JSON's escapes are valid in TOML.
    return re.sub(r"[^ -~]", _escape, json.dumps(text, ensure_ascii=False))


def _escape(character: re.Match[str]) -> str:
    if character[0].isprintable():
        return character[0]
    code = ord(character[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show(raw: Raw) -> str:
    """A raw value as shown in error messages."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        return quote(raw)
    return str(raw)


def read_text(raw: Raw) -> str:
    """A string that is valid as a path, an environment variable and terminal output."""
    if not isinstance(raw, str):
        raise ValueError("is not a string")  # noqa: TRY004 -- reported to the operator, with the others
    if "\0" in raw:
        raise ValueError("contains a NUL character")
    if not _is_unicode(raw):
        raise ValueError("is not UTF-8")
    return raw


def _is_unicode(text: str) -> bool:
    """False for text decoded from other bytes, which Python keeps as lone surrogates."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def read_integer(raw: Raw) -> int:
    """A whole number."""
    if isinstance(raw, str) and re.fullmatch(r"\s*-?[0-9]{1,15}\s*", raw, re.ASCII):
        return int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool):
        problem = "is not a whole number" if isinstance(raw, float) else "is not a number"
        raise ValueError(problem)  # noqa: TRY004 -- reported to the operator, with the others
    if abs(raw) > _MAX_INTEGER:
        raise ValueError("is out of range")
    return raw


def read_seconds(raw: Raw) -> float:
    """A number of seconds, or a string with one of the units ms, s, m, h."""
    if isinstance(raw, str) and (match := _QUANTITY.fullmatch(raw)) and match[2].lower() in _SECONDS:
        raw = float(match[1]) * _SECONDS[match[2].lower()]
    elif not isinstance(raw, int | float) or isinstance(raw, bool) or raw != raw:  # noqa: PLR0124 -- NaN
        raise ValueError("is not a duration (seconds, or such as 500ms, 30s, 5m, 1h)")
    if abs(raw) > _MAX_SECONDS:
        raise ValueError("is longer than a year")
    return float(raw)


def read_bytes(raw: Raw) -> int:
    """A number of bytes, or a string with one of the units k, M, G (of 1024)."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return read_integer(raw)
    if isinstance(raw, str) and (match := _QUANTITY.fullmatch(raw)):
        unit = match[2].lower().removesuffix("ib").removesuffix("b")
        if unit in _BYTES:
            return int(float(match[1]) * _BYTES[unit]) if "." in match[1] else int(match[1]) * _BYTES[unit]
    raise ValueError("is not a size (bytes, or such as 64k, 16M, 1G)")


def read_switch(raw: Raw) -> bool:
    """True or false."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and (word := raw.strip().lower()) in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError("is neither true nor false")


def read_mode(raw: Raw) -> int:
    """Permission bits, in octal."""
    if isinstance(raw, str) and re.fullmatch(r"(0o)?[0-7]{3,4}", raw):
        raw = int(raw, 8)
    elif not isinstance(raw, int) or isinstance(raw, bool):
        raise ValueError("is not a file mode (octal, such as 0o660)")
    if not 0 <= raw <= _MAX_MODE:
        raise ValueError("is not a file mode from 0o000 to 0o777 (a number in TOML is octal only with 0o)")
    return int(raw)


def read_umask(raw: Raw) -> int:
    """Permission bits to clear, in octal, or `inherit`."""
    if raw == UNSET_UMASK or (isinstance(raw, str) and raw.strip().lower() == _INHERIT):
        return UNSET_UMASK
    return read_mode(raw)


def read_connections(raw: Raw) -> int:
    """A number of connections, or `auto`."""
    if raw == AUTO_CONNECTIONS or (isinstance(raw, str) and raw.strip().lower() == AUTO):
        return AUTO_CONNECTIONS
    number = read_integer(raw)
    if number < 0:
        raise ValueError("is too small: at least 0")
    return number


def read_workers(raw: Raw) -> int | str:
    """A number of workers, or `auto`."""
    return AUTO if isinstance(raw, str) and raw.strip().lower() == AUTO else read_integer(raw)


def _read_list(separator: str) -> Callable[[Raw], tuple[str, ...]]:
    def read(raw: Raw) -> tuple[str, ...]:
        if isinstance(raw, str):
            return tuple(part for item in read_text(raw).split(separator) if (part := item.strip()))
        if not isinstance(raw, list | tuple):
            raise ValueError("is not a list of strings")  # noqa: TRY004 -- reported to the operator, with the others
        if not all(isinstance(item, str) for item in raw):
            raise ValueError("is not a list of strings")
        return tuple(read_text(item) for item in raw)

    return read


def read_named_list(raw: Raw) -> tuple[str, ...]:
    """A list whose items may have names, `NAME=TEXT`; a table has them as its keys."""
    if not isinstance(raw, dict):
        return _read_list(",")(raw)
    if not all(isinstance(item, str) for item in raw.values()):
        raise ValueError("is not a table of strings")
    return tuple(read_text(f"{name}={item}") for name, item in raw.items())


def _write_number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _write_list(value: tuple[str, ...]) -> str:
    return f"[{', '.join(quote(item) for item in value)}]"


TEXT = ValueType("TEXT", "a string", read_text, quote)
WORD = ValueType("WORD", "one of the words", read_text, quote)
PATH = ValueType("PATH", "a path", read_text, quote)
SECRET = ValueType(
    "TEXT",
    "a string, which is never shown",
    read_text,
    lambda value: quote("(not shown)" if value else ""),
    is_secret=True,
)
INTEGER = ValueType("N", "a number", read_integer, str)
SECONDS = ValueType("SECONDS", "seconds, or such as `500ms`, `30s`, `5m`, `1h`", read_seconds, _write_number)
BYTES = ValueType("BYTES", "bytes, or such as `64k`, `16M`, `1G`", read_bytes, str)
SWITCH = ValueType("", "true or false", read_switch, lambda value: "true" if value else "false")
MODE = ValueType("MODE", "octal, such as `0o660`", read_mode, lambda value: f"0o{value:03o}")
UMASK = ValueType(
    "MODE|inherit",
    "octal, such as `0o027`, or `inherit`",
    read_umask,
    lambda value: quote(_INHERIT) if value == UNSET_UMASK else MODE.write(value),
)
WORKERS = ValueType(
    "N|auto", "a number, or `auto`", read_workers, lambda value: quote(value) if value == AUTO else str(value)
)
CONNECTIONS = ValueType(
    "N|auto",
    "a number, or `auto`",
    read_connections,
    lambda value: quote(AUTO) if value == AUTO_CONNECTIONS else str(value),
)
LIST = ValueType(
    "TEXT", "a list; in a variable, separated by commas", _read_list(","), _write_list, is_list=True
)
PEERS = ValueType(
    "TEXT",
    "a list; in a variable, and in each flag, separated by commas",
    lambda raw: tuple(peer for item in LIST.read(raw) for peer in LIST.read(item)),
    _write_list,
    is_list=True,
)
NAMED_LIST = ValueType(
    "[NAME=]TEXT",
    "a list, or a table of names; in a variable, separated by commas",
    read_named_list,
    _write_list,
    is_list=True,
    is_table=True,
)
LINES = ValueType(
    "TEXT", "a list; in a variable, separated by line ends", _read_list("\n"), _write_list, is_list=True
)
