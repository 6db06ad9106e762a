"""What the access log can tell of a request, and formats that are made of it, compiled once.

`FIELDS` is the one list of what a request says, by the names that JSON lines and records have. What the peer sent is
escaped as Apache does it, or as JSON.
"""

import json
import os
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from asgi_master.settings.access_headers import NO_HEADERS, AccessHeaders
from asgi_master.telemetry.requests import numbering

COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
COMBINED = COMMON + ' "%(f)s" "%(a)s"'
SHORTHANDS = {"combined": COMBINED, "common": COMMON}

LONGEST_FIELD = 1024
"""Bytes shown of one header, path or query."""

FIELDS = {
    "client": "scope['client'][0] if scope['client'] else None",
    "scheme": "scope.get('scheme')",
    "host": "fields[b'host'][:LONGEST] if b'host' in fields else None",
    "method": "scope.get('method', 'GET')[:LONGEST] or None",
    "path": "scope['raw_path'][:LONGEST]",
    "query": "scope['query_string'][:LONGEST]",
    "protocol": "'HTTP/' + scope['http_version'][:LONGEST] if scope['http_version'] else None",
    "referer": "fields[b'referer'][:LONGEST] if b'referer' in fields else None",
    "user_agent": "fields[b'user-agent'][:LONGEST] if b'user-agent' in fields else None",
    "request_id": "number(fields)",
}
"""What a request says: expressions over its scope and `fields`, the headers that are wanted of it."""
REQUEST_HEADERS = "request_headers"
RESPONSE_HEADERS = "response_headers"
"""The fields of the chosen headers, objects; only where some are chosen."""

_NEVER_THE_SAME = {"request_id"}
_FIELD_HEADERS = {"host": {b"host"}, "referer": {b"referer"}, "user_agent": {b"user-agent"}}

# What each atom shows of a request: an expression as above. It is the same for the same request, so it is evaluated
# once for a client that repeats itself.
_REQUEST_ATOMS = {
    "h": "shown(scope['client'][0]) if scope['client'] else '-'",
    "l": "'-'",
    "m": "shown(scope.get('method', 'GET')[:LONGEST]) or '-'",
    "U": "shown(scope['raw_path'][:LONGEST]) or '-'",
    "q": "shown(scope['query_string'][:LONGEST])",
    "?q": "'?' + shown(scope['query_string'][:LONGEST]) if scope['query_string'] else ''",
    "H": "'HTTP/' + shown(scope['http_version'][:LONGEST]) if scope['http_version'] else '-'",
    "refused line": "shown(scope['refused line'][:LONGEST]) or '-'",
    # Only for JSON; strings come with their quotes.
    **{
        f"json {name}": f"{'dumped' if name in _NEVER_THE_SAME else 'quoted'}({source})"
        for name, source in FIELDS.items()
    },
    f"json {REQUEST_HEADERS}": "in_json(chosen_of(fields))",
    "json target": "quoted(target(scope))",
    "json line": "quoted(f\"{scope.get('method', 'GET')[:LONGEST]} {target(scope).decode('latin-1')}\".lstrip())",
    "json version": "quoted(scope['http_version'][:LONGEST] or None)",
}
# And of its response: over those of `ConnectionLog.record`, the time and its `_Second`.
_RESPONSE_ATOMS = {
    "t": "second.bracketed",
    "s": "status",
    "B": "size",
    "b": "size or '-'",
    "T": "int(seconds)",
    "M": "int(seconds * 1e3)",
    "D": "int(seconds * 1e6)",
    "L": "seconds:.6f",
    "json date": "second.date",
    "json ms": "int(now % 1 * 1000):03d",
    "json offset": "second.offset",
    "json ns": "int(seconds * 1e9)",
    "json severity": "'ERROR' if status >= 500 else 'INFO'",
    "json level": "'error' if status >= 500 else 'info'",
    f"json {RESPONSE_HEADERS}": "in_json(chosen_in(block))",
}
TIMED_ATOMS = [atom for atom, source in _RESPONSE_ATOMS.items() if "seconds" in source]
_HEADER_ATOMS = {
    "u": ("authorization", "user(fields[{name}]) if {name} in fields else '-'"),
    "f": ("referer", "shown(fields[{name}][:LONGEST]) if {name} in fields else '-'"),
    "a": ("user-agent", "shown(fields[{name}][:LONGEST]) if {name} in fields else '-'"),
}
_REQUEST_LINE = "%(m)s %(U)s%(?q)s %(H)s"
REFUSED_LINE = "%(refused line)s"

