"""The fields of the access log, and the compiler for its formats.

`FIELDS` defines each field of a request once, by its name in JSON lines and log records. Text from the peer is escaped
as Apache does, or as JSON.
"""

import json
import os
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any

from asgi_master.records import mutable_record, record
from asgi_master.settings.access_headers import NO_HEADERS, AccessHeaders
from asgi_master.telemetry.request_info import request_id_headers

COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
COMBINED = COMMON + ' "%(f)s" "%(a)s"'
SHORTHANDS = {"combined": COMBINED, "common": COMMON}

MAX_FIELD_BYTES = 1024
"""Maximum number of bytes shown of one header, path or query."""

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
"""Fields of a request: expressions over its scope and over `fields`, its headers that the format needs."""
REQUEST_HEADERS = "request_headers"
RESPONSE_HEADERS = "response_headers"
"""Keys of the objects that hold the chosen headers; present only if some are chosen."""

_UNIQUE_FIELDS = {"request_id"}
_FIELD_HEADERS = {"host": {b"host"}, "referer": {b"referer"}, "user_agent": {b"user-agent"}}

# Atoms of the request: expressions as above. Their values depend on the request alone, so they are evaluated once for a
# client that repeats its request.
_REQUEST_ATOMS = {
    "h": "shown(scope['client'][0]) if scope['client'] else '-'",
    "l": "'-'",
    "m": "shown(scope.get('method', 'GET')[:LONGEST]) or '-'",
    "U": "shown(scope['raw_path'][:LONGEST]) or '-'",
    "q": "shown(scope['query_string'][:LONGEST])",
    "?q": "'?' + shown(scope['query_string'][:LONGEST]) if scope['query_string'] else ''",
    "H": "'HTTP/' + shown(scope['http_version'][:LONGEST]) if scope['http_version'] else '-'",
    "refused line": "shown(scope['refused line'][:LONGEST]) or '-'",
    # Only for JSON; strings include their quotes.
    **{
        f"json {name}": f"{'dumped' if name in _UNIQUE_FIELDS else 'quoted'}({source})"
        for name, source in FIELDS.items()
    },
    f"json {REQUEST_HEADERS}": "in_json(chosen_of(fields))",
    "json target": "quoted(target(scope))",
    "json line": "quoted(f\"{scope.get('method', 'GET')[:LONGEST]} {target(scope).decode('latin-1')}\".lstrip())",
    "json version": "quoted(scope['http_version'][:LONGEST] or None)",
}
# Atoms of the response: expressions over the arguments of `ConnectionLog.record`, the time and its `Second`.
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
    f"json {RESPONSE_HEADERS}": "in_json(chosen_in(sent))",
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
"""The parts of a line that describe the request; the parts of the response go between them."""
Sent = Sequence[tuple[bytes, bytes]]
"""The fields of a response's head."""
Entry = tuple[Description, int, int, float, float, Sent]
"""Description of the request; status, size and duration of the response; the time; the fields of its head."""
Headers = Mapping[bytes, bytes]


@record
class Format:
    """A compiled format."""

    describe: Callable[[Mapping[str, Any], Headers], Description]
    """Describes a request, from its scope and the headers in `wanted`."""
    render: Callable[[list[Entry], Any], list[str]]
    """Renders lines, with line ends, for entries within one `Second`."""
    wanted: frozenset[bytes]
    """Names of the request headers that the format needs."""


@mutable_record
class _Wanted:
    """What the expressions need, collected while they are compiled."""

    chosen: AccessHeaders
    headers: set[bytes] = field(default_factory=set)


def check_format(format: str) -> None:  # noqa: A002 -- the name of the setting
    """Raise `ValueError`, with a message for the operator, unless an `AccessLog` could be made with this format."""
    compile_format(SHORTHANDS.get(format, format))


