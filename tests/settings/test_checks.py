from pathlib import Path

import pytest

from asgi_master.errors import SettingsError
from asgi_master.settings.resolve import resolve

SECURE = {"bind": ["https://127.0.0.1:1"], "certfile": ["a.pem"], "keyfile": ["a.key"]}


@pytest.fixture
def errors(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "bad.env").write_text("A=1\nB\nC\n")
    (tmp_path / "latin.env").write_bytes(b"A=\xe9\n")
    (tmp_path / "good.env").write_text("A=1\n")

    def check(**flags) -> list[str]:
        try:
            resolve({"app": "main:app"} | flags, {}, tmp_path)
        except SettingsError as error:
            return error.errors
        return []

    return check


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (
            {"app": "main.py"},
            'app: "main.py" is a file name, not MODULE:ATTRIBUTE: did you mean "main:app"? (APP)',
        ),
        (
            {"shutdown_timeout": "8", "drain_timeout": "8"},
            "shutdown-timeout: 8 is not less than the whole: drain-timeout is 8 (--drain-timeout) (--shutdown-timeout)",
        ),
        (
            {"shutdown_timeout": "31"},
            "shutdown-timeout: 31 is not less than the whole: drain-timeout is 30 (default) (--shutdown-timeout)",
        ),
        ({"group": "staff"}, 'group: "staff" needs a user: give --user too (--group)'),
        (
            {"max_surge": "0"},
            "max-surge: 0 leaves a reload no room while max-unavailable is 0 (default): one of them must be at least 1 (--max-surge)",
        ),
        (
            {"max_unavailable": "0", "max_surge": "0"},
            "max-surge: 0 leaves a reload no room while max-unavailable is 0 (--max-unavailable): one of them must be at least 1 (--max-surge)",
        ),
        (
            {"log_format": "json", "access_log_format": "%(m)s"},
            "access-log-format: its lines are text, but log-format is json (--log-format), whose fields are fixed: use --access-log-header NAME for more (--access-log-format)",
        ),
        *(
            (
                {"health_path": path},
                f'health-path: "{path}" is not a path: it must begin with / and be escaped (--health-path)',
            )
            for path in ("health", "/a b", "/a#b", "/\u00e4")
        ),
        ({"name": "a\nb"}, 'name: "a\\nb" is not a plain name (--name)'),
        ({"chdir": "nowhere"}, 'chdir: "nowhere" is not a directory (--chdir)'),
        ({"bind": ["127.0.0.1:1", "127.0.0.1:1"]}, 'bind: "127.0.0.1:1" is given twice (--bind)'),
        ({"bind": ["unix:///a", "unix:/a"]}, 'bind: "unix:/a" is given twice (--bind)'),
        ({"bind": ["fd://1"]}, 'bind: "fd://1" is a standard stream, not a socket (--bind)'),
        (
            {"bind": ["https://127.0.0.1:1"]},
            'bind: "https://127.0.0.1:1" needs a certificate: give certfile and keyfile (--bind)',
        ),
        (
            {"certfile": ["a.pem"], "bind": ["127.0.0.1:1"]},
            'certfile: no address speaks TLS: write --bind "https://127.0.0.1:1" for one that does (--certfile)',
        ),
        (
            {**SECURE, "keyfile": ["a.key", "b.key"]},
            "keyfile: there are 2 for 1 certfiles: give one for each, in the same order (--keyfile)",
        ),
        (
            {**SECURE, "keyfile_password": "secret", "keyfile_password_file": "a"},
            "keyfile-password: keyfile-password-file is given too: give one of them (--keyfile-password)",
        ),
        (
            {**SECURE, "keyfile_password": "secret\0"},
            "keyfile-password: its value contains a NUL character (--keyfile-password)",
        ),
        (
            {**SECURE, "client_cert": "required"},
            "client-cert: required needs ca-certs to verify with (--client-cert)",
        ),
        (
            {**SECURE, "ca_certs": "ca.pem"},
            "ca-certs: no client is asked for a certificate: use --client-cert required (--ca-certs)",
        ),
        (
            {**SECURE, "bind": ["https://127.0.0.1:1", "127.0.0.1:1"]},
            'bind: "127.0.0.1:1" is given twice (--bind)',
        ),
        (
            {"admin_bind": "https://127.0.0.1:1"},
            'admin-bind: "https://127.0.0.1:1": TLS is not supported there (--admin-bind)',
        ),
        (
            {"admin_bind": "9000"},
            'admin-bind: "9000" is not HOST:PORT: write 127.0.0.1:9000 (--admin-bind)',
        ),
        (
            {"bind": ["127.0.0.1:1"], "admin_bind": "127.0.0.1:1"},
            'admin-bind: "127.0.0.1:1" is an address of the application (--admin-bind)',
        ),
        ({"uds_owner": "a:b:c"}, 'uds-owner: "a:b:c" is not USER, USER:GROUP or :GROUP (--uds-owner)'),
        ({"root_path": "api"}, 'root-path: "api" must begin with / and not end with it (--root-path)'),
        ({"root_path": "/api/"}, 'root-path: "/api/" must begin with / and not end with it (--root-path)'),
        ({"app_dir": "missing"}, 'app-dir: "missing" is not a directory (--app-dir)'),
        ({"app_dir": "x" * 300}, f'app-dir: "{"x" * 300}" is not a directory (--app-dir)'),
        ({"reload_dir": ["there", "missing"]}, 'reload-dir: "missing" is not a directory (--reload-dir)'),
        (
            {"env_file": "missing"},
            'env-file: "missing" cannot be read: No such file or directory (--env-file)',
        ),
        ({"env_file": "latin.env"}, 'env-file: "latin.env" is not UTF-8 (--env-file)'),
        ({"log_config": "missing.toml"}, 'log-config: "missing.toml" is not a file (--log-config)'),
        (
            {"log_timezone": "Mars/Base"},
            'log-timezone: no time zone "Mars/Base" is known here (--log-timezone)',
        ),
        (
            {"log_timezone": "../etc/passwd"},
            'log-timezone: no time zone "../etc/passwd" is known here (--log-timezone)',
        ),
    ],
)
def test_each_contradiction_is_one_line(errors, flags, error):
    assert errors(**flags) == [error]


