"""The difference between two versions of the settings."""

from dataclasses import replace
from typing import Any

from asgi_master.records import record
from asgi_master.settings.fields import Applies, Setting
from asgi_master.settings.model import SETTINGS, Settings


@record
class Change:
    """A setting with a new value."""

    setting: Setting
    old: Any
    new: Any

    @property
    def name(self) -> str:
        """The setting's key, such as `drain-timeout`."""
        return self.setting.key

    @property
    def applies(self) -> Applies:
        """`start`: the new value waits for a restart."""
        return self.setting.option.applies


def diff(old: Settings, new: Settings) -> list[Change]:
    """The settings that differ, in the order of their definition."""
    changes = []
    for setting in SETTINGS:
        before, after = setting.value_in(old), setting.value_in(new)
        if before != after:
            changes.append(Change(setting, before, after))
    return changes


def hold_until_restart(running: Settings, new: Settings) -> tuple[Settings, list[Change]]:
    """The new settings with the values that a reload can apply, and the changes that wait for a restart."""
    held = new
    waiting = [change for change in diff(running, new) if change.applies is Applies.START]
    for change in waiting:
        group, field = change.setting.group, change.setting.field
        held = replace(held, **{group: replace(getattr(held, group), **{field: change.old})})
    return held, waiting
