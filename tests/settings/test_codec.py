import json
from dataclasses import replace

from asgi_master.codec import dump, load
from asgi_master.settings.model import ApplicationSettings, Settings, SocketSettings

_SETTINGS = replace(
    Settings(),
    application=ApplicationSettings(app="main:app"),
    sockets=SocketSettings(bind=("unix:a", "fd://3")),
)


def test_settings_come_back_the_same():
    assert load(Settings, json.loads(json.dumps(dump(_SETTINGS)))) == _SETTINGS


def test_what_another_version_knows_is_ignored():
    data = dump(_SETTINGS) | {"quantum": {"entangled": True}}
    data["process"]["flux"] = 3
    assert load(Settings, data) == _SETTINGS


def test_what_another_version_does_not_know_takes_its_default():
    data = dump(_SETTINGS)
    del data["process"]["max_surge"]
    del data["websocket"]
    assert load(Settings, data) == _SETTINGS
    assert load(Settings, {}) == Settings()


def test_names_on_the_wire_are_those_that_earlier_versions_sent():
    data = dump(_SETTINGS)
    assert (data["http"]["http"], data["loop"]["loop"], data["lifespan"]["lifespan"]) == (
        "auto",
        "uvloop",
        "auto",
    )
    del data["process"]["spares"]
    data["process"]["spare"] = 2
    assert load(Settings, data).process.spares == 2


def test_the_empty_settings_fit_into_one_datagram_many_times():
    assert len(json.dumps(dump(_SETTINGS))) < 8192