def test_each_bad_line_of_the_environment_file_is_told(errors):
    assert errors(env_file="bad.env") == [
        'env-file: "bad.env", line 2: not KEY=VALUE (--env-file)',
        'env-file: "bad.env", line 3: not KEY=VALUE (--env-file)',
    ]


@pytest.mark.parametrize(
    "flags",
    [
        {"shutdown_timeout": "0", "drain_timeout": "0"},
        {"max_surge": "0", "max_unavailable": "1"},
        {"bind": ["127.0.0.1:0", "127.0.0.1:0"]},
        SECURE,
        {**SECURE, "bind": ["https://[::1]:1", "https://unix:/a", "https://systemd:web", "unix:/b"]},
        {**SECURE, "keyfile": [], "client_cert": "optional", "ca_certs": "ca.pem"},
        {"uds_owner": "www-data"},
        {"uds_owner": "www-data:1000"},
        {"uds_owner": ":adm"},
        {"root_path": "/api"},
        {"health_path": "/health?deep=1&x=%20"},
        {"app_dir": "there", "reload_dir": ["there"], "env_file": "good.env"},
        {"header": ["X-A: b"]},
        {"name": "shop (blue)"},
        {"log_timezone": "Asia/Kolkata"},
    ],
)
def test_what_is_fine(errors, flags):
    assert errors(**flags) == []


def test_an_unreadable_value_is_not_blamed_on_another(errors):
    assert errors(drain_timeout="x", shutdown_timeout="40") == [
        'drain-timeout: "x" is not a duration (seconds, or such as 500ms, 30s, 5m, 1h) (--drain-timeout)'
    ]


def test_no_address_at_all(tmp_path: Path) -> None:
    (tmp_path / "asgi-master.toml").write_text('app = "main:app"\nbind = []\n')
    with pytest.raises(SettingsError) as raised:
        resolve({}, {}, tmp_path)
    assert raised.value.errors == ["bind: is empty: give at least one address (asgi-master.toml, line 2)"]


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        resolve({"app": "main:app"}, {}, tmp_path / "gone")
    assert raised.value.errors == [f'app-dir: the working directory "{tmp_path}/gone" is not there']


def test_addresses_for_each_slot(errors):
    assert errors(bind=["127.0.0.1:90{slot:02}", "unix:/run/{slot}.sock"], workers="4") == []
    [line] = errors(bind=["127.0.0.1:655{slot:02}"], workers="40")
    assert line.startswith('bind: "127.0.0.1:655{slot:02}", for slot 36, has a bad port')
    [line] = errors(bind=["127.0.0.1:900{slot}", "127.0.0.1:9002"], workers="4")
    assert line.startswith('bind: "127.0.0.1:900{slot}", for slot 2, is given twice')
    [line] = errors(admin_bind="127.0.0.1:900{slot}")
    assert line.startswith('admin-bind: "127.0.0.1:900{slot}": it is the master')