ATOM = re.compile(r"%\(([^()]*+)\)s|%%")
_VARIABLE_ATOM = re.compile(r"\{([\w-]+)\}([ieo])")

Description = tuple[str, ...]
"""What a line says of the request, in pieces: what it says of the response goes between them."""
Happened = tuple[Description, int, int, float, float, bytes]
"""A request's description, its response's status, size and duration, when that was, and the fields of its head."""
Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Format:
    """A format, compiled."""

    describe: Callable[[Mapping[str, Any], Headers], Description]
    """Of a request, by its scope and the headers that are wanted."""
    render: Callable[[list[Happened], Any], list[str]]
    """Lines, with their ends, of what happened within one `_Second`."""
    wanted: frozenset[bytes]
    """The headers wanted of a request."""


@dataclass(slots=True)
class _Wanted:
    """What the expressions need, gathered while they are compiled."""

    chosen: AccessHeaders
    headers: set[bytes] = field(default_factory=set)


def check_format(format: str) -> None:  # noqa: A002 -- the name of the setting
    """Raise `ValueError`, with a sentence, if an `AccessLog` of this format could not be made."""
    compile_format(SHORTHANDS.get(format, format))


def compile_format(
    template: str, chosen: AccessHeaders = NO_HEADERS, request_line: str = _REQUEST_LINE
) -> Format:
    """Compile a template. Raises `ValueError`. `request_line` is what `%(r)s` stands for.

    A format becomes two functions: to look up and call one per atom takes twice the time, and to call one per line
    a part of it.
    """
    wanted = _Wanted(chosen)
    constants: list[str] = [""]
    line: list[str] = ["{constant0}"]
    for source, is_constant in _fragments(template + "\n", wanted, request_line):
        if is_constant:
            constants[-1] += f" {source}"
        else:
            line.append(f"{{{source}}}{{constant{len(constants)}}}")
            constants.append("")
    names = _names(chosen)
    # Of our own expressions only; what the operator wrote is in them as quoted literals.
    described = "".join(f"{constant or repr('')}, " for constant in constants)
    describe = eval(f"lambda scope, fields: ({described})", names)  # noqa: S307 -- see above
    request = "".join(f"constant{number}, " for number in range(len(constants)))
    each = f'f"""{"".join(line)}""" for ({request}), status, size, seconds, now, block in held'
    render = eval(f"lambda held, second: [{each}]", names)  # noqa: S307 -- see above
    return Format(describe, render, frozenset(wanted.headers))


def compile_fields(
    chosen: AccessHeaders,
) -> tuple[Callable[[Mapping[str, Any], Headers], dict[str, Any]], set[bytes]]:
    """What gives all that a request says, as it is, by `FIELDS`; and the headers wanted for that."""
    wanted = _Wanted(chosen)
    sources = [f"{name!r}: plain({source})" for name, source in FIELDS.items()]
    if chosen.request:
        sources.append(f"{REQUEST_HEADERS!r}: chosen_of(fields)")
    for name in (*FIELDS, REQUEST_HEADERS):
        _note_headers(name, wanted)
    # As above: of our own expressions only.
    return eval(f"lambda scope, fields: {{{', '.join(sources)}}}", _names(chosen)), wanted.headers  # noqa: S307


def chosen_in(block: bytes, names: tuple[str, ...]) -> dict[str, str | None]:
    """The fields of these names in a response's head; those that come several times in one, as RFC 9110 joins them."""
    found: dict[str, str] = {}
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        key = name.decode("latin-1").lower()
        if colon and key in names:
            text = value.strip(b" \t").decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    return {name: found[name][:LONGEST_FIELD] if name in found else None for name in names}


