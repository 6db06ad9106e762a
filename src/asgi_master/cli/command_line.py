"""The content of a command line, as `fast_parser` and `typer_parser` read it."""

from typing import Any

from asgi_master.records import record


@record
class CommandLine:
    """A parsed command line."""

    flags: dict[str, Any]
    """By the name of the setting; `None` for those not given."""
    config: str | None = None
    check: bool = False
    check_config: bool = False
    print_config: bool = False
    version: bool = False
    help: bool = False
    help_all: bool = False
