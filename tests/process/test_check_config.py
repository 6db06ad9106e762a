"""`--check-config` refuses what a start would be refused for, in the same words, and takes nothing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleet import SOURCE

pytestmark = pytest.mark.newest_python

ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "ASGI_MASTER_USER": ""}
REFUSED = {
    "settings": ["--workers", "many", "app:app"],
    "no application": [],
    "chdir": ["--chdir", "nowhere", "app:app"],
    "app-dir": ["--app-dir", "nowhere", "app:app"],
    "env-file": ["--env-file", "nowhere", "app:app"],
    "log-config, not there": ["--log-config", "nowhere.json", "app:app"],
    "log-config, no JSON": ["--log-config", "broken.json", "app:app"],
    "log-config, no class": ["--log-config", "class.json", "app:app"],
    "log-config, of a kind that is not read": ["--log-config", "log.xyz", "app:app"],
    "access-log-format": ["--access-log-format", "%(nonsense)s", "app:app"],
    "certificates": ["--bind", "https://127.0.0.1:0", "--certfile", "broken.json", "app:app"],
    "user": ["--user", "nobody-of-this-name", "app:app"],
    "pid file": ["--pid-file", "nowhere/pid", "app:app"],
    "pid file, a directory": ["--pid-file", "directory", "app:app"],
    "host": ["--bind", "no.such.host.invalid:8000", "app:app"],
    "address": ["--bind", "192.0.2.1:8000", "app:app"],
    "socket in no directory": ["--bind", "unix:nowhere/sock", "app:app"],
    "socket where a file is": ["--bind", "unix:broken.json", "app:app"],
    "socket with a long name": ["--bind", f"unix:{'x' * 120}", "app:app"],
    "socket of nobody": ["--bind", "unix:sock", "--uds-owner", "nobody-of-this-name", "app:app"],
    "admin address": ["--bind", "127.0.0.1:0", "--admin-bind", "192.0.2.1:8001", "app:app"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("log.xyz").write_text("version: 1")
    Path("class.json").write_text(
        '{"version": 1, "handlers": {"h": {"class": "no.such.Handler"}}, "root": {"handlers": ["h"]}}'
    )
    Path("directory").mkdir()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asgi_master", *arguments]
    return subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=30)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("asgi-master: error: ")]


@pytest.mark.parametrize("why", REFUSED)
def test_each_refused_start_is_refused_by_the_check(why: str) -> None:
    started, checked = run(*REFUSED[why]), run("--check-config", *REFUSED[why])
    assert started.returncode in (1, 2, 4), started
    assert checked.returncode == 2, checked
    assert complaints(started)
    assert set(complaints(started)) <= set(complaints(checked))
    assert checked.stdout == ""


def test_all_of_it_is_said_at_once() -> None:
    done = run(
        "--check-config",
        "--bind",
        "192.0.2.1:80",
        "--log-config",
        "class.json",
        "--pid-file",
        "no/pid",
        "a:b",
    )
    assert len(complaints(done)) == 3


def test_what_is_in_use_may_be_so_by_the_master_that_runs() -> None:

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as other:
        other.bind("taken.sock")
        other.listen()
        binds = [
            "--bind",
            f"127.0.0.1:{server.getsockname()[1]}",
            "--bind",
            "unix:taken.sock",
            "--bind",
            "unix:new.sock",
        ]
        done = run("--check-config", *binds, "--pid-file", "pid", "a:b")
    assert (done.returncode, done.stdout) == (0, "Configuration OK.\n"), done.stderr
    assert not Path("pid").exists()
    assert not Path("new.sock").exists()
