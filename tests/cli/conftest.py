"""The command line is parsed hundreds of times here."""

import functools
from collections.abc import Iterator

import pytest

from asgi_master.cli import typer_parser


@pytest.fixture(scope="session", autouse=True)
def _one_command() -> Iterator[None]:
    """Typer builds the command from all settings, in 20 ms; parsing leaves it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer_parser, "_command", functools.cache(typer_parser._command))
        yield
