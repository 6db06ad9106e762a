"""The page of limits says what the settings say."""

import re
from pathlib import Path

import pytest

from asgi_master.settings.model import SETTINGS, HttpSettings, WebSocketSettings
from asgi_master.settings.values import AUTO_CONNECTIONS, BYTES, CONNECTIONS, SECONDS

PAGE = (Path(__file__).parents[2] / "docs/explanation/limits.md").read_text()
ROWS = dict(re.findall(r"^\|[^|]*\| `--([a-z-]+)` \| ([^|]*?) \|", PAGE, re.MULTILINE))
BY_KEY = {setting.key: setting for setting in SETTINGS}


def shown(setting):
    default, value_type = setting.option.default, setting.option.value_type
    if value_type is CONNECTIONS:
        return "auto" if default == AUTO_CONNECTIONS else str(default)
    if default == 0:
        return "none"
    if setting.key == "body-min-rate":
        return f"{default} bytes/s"
    if value_type is SECONDS:
        return f"{default:g} s"
    if value_type is BYTES:
        return f"{default // 1024} KiB" if default < 1024 * 1024 else f"{default // 1024 // 1024} MiB"
    return str(default)


@pytest.mark.parametrize("key", ROWS)
def test_a_default_is_what_the_page_says(key):
    assert ROWS[key] == shown(BY_KEY[key])


def test_every_limit_of_clients_is_on_the_page():
    limits = {
        name.replace("_", "-")
        for group in (HttpSettings, WebSocketSettings)
        for name in group.__dataclass_fields__
        if name.startswith(("limit_", "max_")) or name.endswith(("_timeout", "_size", "_rate"))
    }
    assert limits <= set(ROWS)
