"""Isolates processes that the application starts from the worker's signal handlers, sockets and exit.

An executed program must be interruptible: an ignored signal stays ignored in it, one with a handler gets its default. A
forked child (multiprocessing) must have neither the worker's handlers nor its listeners, and the worker must not wait
for it.
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

_STOP_TIMEOUT = 1.0
"""Seconds for child processes that end with this one."""

_own_handlers: dict[int, list[Any]] = {}
"""The worker's own handlers, by signal."""
_listeners: list[socket.socket] = []


def ignore_signals(signals: Iterable[signal.Signals]) -> None:
    """Do nothing on these signals, by a handler: executed programs get the default again."""
    for signum in signals:
        handle(signum, _do_nothing)
        signal.siginterrupt(signum, False)


def handle(signum: signal.Signals, handler: Callable[[int, Any], None]) -> None:
    """Set a handler that forked children reset."""
    signal.signal(signum, handler)
    mark_own(signum)


def mark_own(signum: signal.Signals) -> None:
    """Mark the current handler of this signal (for example the loop's) as the worker's own."""
    _own_handlers.setdefault(signum, []).append(signal.getsignal(signum))


def close_in_children(listeners: Iterable[socket.socket]) -> None:
    """Close the listeners in forked children: a child that outlives its worker would keep the port open."""
    _listeners.extend(listeners)


def reset_in_children() -> None:
    """Reset the worker's handlers in every process forked from here on."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(-1)
        # This restores the previous handler.
        faulthandler.unregister(STACKS_SIGNAL)
        faulthandler.unregister(STACK_SIGNAL)
        faulthandler.cancel_dump_traceback_later()
        for signum, handlers in _own_handlers.items():
            # Handlers that the application set itself stay in its children.
            if signal.getsignal(signum) in handlers:
                is_interrupt = signum == signal.SIGINT
                signal.signal(signum, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    _own_handlers.clear()
    for listener in _listeners:
        # uvloop references it: `close` would wait for that.
        if (fd := listener.detach()) >= 0:
            os.close(fd)
    _listeners.clear()


def end_children() -> None:
    """End the child processes that end with this one, and wait for no other. Must be the first `atexit` handler to run.

    `multiprocessing` would wait for each without limit.
    """
    module: Any = sys.modules.get("multiprocessing.process")
    if module is None:
        return
    _end_pools()
    children = module.active_children()
    deadline = time.monotonic() + _STOP_TIMEOUT
    for child in children:
        if child.daemon:
            child.terminate()
    for child in children:
        if child.daemon:
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                child.kill()
                child.join(_STOP_TIMEOUT)
        else:
            log.warning("leaving a process of the application behind: %s [%d]", child.name, child.pid)
            # It is no longer waited for.
            getattr(module, "_children", set()).discard(child)


def _end_pools() -> None:
    """Pools and managers end their processes themselves, and restart those that others end."""
    util: Any = sys.modules.get("multiprocessing.util")
    # Classes of the application may be among them; Python too goes on after their exceptions.
    with contextlib.suppress(Exception):
        util._run_finalizers(0)  # noqa: SLF001 -- as its own exit handler begins


def _do_nothing(_signum: int, _frame: object) -> None:
    """Not `SIG_IGN`, which is inherited by executed programs."""
