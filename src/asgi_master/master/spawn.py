"""Start a zygote: a fresh interpreter, nothing inherited but its channel and the standard streams."""

import os
import signal
import sys

from asgi_master.ipc.channel import Channel
from asgi_master.master.signals import HANDLED, IGNORED

_CHANNEL_FD = 3

_NOT_FOR_CHILDREN = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)
"""What the service manager said to the master alone."""


def spawn_zygote() -> tuple[int, Channel]:
    """Start one; returns its pid and our end of its channel. Raises `OSError`."""
    ours, theirs = Channel.pair()
    try:
        pid = spawn_python(
            ["-P", "-m", "asgi_master.worker.zygote", str(_CHANNEL_FD), str(os.getpid())],
            {theirs.fileno(): _CHANNEL_FD},
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return pid, ours


def spawn_python(arguments: list[str], fds: dict[int, int]) -> int:
    """Start this interpreter with clean signals, our descriptors `fds` under the numbers given; returns its pid."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in fds.items()],
        setsigmask=(),
        setsigdef=(*HANDLED, *IGNORED, signal.SIGPIPE),
    )
