"""Settings as plain data, for the pipe to another process.

The other end may be another version of this program: unknown keys are ignored, missing ones take the default.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, cast

from asgi_master.settings.model import Settings


def to_wire(settings: Settings) -> dict[str, Any]:
    """The settings as JSON-able data."""
    return {
        name: {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        for name, values in asdict(settings).items()
    }


def from_wire(data: Mapping[str, Any]) -> Settings:
    """The settings that `to_wire` made data of. They were checked on the other side."""
    groups: dict[str, Any] = {}
    for branch in fields(Settings):
        kind = cast("Any", branch.default_factory)
        values = data.get(branch.name, {})
        groups[branch.name] = kind(
            **{
                leaf.name: tuple(value) if isinstance(value := values[leaf.name], list) else value
                for leaf in fields(kind)
                if leaf.name in values
            }
        )
    return Settings(**groups)
