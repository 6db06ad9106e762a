"""Settings as plain data, to send to another process.

The receiver may be another version of this program: unknown keys are ignored, missing ones take the default.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from asgi_master.settings.model import SETTINGS, Settings


def to_wire(settings: Settings) -> dict[str, Any]:
    """The settings as JSON-able data."""
    data: dict[str, Any] = {}
    for setting in SETTINGS:
        value = setting.value_in(settings)
        data.setdefault(setting.group, {})[setting.name] = list(value) if isinstance(value, tuple) else value
    return data


def from_wire(data: Mapping[str, Any]) -> Settings:
    """The settings from the result of `to_wire`, whose sender has checked them."""
    groups: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        values = data.get(setting.group, {})
        fields = groups.setdefault(setting.group, {})
        for name in setting.names:
            if name in values:
                value = values[name]
                fields[setting.field] = tuple(value) if isinstance(value, list) else value
    settings = Settings()
    return replace(
        settings, **{group: replace(getattr(settings, group), **fields) for group, fields in groups.items()}
    )
