"""Signals of this very process, with a wakeup descriptor that works or does not."""

import os
import select
import signal
import socket
import sys
from types import SimpleNamespace

import pytest

from asgi_master.master.signals import SignalPipe
from asgi_master.telemetry import interpreter_output


@pytest.fixture
def signals():
    pipe = SignalPipe()
    yield pipe
    pipe.close()


def raise_all(*signums):
    for signum in signums:
        os.kill(os.getpid(), signum)


def is_readable(pipe):
    return bool(select.select([pipe], [], [], 0)[0])


def test_signals_wake_and_are_returned_in_order(signals):
    raise_all(signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP)
    assert is_readable(signals)
    signals.wake()
    assert not is_readable(signals)
    assert signals.take() == [signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP]
    assert signals.take() == []


def test_a_signal_without_a_wakeup_is_not_lost(signals):
    signal.set_wakeup_fd(-1)
    raise_all(signal.SIGTERM)
    assert not is_readable(signals)
    signals.wake()
    assert signals.take() == [signal.SIGTERM]


def test_a_signal_is_there_though_the_wakeup_cannot_be_read(signals, monkeypatch):
    def fails(_sock, _size):
        raise OSError(12, "Cannot allocate memory")

    raise_all(signal.SIGTERM)
    monkeypatch.setattr(socket.socket, "recv", fails)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        signals.wake()
    assert signals.take() == [signal.SIGTERM]


def test_a_failed_write_is_logged_once(signals, caplog, capsys, monkeypatch):
    # The log is set up later, and again with each reload.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    interpreter_output.capture(to_warnings=False)
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.close(read)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    raise_all(signal.SIGTTIN, signal.SIGTTIN)
    assert signals.take() == [signal.SIGTTIN, signal.SIGTTIN]
    os.close(write)
    assert caplog.text.count("waking the loop for a signal failed: Broken pipe") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_what_it_took_it_gives_back(monkeypatch):
    reached = []
    monkeypatch.setattr(sys, "unraisablehook", reached.append)
    handler = signal.getsignal(signal.SIGTERM)
    SignalPipe().close()
    assert signal.getsignal(signal.SIGTERM) == handler
    found = SimpleNamespace(exc_value=OSError("of a write"), object=None)
    sys.unraisablehook(found)
    assert reached == [found]
