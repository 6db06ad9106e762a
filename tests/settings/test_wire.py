import json
from dataclasses import replace

from asgi_master.settings.model import ApplicationSettings, Settings, SocketSettings
from asgi_master.settings.wire import from_wire, to_wire

_SETTINGS = replace(
    Settings(),
    application=ApplicationSettings(app="main:app"),
    sockets=SocketSettings(bind=("unix:a", "fd://3")),
)


def test_settings_come_back_the_same():
    assert from_wire(json.loads(json.dumps(to_wire(_SETTINGS)))) == _SETTINGS


def test_what_another_version_knows_is_ignored():
    data = to_wire(_SETTINGS) | {"quantum": {"entangled": True}}
    data["process"]["flux"] = 3
    assert from_wire(data) == _SETTINGS


def test_what_another_version_does_not_know_takes_its_default():
    data = to_wire(_SETTINGS)
    del data["process"]["max_surge"]
    del data["websocket"]
    assert from_wire(data) == _SETTINGS
    assert from_wire({}) == Settings()


def test_names_on_the_wire_are_those_that_earlier_versions_sent():
    data = to_wire(_SETTINGS)
    assert (data["http"]["http"], data["loop"]["loop"], data["lifespan"]["lifespan"]) == (
        "httptools",
        "uvloop",
        "auto",
    )
    del data["process"]["spares"]
    data["process"]["spare"] = 2
    assert from_wire(data).process.spares == 2


def test_the_empty_settings_fit_into_one_datagram_many_times():
    assert len(json.dumps(to_wire(_SETTINGS))) < 8192
