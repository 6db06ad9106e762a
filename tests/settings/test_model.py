import dataclasses

import pytest

from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS, LoggingSettings, Settings

_EACH = pytest.mark.parametrize("setting", SETTINGS, ids=[setting.name for setting in SETTINGS])


def test_every_field_is_a_setting_and_every_name_is_unique():
    groups = [getattr(Settings(), branch.name) for branch in dataclasses.fields(Settings)]
    fields = [leaf.name for group in groups for leaf in dataclasses.fields(group)]
    assert [setting.field for setting in SETTINGS] == fields
    assert len({name for setting in SETTINGS for name in setting.names}) == len(SETTINGS) + 1, (
        "one has a former name"
    )
    for attribute in ("name", "key", "flag", "variable"):
        assert len({getattr(setting, attribute) for setting in SETTINGS}) == len(SETTINGS)
    shorts = [setting.option.short for setting in SETTINGS if setting.option.short]
    assert len(set(shorts)) == len(shorts)


@_EACH
def test_the_default_passes_its_own_check(setting: Setting):
    assert setting.option.read(setting.option.default) == setting.option.default


@_EACH
def test_the_help_is_a_sentence(setting: Setting):
    assert setting.option.help[0].isupper() or setting.option.help.startswith("HTTP")
    assert setting.option.help.endswith(".")


@_EACH
def test_words_and_numbers_are_bounded(setting: Setting):
    if isinstance(setting.option.default, bool | str | tuple):
        return
    assert setting.option.minimum is not None or setting.option.value_type.metavar == "MODE"


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().process.workers = 3


def test_a_former_name_keeps_its_flag() -> None:
    assert [setting.old_flag for setting in SETTINGS if setting.old_flag] == ["--spare"]


def test_a_number_has_a_maximum() -> None:
    (workers,) = [setting for setting in SETTINGS if setting.name == "workers"]
    with pytest.raises(ValueError, match="is too large: at most 1000"):
        workers.option.read("1001")


@pytest.mark.parametrize(
    ("logging", "logs", "path"),
    [
        (LoggingSettings(), False, ""),
        (LoggingSettings(access_log=True), True, ""),
        (LoggingSettings(access_log_file="-"), True, ""),
        (LoggingSettings(access_log_file="access.txt"), True, "access.txt"),
    ],
)
def test_requests_are_logged_where_that_was_asked_for(
    logging: LoggingSettings, *, logs: bool, path: str
) -> None:
    assert (logging.logs_requests, logging.access_log_path) == (logs, path)
