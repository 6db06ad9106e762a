"""What processes that the application starts get of ours: nothing.

A program that it executes must be able to be interrupted: what is ignored stays so in it, what has a handler does not.
A child that it forks (multiprocessing) has neither our handlers nor our listeners, and a worker does not wait for it.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from asgi_master.ipc.messages import STACK_SIGNAL, STACKS_SIGNAL

log = logging.getLogger("asgi_master")

_PATIENCE = 1.0
"""Seconds for the children that are to end with this process."""

_ours: dict[int, list[Any]] = {}
"""The handlers that are ours, by signal."""
_listeners: list[socket.socket] = []


def pass_over(signals: Iterable[signal.Signals]) -> None:
    """Do nothing at these signals, by a handler: a program that is executed from here has the default again."""
    for signum in signals:
        handle(signum, _do_nothing)
        signal.siginterrupt(signum, False)


def handle(signum: signal.Signals, handler: Callable[[int, Any], None]) -> None:
    """Set a handler that forked children do not keep."""
    signal.signal(signum, handler)
    claim(signum)


def claim(signum: signal.Signals) -> None:
    """Whatever handles this signal now (a loop, for one) is ours."""
    _ours.setdefault(signum, []).append(signal.getsignal(signum))


def close_in_children(listeners: Iterable[socket.socket]) -> None:
    """A child that outlives its worker would keep the port open."""
    _listeners.extend(listeners)


def forget_in_children() -> None:
    """Have every child that is forked from here on, also by its own children, begin with default handlers."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(-1)
        # This puts back what was before it.
        faulthandler.unregister(STACKS_SIGNAL)
        faulthandler.unregister(STACK_SIGNAL)
        faulthandler.cancel_dump_traceback_later()
        for signum, handlers in _ours.items():
            # What the application set itself, it also has in its children.
            if signal.getsignal(signum) in handlers:
                is_interrupt = signum == signal.SIGINT
                signal.signal(signum, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    _ours.clear()
    for listener in _listeners:
        # uvloop has a hold on it: `close` would wait for that.
        if (fd := listener.detach()) >= 0:
            os.close(fd)
    _listeners.clear()


def end_children() -> None:
    """End the children that are to end with this process, and wait for no other. To be the first of what runs at exit.

    `multiprocessing` would wait for each without limit.
    """
    module: Any = sys.modules.get("multiprocessing.process")
    if module is None:
        return
    _end_pools()
    children = module.active_children()
    deadline = time.monotonic() + _PATIENCE
    for child in children:
        if child.daemon:
            child.terminate()
    for child in children:
        if child.daemon:
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                child.kill()
                child.join(_PATIENCE)
        else:
            log.warning("leaving a process of the application behind: %s [%d]", child.name, child.pid)
            # It is no longer waited for.
            getattr(module, "_children", set()).discard(child)


def _end_pools() -> None:
    """Pools and managers end their processes themselves, and start others for those that somebody else ends."""
    util: Any = sys.modules.get("multiprocessing.util")
    with contextlib.suppress(Exception):  # the application's own may be among them; Python goes on too
        util._run_finalizers(0)  # noqa: SLF001 -- as its own exit handler begins


def _do_nothing(_signum: int, _frame: object) -> None:
    """Not `SIG_IGN`, which passes through exec."""
