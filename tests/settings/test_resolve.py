import resource
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_master.errors import ExitCode, SettingsError
from asgi_master.settings.model import SETTINGS, Settings
from asgi_master.settings.resolve import Resolved, resolve, to_toml


def _resolve(tmp_path: Path, flags=None, environ=None, file="", **more) -> Resolved:
    (tmp_path / "asgi-master.toml").write_text(file)
    return resolve({"app": "main:app"} | (flags or {}), environ or {}, tmp_path, cpus=lambda: 6, **more)


def _errors(tmp_path: Path, *args, **kwargs) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _resolve(tmp_path, *args, **kwargs)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value.errors


def test_without_any_word_the_defaults_hold(tmp_path):
    resolved = _resolve(tmp_path)
    expected = Settings(type(resolved.settings.application)(app="main:app"))
    http = replace(expected.http, max_connections=resolved.settings.http.max_connections)
    assert resolved.settings == replace(expected, http=http)
    assert set(resolved.origins.values()) == {"default", "APP"}


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(20, 1), (64, 32), (256, 192), (1024, 768), (65536, 49152), (resource.RLIM_INFINITY, 0)],
)
def test_connections_leave_the_application_descriptors(tmp_path, descriptors, connections):
    for file in ("", "max-connections = 'auto'"):
        resolved = _resolve(tmp_path, file=file, descriptors=lambda: descriptors)
        assert resolved.settings.http.max_connections == connections
        assert f"max-connections = {connections} " in to_toml(resolved)


@pytest.mark.parametrize("number", [0, 1, 10**6])
def test_a_number_of_connections_is_taken_as_it_is(tmp_path, number):
    flags = {"max_connections": str(number)}
    assert _resolve(tmp_path, flags).settings.http.max_connections == number
    (error,) = _errors(tmp_path, {"max_connections": "-2"})
    assert "too small" in error


def test_the_last_word_wins(tmp_path):
    resolved = _resolve(
        tmp_path,
        {"backlog": "4"},
        {"ASGI_MASTER_BACKLOG": "3", "ASGI_MASTER_WORKERS": "3"},
        "backlog = 2\nworkers = 2\nlimit-body-size = '2k'\n",
    )
    assert resolved.settings.sockets.backlog == 4
    assert resolved.settings.process.workers == 3
    assert resolved.settings.http.limit_body_size == 2048
    assert resolved.origins["backlog"] == "--backlog"
    assert resolved.origins["workers"] == "ASGI_MASTER_WORKERS"
    assert resolved.origins["limit_body_size"] == "asgi-master.toml, line 3"
    assert resolved.origins["loop"] == "default"


def test_lists_are_replaced_not_extended(tmp_path):
    file = "bind = ['127.0.0.1:1', '127.0.0.1:2']"
    assert _resolve(tmp_path, file=file).settings.sockets.bind == ("127.0.0.1:1", "127.0.0.1:2")
    assert _resolve(tmp_path, {"bind": ["127.0.0.1:3"]}, file=file).settings.sockets.bind == ("127.0.0.1:3",)
    environ = {"ASGI_MASTER_BIND": "unix:a.sock, fd://3"}
    assert _resolve(tmp_path, environ=environ, file=file).settings.sockets.bind == ("unix:a.sock", "fd://3")


def test_sockets_that_systemd_passed_are_served_unless_somebody_says_otherwise(tmp_path):
    passed = {"LISTEN_FDS": "4", "LISTEN_FDNAMES": "web:admin:web:asgi-master-bind=unix%3Aa.sock"}
    resolved = _resolve(tmp_path, environ=passed)
    assert resolved.settings.sockets.bind == ("systemd:web", "systemd:admin")
    assert resolved.origins["bind"] == "LISTEN_FDNAMES"
    assert _resolve(tmp_path, environ=passed, file="bind = '[::1]:1'").settings.sockets.bind == ("[::1]:1",)
    unnamed = _resolve(tmp_path, environ={"LISTEN_FDS": "1"})
    assert unnamed.settings.sockets.bind == ("systemd:unknown",)


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_FDS": "0", "LISTEN_FDNAMES": ""},
        {"LISTEN_FDS": "many", "LISTEN_FDNAMES": "web"},
        {"LISTEN_FDNAMES": "web"},
        {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "asgi-master-bind=127.0.0.1%3A8000"},
    ],
)
def test_without_a_socket_unit_the_default_address_holds(tmp_path, environ):
    assert _resolve(tmp_path, environ=environ).origins["bind"] == "default"


def test_auto_counts_the_cpus_each_time(tmp_path):
    assert _resolve(tmp_path, {"workers": "auto"}).settings.process.workers == 6
    assert _resolve(tmp_path, file="workers = 'auto'").settings.process.workers == 6


