"""The zygote that starts first: real processes, which are gone in the end."""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from asgi_master.ipc.messages import ZygoteStarted
from asgi_master.master.early_zygote import EarlyZygote
from asgi_master.master.variables import SECRETS, UPGRADE
from asgi_master.settings.model import SETTINGS


def _end(pid, channel):
    channel.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_an_unused_zygote_is_ended_and_reaped():
    with pytest.raises(ZeroDivisionError), EarlyZygote({}):
        [child] = psutil.Process().children()
        raise ZeroDivisionError
    assert not psutil.pid_exists(child.pid)


def test_it_is_given_once_and_stays():
    with EarlyZygote({}) as early_zygote:
        [child] = psutil.Process().children()
        pid, channel = early_zygote.zygote()
        assert pid == child.pid
        another, its_channel = early_zygote.zygote()
        assert another != pid
    try:
        channel.setblocking(True)
        assert channel.receive().message == ZygoteStarted()
    finally:
        _end(another, its_channel)
        _end(pid, channel)


def test_it_inherits_nothing_but_its_channel_and_the_standard_streams():
    """Not what systemd passed, for one: it would keep a socket listening that the master has closed."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        passed.set_inheritable(True)
        with EarlyZygote({}) as early_zygote:
            pid, channel = early_zygote.zygote()
        try:
            channel.setblocking(True)
            channel.receive()
            held = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
            assert f"socket:[{os.fstat(passed.fileno()).st_ino}]" not in held
        finally:
            _end(pid, channel)


def test_an_upgraded_master_has_its_zygotes_already():
    with EarlyZygote({UPGRADE: "take:7"}):
        assert psutil.Process().children() == []


def test_it_is_not_given_any_secret(monkeypatch):
    """Their names are known without the settings, which take time to import."""
    secret = [setting.variable for setting in SETTINGS if setting.option.value_type.is_secret]
    assert secret == list(SECRETS)
    for variable in secret:
        monkeypatch.setenv(variable, "hunter2")
    with EarlyZygote({}) as early_zygote:
        pid, channel = early_zygote.zygote()
    try:
        channel.setblocking(True)
        channel.receive()
        assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        _end(pid, channel)
