"""Removes the frames of asgi-master itself from stack dumps. Pure."""

import re
from typing import Any

_OURS = re.compile(r"/asgi_master/[\w/]+\.py\b")
_STANDARD_LIBRARY = re.compile(r"/python3\.\d+t?/(?!(?:site|dist)-packages/)|<frozen ")
_THREAD = re.compile(r"(?:Current thread|Thread) 0x")


def without_ours(tasks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The groups of tasks without frames of asgi-master, and the number of tasks that have no other frames."""
    kept, hidden = [], 0
    for group in tasks:
        if not group["serves"] and group["stack"] and not any(map(_is_foreign, group["stack"])):
            hidden += group["count"]
        else:
            kept.append(group | {"stack": _visible(group["stack"])})
    return kept, hidden


def threads_without_ours(text: str) -> tuple[list[str], int]:
    """The lines of faulthandler's text without frames of asgi-master, and the number of threads that have no others."""
    kept: list[str] = []
    hidden = 0
    for block in _blocks(text):
        frames = [line for line in block if line.lstrip().startswith("File ")]
        if frames and not any(map(_is_foreign, frames)):
            hidden += 1
        else:
            kept += _visible(block)
    return kept, hidden


def _blocks(text: str) -> list[list[str]]:
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if _THREAD.match(line) or not blocks:
            blocks.append([])
        blocks[-1].append(line)
    return blocks


def _visible(lines: list[str]) -> list[str]:
    return [line for line in lines if not _is_ours(line)]


def _is_ours(line: str) -> bool:
    return _OURS.search(line) is not None


def _is_foreign(line: str) -> bool:
    """Whether the line is neither of asgi-master nor of the standard library, which it calls."""
    return not _is_ours(line) and _STANDARD_LIBRARY.search(line) is None
