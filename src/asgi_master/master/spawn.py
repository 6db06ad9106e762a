"""Start a zygote: a fresh interpreter, nothing inherited but its channel and the standard streams."""

import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from asgi_master.master.interpreter import Interpreter
from asgi_master.master.signals import HANDLED, IGNORED
from asgi_master.master.variables import SECRETS

_CHANNEL_FD = 3

_NOT_FOR_CHILDREN = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)
"""Variables of the service manager that are for the master alone."""


def spawn_zygote(interpreter: Interpreter, *words: str) -> tuple[int, socket.socket]:
    """Start one, with these words on its command line; returns its pid and our end of its channel, as a socket.

    Raises `OSError`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ours.setblocking(False)
        command = interpreter.command("asgi_master.worker.zygote", str(_CHANNEL_FD), str(os.getpid()), *words)
        pid = spawn_python(command, {theirs.fileno(): _CHANNEL_FD}, blocked=HANDLED)
    except OSError:
        ours.close()
        raise
    finally:
        with contextlib.suppress(OSError):
            theirs.close()
    return pid, ours


def spawn_python(
    command: list[str],
    fds: dict[int, int],
    *,
    blocked: Sequence[signal.Signals] = (),
    apart: bool = False,
) -> int:
    """Start a part of this program with clean signals, our descriptors `fds` under the numbers given; returns its pid.

    Signals that are `blocked` wait until the program has handlers for them. One that is `apart` has a process group
    of its own: what a terminal or a service manager sends to ours does not reach it. Raises `OSError`.
    """
    return spawn(command, list(fds.items()), hidden=SECRETS, blocked=blocked, apart=apart)


def spawn(
    command: list[str],
    fds: Sequence[tuple[int, int]],
    variables: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    *,
    blocked: Sequence[signal.Signals] = (),
    apart: bool = False,
) -> int:
    """Start a program, by its path, as `spawn_python` does, with further `variables`. Raises `OSError`."""
    hidden = (*_NOT_FOR_CHILDREN, *hidden)
    group: Any = {"setpgroup": 0} if apart else {}  # there is no value for "the same"
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return os.posix_spawn(
        command[0],
        command,
        environment | dict(variables or {}),
        file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in fds],
        setsigmask=blocked,
        setsigdef=(*HANDLED, *IGNORED, signal.SIGPIPE),
        **group,
    )
