"""A service: `NAME=MODULE:CALLABLE`, such as `scheduler=shop.jobs:run`, or `MODULE:CALLABLE` alone."""

import re

from asgi_master.records import record
from asgi_master.settings.target import parse_target

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", re.ASCII)


@record
class Service:
    """A parsed service. Its name is unique; `target` names the function that it runs."""

    name: str
    target: str


def parse_service(text: str) -> Service:
    """Parse a service; one without a name has that of its callable.

    Raises `ValueError`, whose text completes `<text> ...`.
    """
    named, equals, rest = text.partition("=")
    target = (rest if equals else text).strip()
    parse_callable(target)
    name = named.strip() if equals else target.rpartition(":")[2].rpartition(".")[2]
    if not _NAME.fullmatch(name):
        raise ValueError(
            "has no usable name: up to 40 letters, digits, points, hyphens and underscores, as in scheduler=app:run"
        )
    return Service(name, target)


def parse_callable(text: str) -> None:
    """Check the target of a function. Raises `ValueError`, whose text completes `<text> ...`."""
    if not parse_target(text.removesuffix("()")).attributes:
        raise ValueError("names no callable: it must be MODULE:CALLABLE, such as app:run")
    if text.endswith("()"):
        raise ValueError("is a call: give the function without ()")
