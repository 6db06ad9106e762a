import dataclasses

import pytest

from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS, Settings

_EACH = pytest.mark.parametrize("setting", SETTINGS, ids=[setting.name for setting in SETTINGS])


def test_every_field_is_a_setting_and_every_name_is_unique():
    groups = [getattr(Settings(), branch.name) for branch in dataclasses.fields(Settings)]
    names = [leaf.name for group in groups for leaf in dataclasses.fields(group)]
    assert [setting.name for setting in SETTINGS] == names
    for attribute in ("name", "key", "flag", "variable"):
        assert len({getattr(setting, attribute) for setting in SETTINGS}) == len(SETTINGS)
    shorts = [setting.spec.short for setting in SETTINGS if setting.spec.short]
    assert len(set(shorts)) == len(shorts)


@_EACH
def test_the_default_passes_its_own_check(setting: Setting):
    assert setting.spec.read(setting.spec.default) == setting.spec.default


@_EACH
def test_the_help_is_a_sentence(setting: Setting):
    assert setting.spec.help[0].isupper() or setting.spec.help.startswith("HTTP")
    assert setting.spec.help.endswith(".")


@_EACH
def test_words_and_numbers_are_bounded(setting: Setting):
    if isinstance(setting.spec.default, bool | str | tuple):
        return
    assert setting.spec.minimum is not None or setting.spec.kind.metavar == "MODE"


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().process.workers = 3
