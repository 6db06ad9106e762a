"""What changed between two readings of the settings."""

from dataclasses import dataclass, replace
from typing import Any

from asgi_master.settings.fields import Applies
from asgi_master.settings.model import SETTINGS, Settings


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that has a new value."""

    name: str
    """The setting's key, such as `drain-timeout`."""
    old: Any
    new: Any
    applies: Applies
    """`start`: the new value waits for a restart."""


def diff(old: Settings, new: Settings) -> list[Change]:
    """The settings that differ, in the order of their definition."""
    changes = []
    for setting in SETTINGS:
        before = getattr(getattr(old, setting.group), setting.name)
        after = getattr(getattr(new, setting.group), setting.name)
        if before != after:
            changes.append(Change(setting.key, before, after, setting.spec.applies))
    return changes


def hold_until_restart(running: Settings, wanted: Settings) -> tuple[Settings, list[Change]]:
    """`wanted`, with the running value of each setting that only a restart changes; and those changes that wait."""
    waiting = [change for change in diff(running, wanted) if change.applies is Applies.START]
    held = {change.name for change in waiting}
    groups: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        if setting.key in held:
            value = getattr(getattr(running, setting.group), setting.name)
            groups.setdefault(setting.group, {})[setting.name] = value
    branches = {name: replace(getattr(wanted, name), **values) for name, values in groups.items()}
    return replace(wanted, **branches), waiting