def test_an_error_names_the_value_and_its_origin(tmp_path):
    assert _errors(tmp_path, file="\n\n\nworkers = 'x'") == [
        'workers: "x" is not a number (asgi-master.toml, line 4)'
    ]
    assert _errors(tmp_path, {"workers": "x"}) == ['workers: "x" is not a number (--workers)']
    assert _errors(tmp_path, environ={"ASGI_MASTER_WORKERS": "x"}) == [
        'workers: "x" is not a number (ASGI_MASTER_WORKERS)'
    ]


def test_a_value_that_lost_is_not_judged(tmp_path):
    assert _resolve(tmp_path, {"workers": "2"}, file="workers = 'x'").settings.process.workers == 2


def test_all_errors_come_at_once(tmp_path):
    errors = _errors(
        tmp_path,
        {"app": None, "http": "h3", "bind": ["8000"]},
        {"ASGI_MASTER_LOOP": "trio", "ASGI_MASTER_WORKRS": "1"},
        "backlog = 0\nxyzzy = 1\nheader = ['bad']\n",
    )
    assert errors == [
        "xyzzy: unknown setting (asgi-master.toml, line 2)",
        "ASGI_MASTER_WORKRS: unknown setting; did you mean ASGI_MASTER_WORKERS? (environment)",
        "backlog: 0 is too small: at least 1 (asgi-master.toml, line 1)",
        'http: "h3" is not one of auto, zttp, httptools, h11 (--http)',
        'loop: "trio" is not one of uvloop, asyncio (ASGI_MASTER_LOOP)',
        "app: missing: give the application to serve, such as main:app",
        'bind: "8000" is not HOST:PORT: write 127.0.0.1:8000 (--bind)',
        "header: \"bad\" is not a header: write 'Name: value' (asgi-master.toml, line 3)",
    ]


def test_choices_are_read_in_any_case(tmp_path):
    assert _resolve(tmp_path, {"log_level": "WARNING"}).settings.logging.log_level == "warning"


def test_a_shorter_drain_shortens_the_part_reserved_for_shutdown(tmp_path):
    assert _resolve(tmp_path, {"drain_timeout": "4"}).settings.process.shutdown_timeout == 2.0
    assert _resolve(tmp_path, {"drain_timeout": "0"}).settings.process.shutdown_timeout == 0.0
    assert _resolve(tmp_path, {"drain_timeout": "60"}).settings.process.shutdown_timeout == 5.0


def test_a_developer_waits_for_a_short_drain_unless_another_is_wanted(tmp_path):
    assert _resolve(tmp_path, {"reload": True}).settings.process.drain_timeout == 2.0
    assert _resolve(tmp_path, {"reload": True}).settings.process.shutdown_timeout == 1.0
    assert _resolve(tmp_path, {"reload": False}).settings.process.drain_timeout == 30.0
    wanted = _resolve(tmp_path, {"reload": True, "drain_timeout": "20"})
    assert wanted.settings.process.drain_timeout == 20.0


def test_the_printed_settings_are_a_settings_file_that_says_the_same(tmp_path):
    flags = {
        "bind": ["127.0.0.1:1", "unix:x.sock"],
        "workers": "auto",
        "drain_timeout": "1.5s",
        "header": ['X-Quote: "\\"', "X-B: b"],
        "uds_mode": "600",
        "access_log": True,
    }
    first = _resolve(tmp_path, flags)
    text = to_toml(first)
    assert set(tomllib.loads(text)) == {setting.key for setting in SETTINGS}
    assert "# --workers\n" in text
    second = _resolve(tmp_path, {"app": None}, file=text)
    assert second.settings == first.settings
    assert second.origins["workers"].startswith("asgi-master.toml, line ")


def test_a_secret_is_not_printed(tmp_path):
    flags = {"keyfile_password": "hunter2", "bind": ["https://[::1]:1"], "certfile": ["a.pem"]}
    first = _resolve(tmp_path, flags)
    assert first.settings.tls.keyfile_password == "hunter2"
    assert "hunter2" not in to_toml(first)
    assert tomllib.loads(to_toml(first))["keyfile-password"] == "(not shown)"


_WORDS = st.one_of(
    st.text(max_size=20), st.sampled_from(["0", "1", "-1", "on", "auto", "1k", "unix:a", "X: y", "main:app"])
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([setting.name for setting in SETTINGS]), _WORDS, max_size=8))
@example({"bind": "0\x1e0", "certfile": "0"})
def test_any_words_give_settings_or_errors_of_one_line_each(tmp_path, words):
    environ = {f"ASGI_MASTER_{name.upper()}": text for name, text in words.items()}
    errors = []
    try:
        resolve({}, environ, tmp_path)
    except SettingsError as error:
        errors = error.errors
    assert [line.splitlines() for line in errors] == [[line] for line in errors]
