"""What a command line asks for; how it is read is another matter (`fast_parser`, `typer_parser`)."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What a command line asks for."""

    flags: dict[str, Any]
    """By the setting's name; `None` for those not given."""
    config: str | None = None
    check: bool = False
    check_config: bool = False
    print_config: bool = False
    version: bool = False
    help: bool = False
    help_all: bool = False
