"""`asgi-master dev`: what it adds to the command line, and what it says."""

import socket
from contextlib import closing

import pytest

from asgi_master.cli import dev, open_browser
from asgi_master.cli.dev import expand, free_port
from asgi_master.errors import SettingsError


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dev, "free_port", lambda: 8000)
    (tmp_path / "main.py").write_text("app = 1\n")
    return tmp_path


DEFAULTS = ["--reload", "--access-log"]
BIND = ["--bind", "127.0.0.1:8000"]


def test_it_finds_the_application_and_says_so():
    development = expand([], {})
    assert development.words == [*DEFAULTS, "main:app", *BIND]
    assert development.found == ["application: main:app in main.py"]
    assert development.opens == ""


def test_what_is_given_is_left_alone():
    assert expand(["other:app", "--no-access-log", "--bind", "[::1]:1"], {}).words == [
        "--reload",
        *("other:app", "--no-access-log", "--bind", "[::1]:1"),
    ]
    environ = {"ASGI_MASTER_BIND": "unix:/x", "ASGI_MASTER_APP": "other:app", "ASGI_MASTER_ACCESS_LOG": "0"}
    assert expand([], environ).words == ["--reload"]


def test_settings_of_the_project_are_left_alone(project):
    (project / "pyproject.toml").write_text('[tool.asgi-master]\napp = "other:app"\nbind = ["[::1]:1"]\n')
    assert expand([], {}).words == DEFAULTS


def test_variables_are_read_from_env(project):
    (project / ".env").write_text("A=1\n")
    assert expand([], {}).words == [*DEFAULTS, "--env-file", ".env", "main:app", *BIND]
    assert expand(["--env-file", "other"], {}).words == [*DEFAULTS, "main:app", *BIND, "--env-file", "other"]


def test_a_file_names_the_application(project):
    package = project / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "web.py").write_text("def create_app(): ...\n")
    development = expand(["src/shop/web.py"], {})
    assert development.words == [*DEFAULTS, "shop.web:create_app", "--app-dir", "src", "--factory", *BIND]
    assert development.found == [
        "application: shop.web:create_app in src/shop/web.py (called, as it is a factory)"
    ]


def test_without_an_application_it_says_how_to_name_one(project):
    (project / "main.py").unlink()
    with pytest.raises(SettingsError, match=r"no application was found in .*: name it, as in"):
        expand([], {})


def test_a_taken_port_means_the_next_one(monkeypatch):
    monkeypatch.setattr(dev, "free_port", lambda: 8001)
    development = expand(["main:app", "--open"], {})
    assert development.words == [*DEFAULTS, "--bind", "127.0.0.1:8001", "main:app"]
    assert development.found == ["port: 8001, as 8000 is taken"]
    assert development.opens == "http://127.0.0.1:8001/"


def test_a_port_that_somebody_listens_on_is_taken():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        assert free_port(port) > port


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--unknown"]])
def test_questions_and_mistakes_are_left_to_the_ordinary_command_line(words):
    development = expand(words, {})
    assert development.found == []
    assert words[0] in development.words


def test_the_browser_opens_what_is_served(monkeypatch):
    opened = []
    monkeypatch.setattr(open_browser.webbrowser, "open", lambda url: opened.append(url) or True)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert open_browser.main(url) == 0
    assert opened == [url]
    monkeypatch.setattr(open_browser, "_WITHIN", 0.0)
    assert open_browser.main(url) == 1
