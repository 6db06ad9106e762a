r"""Environment files: `KEY=VALUE` lines for the application.

Comments (`#` at the start of a line, or after white space behind a value), blank lines and a leading
`export` are allowed. 'Single' quotes keep everything as it is; "double" quotes know the escapes \n, \t
and \r, and a backslash before any other character keeps that character. Nothing is expanded.
"""

import re

_LINE = re.compile(
    r"""\s*+(?:export\s++)?
    (?P<key>[A-Za-z_][A-Za-z0-9_]*+)\s*+=\s*+
    (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<plain>[^'"#\s](?:[^#]|(?<!\s)\#)*)?)
    \s*(?:\#.*)?""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_env_file(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The variables of a file, and its errors as (line number, what is wrong)."""
    variables: dict[str, str] = {}
    errors: list[tuple[int, str]] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            errors.append((number, "not KEY=VALUE"))
        else:
            variables[match["key"]] = _value(match)
    return variables, errors


def _value(match: re.Match[str]) -> str:
    if match["single"] is not None:
        return match["single"]
    if match["double"] is not None:
        return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), match["double"])
    return (match["plain"] or "").strip()
