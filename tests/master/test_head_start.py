"""The zygote that starts first: real processes, which are gone in the end."""

import os
import signal

import psutil
import pytest

from asgi_master.ipc.messages import BootWanted
from asgi_master.master.carried import VARIABLE
from asgi_master.master.head_start import HeadStart


def _end(pid, channel):
    channel.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_one_that_nobody_took_is_ended_and_reaped():
    with pytest.raises(ZeroDivisionError), HeadStart({}):
        [child] = psutil.Process().children()
        raise ZeroDivisionError
    assert not psutil.pid_exists(child.pid)


def test_it_is_given_once_and_stays():
    with HeadStart({}) as head_start:
        [child] = psutil.Process().children()
        pid, channel = head_start.zygote()
        assert pid == child.pid
        another, its_channel = head_start.zygote()
        assert another != pid
    try:
        channel.setblocking(True)
        assert channel.receive().message == BootWanted()
    finally:
        _end(another, its_channel)
        _end(pid, channel)


def test_an_upgraded_master_has_its_zygotes_already():
    with HeadStart({VARIABLE: "take:7"}):
        assert psutil.Process().children() == []
