"""Patterns of requests to leave out of the access log: `/healthz`, `/static/*`, `user-agent:kube-probe/*`.

A pattern is a path as the log shows it or, after `user-agent:`, a user agent. `*` matches any characters including `/`,
`?` one character, `[ab]` one of these. Paths are compared exactly, user agents without regard to case.
"""

import re
from collections.abc import Iterable
from fnmatch import translate

from asgi_master.records import record

AGENT_PREFIX = "user-agent:"


@record
class Exclusions:
    """The patterns, compiled; `None` if there are none of a kind."""

    paths: re.Pattern[str] | None
    agents: re.Pattern[str] | None


def parse_exclusion(text: str) -> tuple[bool, str]:
    """Whether the pattern is for the user agent, and the pattern.

    Raises `ValueError`, whose text completes `<text> ...`.
    """
    if text.lower().startswith(AGENT_PREFIX):
        pattern = text[len(AGENT_PREFIX) :].strip()
        if not pattern:
            raise ValueError(
                f"names no client: write {AGENT_PREFIX}PATTERN, such as {AGENT_PREFIX}kube-probe/*"
            )
        return True, pattern
    if not text.startswith(("/", "*")):
        raise ValueError(f"is neither a path, such as /healthz, nor {AGENT_PREFIX}PATTERN")
    if "?" in text and "=" in text.partition("?")[2]:
        raise ValueError("has a query: only the path is looked at")
    return False, text


def compile_exclusions(texts: Iterable[str]) -> Exclusions:
    """One compiled pattern for paths and one for user agents. Raises `ValueError`."""
    parsed = [parse_exclusion(text) for text in texts]
    return Exclusions(
        _any_of([pattern for is_agent, pattern in parsed if not is_agent], 0),
        _any_of([pattern for is_agent, pattern in parsed if is_agent], re.IGNORECASE),
    )


def _any_of(patterns: list[str], flags: int) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, patterns)), flags) if patterns else None