def _names(chosen: AccessHeaders) -> dict[str, Any]:
    """What the expressions may call."""

    def chosen_of(fields: Headers) -> dict[str, str | None]:
        return {
            name: _plain(fields.get(name.encode(), _NOTHING)[:LONGEST_FIELD]) or None
            for name in chosen.request
        }

    return {
        "shown": _shown,
        "quoted": _quoted,
        "dumped": _dumped,
        "in_json": json.dumps,
        "plain": _plain,
        "user": _user,
        "target": _target,
        "number": numbering.of,
        "chosen_of": chosen_of,
        "chosen_in": lambda block: chosen_in(block, chosen.response),
        "field_in": lambda block, name: _shown(chosen_in(block, (name,))[name] or "-"),
        "LONGEST": LONGEST_FIELD,
    }


_NOTHING = b""


def _fragments(template: str, wanted: _Wanted, request_line: str) -> Iterator[tuple[str, bool]]:
    """The literals and atoms of a template: source that is a string, of the request alone, or that goes into one."""
    end = 0
    for match in ATOM.finditer(template):
        yield _literal(template[end : match.start()]), True
        variable = _VARIABLE_ATOM.fullmatch(match[1] or "")
        if match[1] == "r":
            yield from _fragments(request_line, wanted, "")
        elif match[1] is None:
            yield repr("%"), True
        elif match[1] in _RESPONSE_ATOMS:
            yield _RESPONSE_ATOMS[match[1]], False
        elif variable is not None and variable[2] == "o":
            yield f"field_in(block, {variable[1].lower()!r})", False
        else:
            yield _request_atom(match[1], variable, wanted), True
        end = match.end()
    yield _literal(template[end:]), True


def _literal(text: str) -> str:
    if "%" in text:
        raise ValueError(f"{text.strip()!r} holds no atom: they are written %(h)s, and a percent sign %%")
    return repr(text)


def _request_atom(name: str, variable: re.Match[str] | None, wanted: _Wanted) -> str:
    if name == "p":
        return repr(f"<{os.getpid()}>")
    if variable is not None and variable[2] == "e":
        return repr(_escape(os.environ.get(variable[1], "-")))
    header, expression = _HEADER_ATOMS["f"] if variable is not None else _HEADER_ATOMS.get(name, ("", ""))
    if variable is not None:
        header = variable[1].lower()
    if header:
        wanted.headers.add(header.encode())
        expression = expression.format(name=repr(header.encode()))
    else:
        expression = _REQUEST_ATOMS.get(name, "")
        _note_headers(name.removeprefix("json "), wanted)
    if not expression:
        raise ValueError(f"unknown access-log field %({name})s")
    return f'f"""{{{expression}}}"""'


def _note_headers(name: str, wanted: _Wanted) -> None:
    """Want the headers that this field is made of."""
    wanted.headers |= _FIELD_HEADERS.get(name, set())
    if name == "request_id":
        wanted.headers |= set(numbering.headers)
    elif name == REQUEST_HEADERS:
        wanted.headers |= {chosen.encode() for chosen in wanted.chosen.request}


def _target(scope: Mapping[str, Any]) -> bytes:
    query: bytes = scope["query_string"]
    target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    return target[:LONGEST_FIELD]


# The same few browsers and paths come again and again: a look-up is several times faster than to escape anew.
@lru_cache(maxsize=1024)
def _shown(value: bytes | str) -> str:
    """What the peer sent, safe between double quotes."""
    return _escape(value if isinstance(value, str) else value.decode("latin-1"))


def _plain(value: bytes | str | None) -> str | None:
    """What the peer sent, as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _dumped(value: bytes | str | None) -> str:
    """What the peer sent, as a JSON string; null if it sent nothing of the kind."""
    return json.dumps(_plain(value))


_quoted = lru_cache(maxsize=1024)(_dumped)


def _escape(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        f"\\{char}"
        if char in '"\\'
        else char
        if " " <= char <= "~"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def _user(authorization: bytes) -> str:
    """The user's name in an `Authorization: Basic` field (RFC 7617)."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        user, colon, _ = a2b_base64(credentials).partition(b":")
    except Base64Error:
        return "-"
    return _escape(user[:LONGEST_FIELD].decode("latin-1")).replace(" ", "\\x20") if user and colon else "-"
