"""Failures as traceback lines in Python's form, and as fields for JSON."""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from asgi_master.telemetry.failures import Failure, Folded, read

_CAUSED = "The above exception was the direct cause of the following exception:"
_WHILE_HANDLED = "During handling of the above exception, another exception occurred:"
_HEADER = "Traceback (most recent call last):"
_MAX_SENT = 48 * 1024
"""Maximum number of characters of a traceback, and of its fields, in a message to another process."""


class Style(StrEnum):
    """Style of a traceback line, for renderers with colours."""

    PLAIN = "plain"
    OURS = "application"
    """A frame of the application."""
    FOLDED = "folded"
    ENDING = "ending"


Line = tuple[Style, str]


def lines_of(failure: Failure, *, full: bool) -> Iterator[Line]:
    """The lines of the traceback. Unless `full`, a group of one, as task groups raise it, is merged with its member."""
    chain = [failure]
    while chain[-1].before is not None:
        chain.append(chain[-1].before)
    for link in reversed(chain):
        if link.before is not None:
            yield from _link(link)
        yield from _lines_of_one(link, full=full)


def text_of(failure: Failure, *, full: bool) -> str:
    """The traceback as text. Not escaped: the caller escapes it."""
    return "\n".join(text for _, text in lines_of(failure, full=full))


def fields_of(failure: Failure, *, full: bool) -> dict[str, Any]:
    """Type, message and frames, of the failure and its chain, and the whole traceback as `text`."""
    return {**_fields(failure), "text": text_of(failure, full=full)}


def for_another_process(error: BaseException | None, *, full: bool) -> tuple[str, dict[str, Any]]:
    """The traceback and its fields, bounded to fit into a message; both empty without an exception."""
    if error is None:
        return "", {}
    fields = fields_of(read(error, full=full), full=full)
    text = str(fields["text"])
    if len(text) > _MAX_SENT:
        text = fields["text"] = f"{text[:_MAX_SENT]}..."
    if len(json.dumps({**fields, "text": ""})) > _MAX_SENT:
        fields = {key: fields[key] for key in ("type", "message", "text")}
    return text, fields


def _link(link: Failure) -> Iterator[Line]:
    yield Style.PLAIN, ""
    if link.skipped:
        yield Style.FOLDED, f"[... {link.skipped} more exceptions, each followed by the next]"
        yield Style.PLAIN, ""
    yield Style.PLAIN, _CAUSED if link.is_caused else _WHILE_HANDLED
    yield Style.PLAIN, ""


def _lines_of_one(failure: Failure, *, full: bool) -> Iterator[Line]:
    if not failure.is_group:
        yield from _plain(failure)
    elif not full and _is_transparent(failure):
        yield from _through(failure)
    else:
        yield from _group(failure, full=full)


def _plain(failure: Failure) -> Iterator[Line]:
    if failure.stack:
        yield Style.PLAIN, _HEADER
        yield from _frames(failure)
    for text in failure.ending:
        yield Style.ENDING, text


def _frames(failure: Failure) -> Iterator[Line]:
    for entry in failure.stack:
        if isinstance(entry, Folded):
            yield Style.FOLDED, entry.text
        else:
            style = Style.OURS if entry.application else Style.PLAIN
            for text in entry.text:
                yield style, text


def _is_transparent(group: Failure) -> bool:
    """Whether a group has one member and no message of its own."""
    while group.is_group:
        if len(group.members) != 1 or group.hidden or len(group.ending) > 1:
            return False
        (group,) = group.members
        if group.before is not None:
            return False
    return True


def _through(group: Failure) -> Iterator[Line]:
    yield Style.PLAIN, _HEADER
    yield from _frames(group)
    while group.is_group:
        yield Style.FOLDED, f"  [within {group.ending[0]}]"
        (group,) = group.members
        yield from _frames(group)
    for text in group.ending:
        yield Style.ENDING, text


def _group(group: Failure, *, full: bool) -> Iterator[Line]:
    if group.stack:
        yield Style.PLAIN, f"  + Exception Group {_HEADER}"
        yield from _behind("  | ", _frames(group))
    mark = "  | " if group.stack else "  + "
    for text in group.ending:
        yield Style.ENDING, f"{mark}{text}"
        mark = "  | "
    mark = "+-"
    for number, member in enumerate(group.members, 1):
        yield Style.PLAIN, f"  {mark}+---------------- {number} ----------------"
        yield from _behind("    | ", lines_of(member, full=full))
        mark = "  "
    if group.hidden:
        yield Style.PLAIN, f"  {mark}+---------------- ... ----------------"
        yield Style.FOLDED, f"    | [... {group.hidden} more]"
    yield Style.PLAIN, "    +------------------------------------"


def _behind(margin: str, lines: Iterator[Line]) -> Iterator[Line]:
    for style, text in lines:
        yield style, margin + text


def _fields(failure: Failure) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": failure.type,
        "message": failure.message,
        "frames": [
            {
                "file": frame.file,
                "line": frame.line,
                "function": frame.function,
                "code": frame.code,
                "application": frame.application,
            }
            for frame in failure.stack
            if not isinstance(frame, Folded)
        ],
    }
    if failure.notes:
        fields["notes"] = failure.notes
    if omitted := sum(entry.count for entry in failure.stack if isinstance(entry, Folded)):
        fields["omitted"] = omitted
    if failure.before is not None:
        fields["cause" if failure.is_caused else "context"] = _fields(failure.before)
    if failure.is_group:
        fields["members"] = [_fields(member) for member in failure.members]
    return fields
