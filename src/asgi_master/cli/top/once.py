"""The screen of `top`, printed once."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from asgi_master.cli.top.view import Screen, layout

_WIDTH = 120
"""Where the output is no terminal."""


def show(document: Mapping[str, Any], stacks: Mapping[str, Any] | None = None) -> None:
    """Print the fleet as it is now."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in console._environ:  # noqa: SLF001 -- what Rich itself asks
        console = Console(highlight=False, width=_WIDTH)
    console.print(layout(Screen(document, stacks), console.width, None), overflow="ellipsis", no_wrap=True)