def compile_format(
    template: str, chosen: AccessHeaders = NO_HEADERS, request_line: str = _REQUEST_LINE
) -> Format:
    """Compile a template. Raises `ValueError`. `request_line` is the template for `%(r)s`.

    A format becomes two generated functions: looking up and calling one function per atom takes twice the time, and
    calling one per line adds to it.
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
    # Contains only the expressions of this file; the operator's text is in it as quoted literals.
    described = "".join(f"{constant or repr('')}, " for constant in constants)
    describe = eval(f"lambda scope, fields: ({described})", names)  # noqa: S307 -- see above
    request = "".join(f"constant{number}, " for number in range(len(constants)))
    each = f'f"""{"".join(line)}""" for ({request}), status, size, seconds, now, sent in held'
    render = eval(f"lambda held, second: [{each}]", names)  # noqa: S307 -- see above
    return Format(describe, render, frozenset(wanted.headers))


def compile_fields(
    chosen: AccessHeaders,
) -> tuple[Callable[[Mapping[str, Any], Headers], dict[str, Any]], set[bytes]]:
    """A function that returns all fields of a request, unescaped, by name; and the headers that it needs."""
    wanted = _Wanted(chosen)
    sources = [f"{name!r}: plain({source})" for name, source in FIELDS.items()]
    if chosen.request:
        sources.append(f"{REQUEST_HEADERS!r}: chosen_of(fields)")
    for name in (*FIELDS, REQUEST_HEADERS):
        _note_headers(name, wanted)
    # As above: only the expressions of this file.
    return eval(f"lambda scope, fields: {{{', '.join(sources)}}}", _names(chosen)), wanted.headers  # noqa: S307


def chosen_in(sent: Sent, names: tuple[str, ...]) -> dict[str, str | None]:
    """The fields of these names in a response's head; repeated fields are joined as RFC 9110 says."""
    found: dict[str, str] = {}
    for name, value in sent:
        key = name.decode("latin-1").lower()
        if key in names:
            text = value.strip(b" \t").decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    return {name: found[name][:MAX_FIELD_BYTES] if name in found else None for name in names}


def _names(chosen: AccessHeaders) -> dict[str, Any]:
    """The names that the expressions use."""

    def chosen_of(fields: Headers) -> dict[str, str | None]:
        return {
            name: _plain(fields.get(name.encode(), _NOTHING)[:MAX_FIELD_BYTES]) or None
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
        "number": request_id_headers.of,
        "chosen_of": chosen_of,
        "chosen_in": lambda sent: chosen_in(sent, chosen.response),
        "field_in": lambda sent, name: _shown(chosen_in(sent, (name,))[name] or "-"),
        "LONGEST": MAX_FIELD_BYTES,
    }


_NOTHING = b""


def _fragments(template: str, wanted: _Wanted, request_line: str) -> Iterator[tuple[str, bool]]:
    """The literals and atoms of a template as source: a string, or an expression of the request or the response."""
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
            yield f"field_in(sent, {variable[1].lower()!r})", False
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
    """Add the headers that this field is made of."""
    wanted.headers |= _FIELD_HEADERS.get(name, set())
    if name == "request_id":
        wanted.headers |= set(request_id_headers.headers)
    elif name == REQUEST_HEADERS:
        wanted.headers |= {chosen.encode() for chosen in wanted.chosen.request}


def _target(scope: Mapping[str, Any]) -> bytes:
    query: bytes = scope["query_string"]
    target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    return target[:MAX_FIELD_BYTES]


# The same few browsers and paths repeat: a look-up is several times faster than escaping again.
@lru_cache(maxsize=1024)
def _shown(value: bytes | str) -> str:
    """Text from the peer, safe between double quotes."""
    return _escape(value if isinstance(value, str) else value.decode("latin-1"))


def _plain(value: bytes | str | None) -> str | None:
    """Text from the peer, decoded."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _dumped(value: bytes | str | None) -> str:
    """Text from the peer as a JSON string; null if there is none."""
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
    """The user name in an `Authorization: Basic` field (RFC 7617)."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        user, colon, _ = a2b_base64(credentials).partition(b":")
    except Base64Error:
        return "-"
    return _escape(user[:MAX_FIELD_BYTES].decode("latin-1")).replace(" ", "\\x20") if user and colon else "-"
