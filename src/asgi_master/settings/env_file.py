r"""Environment files: `KEY=VALUE` lines for the application, as dotenv libraries, Compose and systemd have them.

Comments (`#` or `;` at the start of a line, `#` after white space behind a value), blank lines and a leading `export`
are allowed. A value in quotes may go over several lines; one without goes on where a line ends with a backslash.

'Single' quotes keep everything as it is, but \' and \\; "double" quotes know the escapes \n, \t and \r, a backslash
before a line's end joins the lines, and before any other character keeps that character. Unless in single quotes,
${NAME} is the variable of that name, of the environment or else of a line above, and ${NAME:-default} has a default
where that is unset or empty (${NAME-default}: unset). A $ without braces is a $.
"""

import re
from collections.abc import Iterator, Mapping

from asgi_master.settings.fields import ENVIRONMENT_PREFIX

_SKIPPED = re.compile(r"[^\S\n]*(?:[#;][^\n]*)?(?:\n|\Z)")
_KEY = re.compile(r"[^\S\n]*(?:export[^\S\n]+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)[^\S\n]*=", re.ASCII)
_VALUE = re.compile(
    r"""[^\S\n]*(?:
    '(?P<single>(?:[^'\\]|\\.)*+)'
    |"(?P<double>(?:[^"\\]|\\.)*+)"
    )[^\S\n]*(?:\#[^\n]*)?(?:\n|\Z)
    |(?P<plain>(?![^\S\n]*['"])(?:\\\n|[^\n#]|(?<!\s)\#)*+)(?:\#[^\n]*)?(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_QUOTE = re.compile(r"[^\S\n]*(?:'(?:[^'\\]|\\.)*+|\"(?:[^\"\\]|\\.)*+)\Z", re.DOTALL)
"""An opening quote without its end."""
_SINGLE_ESCAPE = re.compile(r"\\(['\\])")
_REFERENCE = r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<how>:?-)(?P<default>[^}]*))?\}"
_DOUBLE_PART = re.compile(rf"\\(?P<escaped>.)|{_REFERENCE}", re.DOTALL)
_PLAIN_PART = re.compile(rf"\\(?P<escaped>\n)|{_REFERENCE}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}

_NOTHING: Mapping[str, str] = {}


def parse_env_file(
    text: str, environ: Mapping[str, str] = _NOTHING
) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The variables of a file, and its errors as (line number, message).

    `environ` are the existing variables, which `${NAME}` refers to before those of the file.
    """
    variables: dict[str, str] = {}
    errors: list[tuple[int, str]] = []
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for number, found in _entries(text):
        if isinstance(found, str):
            errors.append((number, found))
            continue
        key, value = found
        if key.startswith(ENVIRONMENT_PREFIX):
            errors.append((number, _too_late(key)))
        else:
            variables[key] = _read(value, variables, environ)
    return variables, errors


def _too_late(key: str) -> str:
    return (
        f"{key} belongs to asgi-master itself, and this file is the application's: set it in the environment that "
        "asgi-master is started in, or in asgi-master.toml"
    )


def _entries(text: str) -> Iterator[tuple[int, tuple[str, re.Match[str]] | str]]:
    """Each entry with its first line: its key and the match of its value, or an error message."""
    position, number = 0, 1
    while position < len(text):
        end, found = _entry(text, position)
        if found is not None:
            yield number, found
        number += text.count("\n", position, end)
        position = end


def _entry(text: str, position: int) -> tuple[int, tuple[str, re.Match[str]] | str | None]:
    """The entry at `position`, and the position of the next one; `None` for a comment or an empty line."""
    skipped = _SKIPPED.match(text, position)
    if skipped is not None:
        return skipped.end(), None
    # The next line, if this one cannot be parsed.
    next_line = text.find("\n", position) + 1 or len(text)
    key = _KEY.match(text, position)
    if key is None:
        return next_line, "not KEY=VALUE"
    value = _VALUE.match(text, key.end())
    if value is None:
        is_open = _QUOTE.match(text, key.end()) is not None
        return next_line, "a quote is opened here and never closed" if is_open else "not KEY=VALUE"
    if "\0" in value[0]:
        return next_line, "not KEY=VALUE"
    return value.end(), (key["key"], value)


def _read(value: re.Match[str], variables: Mapping[str, str], environ: Mapping[str, str]) -> str:
    if value["single"] is not None:
        return _SINGLE_ESCAPE.sub(r"\1", value["single"])

    def fill_in(part: re.Match[str]) -> str:
        if part["escaped"] is not None:
            return _ESCAPES.get(part["escaped"], part["escaped"])
        known = environ.get(part["name"], variables.get(part["name"]))
        if known is None or (known == "" and part["how"] == ":-"):
            return part["default"] or ""
        return known

    if value["double"] is not None:
        return _DOUBLE_PART.sub(fill_in, value["double"])
    return _PLAIN_PART.sub(fill_in, value["plain"].strip())
