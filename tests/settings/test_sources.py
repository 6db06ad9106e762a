import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from asgi_master.settings.sources import (
    RawValue,
    config_file,
    from_environment,
    from_file,
    from_flags,
)


def _file(directory: Path, text: str, name: str = "asgi-master.toml"):
    (directory / name).write_text(text)
    return from_file(directory, None)


def test_flags_that_were_not_given_have_no_value():
    source = from_flags({"app": "main:app", "workers": None, "bind": [], "reload": False, "factory": True})
    assert source.values == {
        "app": RawValue("main:app", "APP"),
        "reload": RawValue(False, "--no-reload"),
        "factory": RawValue(True, "--factory"),
    }


def test_variables():
    source = from_environment({"ASGI_MASTER_DRAIN_TIMEOUT": "5", "ASGI_MASTER_WORKERS": "", "WORKERS": "7"})
    assert source.values == {"drain_timeout": RawValue("5", "ASGI_MASTER_DRAIN_TIMEOUT")}
    assert source.errors == []


def test_a_former_name_still_works(tmp_path: Path) -> None:
    assert from_environment({"ASGI_MASTER_SPARE": "1"}).values == {
        "spares": RawValue("1", "ASGI_MASTER_SPARE")
    }
    both = from_environment({"ASGI_MASTER_SPARES": "2", "ASGI_MASTER_SPARE": "1"})
    assert both.values == {"spares": RawValue("2", "ASGI_MASTER_SPARES")}
    assert _file(tmp_path, "spare = 1").values == {"spares": RawValue(1, "asgi-master.toml, line 1")}


def test_unknown_variables_are_errors():
    source = from_environment({"ASGI_MASTER_WORKRES": "5", "ASGI_MASTER_NONSENSE_AT_ALL": ""})
    assert source.errors == [
        "ASGI_MASTER_NONSENSE_AT_ALL: unknown setting (environment)",
        "ASGI_MASTER_WORKRES: unknown setting; did you mean ASGI_MASTER_WORKERS? (environment)",
    ]


@pytest.mark.parametrize(
    "variable",
    [
        "CONFIG",
        "WORKER",
        "GENERATION",
        "SERVICE_NAME",
        # What Kubernetes sets beside a Service of this name.
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_8000_TCP",
        "PORT_8000_TCP_PROTO",
        "PORT_8000_TCP_PORT",
        "PORT_8000_TCP_ADDR",
    ],
)
def test_variables_that_are_no_settings_but_known(variable):
    source = from_environment({f"ASGI_MASTER_{variable}": "1"})
    assert (source.values, source.errors) == ({}, [])


def test_the_file_names_each_line(tmp_path):
    source = _file(
        tmp_path,
        '# comment\nworkers = 3\n\n"drain-timeout" = "5s"\n'
        "header = [\n  'X-A: workers = 9',\n]\nroot-path = '''\nloop = '''\nfactory = true # [table]\n",
    )
    assert source.errors == []
    assert source.values == {
        "workers": RawValue(3, "asgi-master.toml, line 2"),
        "drain_timeout": RawValue("5s", "asgi-master.toml, line 4"),
        "header": RawValue(["X-A: workers = 9"], "asgi-master.toml, line 5"),
        "root_path": RawValue("loop = ", "asgi-master.toml, line 8"),
        "factory": RawValue(True, "asgi-master.toml, line 10"),
    }


def test_unknown_keys_and_tables_are_errors(tmp_path):
    source = _file(tmp_path, "drain_timeout = 3\nwerkers = 2\nxyzzy = 1\n[http]\nloop = 'asyncio'\n[[a]]\n")
    assert source.values == {}
    assert source.errors == [
        "drain_timeout: unknown setting; did you mean drain-timeout? (asgi-master.toml, line 1)",
        "werkers: unknown setting; did you mean workers? (asgi-master.toml, line 2)",
        "xyzzy: unknown setting (asgi-master.toml, line 3)",
        "http: settings must be top-level keys, not inside a table (asgi-master.toml, line 4)",
        "a: settings must be top-level keys, not inside a table (asgi-master.toml, line 6)",
    ]


def test_the_table_of_pyproject(tmp_path):
    text = "[project]\nworkers = 1\n[tool.asgi-master]\nworkers = 2\n[tool.other]\nworkers = 3\n"
    source = _file(tmp_path, text, "pyproject.toml")
    assert source.values == {"workers": RawValue(2, "pyproject.toml, line 4")}
    assert source.errors == []


def test_other_tables_below_that_of_pyproject_are_errors(tmp_path):
    source = _file(tmp_path, "[tool.asgi-master.http]\nloop = 'x'\n", "pyproject.toml")
    assert source.errors == [
        "http: settings must be top-level keys, not inside a table (pyproject.toml, line 1)"
    ]


@pytest.mark.parametrize("text", ["", "[tool]\n", "tool = 3\n"])
def test_a_pyproject_without_our_table_says_nothing(tmp_path, text):
    source = _file(tmp_path, text, "pyproject.toml")
    assert (source.values, source.errors) == ({}, [])


def test_a_pyproject_whose_entry_is_no_table(tmp_path):
    source = _file(tmp_path, "[tool]\nasgi-master = 3\n", "pyproject.toml")
    assert source.errors == ["pyproject.toml: [tool.asgi-master] is not a table"]


def test_the_own_file_hides_pyproject(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.asgi-master]\nworkers = 2\n")
    assert _file(tmp_path, "loop = 'asyncio'\n").values.keys() == {"loop"}


def test_no_file_is_no_error(tmp_path):
    source = from_file(tmp_path, None)
    assert (source.values, source.errors) == ({}, [])


def test_a_named_file_must_exist(tmp_path):
    source = from_file(tmp_path, RawValue("missing.toml", "--config"))
    assert source.errors == ["missing.toml: cannot be read: No such file or directory (--config)"]
    assert from_file(tmp_path, RawValue(".", "--config")).errors == [
        ".: cannot be read: Is a directory (--config)"
    ]


def test_a_named_file_is_found_from_the_directory(tmp_path):
    (tmp_path / "production.toml").write_text("workers = 5")
    source = from_file(tmp_path, RawValue("production.toml", "--config"))
    assert source.values == {"workers": RawValue(5, "production.toml, line 1")}


def test_the_flag_names_the_file_before_the_variable_does():
    environ = {"ASGI_MASTER_CONFIG": "b.toml"}
    assert config_file("a.toml", environ) == RawValue("a.toml", "--config")
    assert config_file(None, environ) == RawValue("b.toml", "ASGI_MASTER_CONFIG")
    assert config_file(None, {}) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"workers = ", "is not TOML: "),
        (b"name = '\xff'", "is not UTF-8"),
        (b"workers = 1" + b"0" * 5000, "is not TOML"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path, content, reason):
    (tmp_path / "asgi-master.toml").write_bytes(content)
    [error] = from_file(tmp_path, None).errors
    assert error.startswith(f"asgi-master.toml: {reason}")


def test_lines_are_counted_through_a_long_string(tmp_path: Path) -> None:
    source = _file(tmp_path, "workers = 2\nname = '''\nshop\n[tool]\n'''\nbacklog = 5\n")
    assert source.values["backlog"].origin == "asgi-master.toml, line 6"


def test_a_directory_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "exists", refuse)
    assert from_file(tmp_path, None).errors == [
        f"{tmp_path}/asgi-master.toml: cannot be read: Permission denied"
    ]
