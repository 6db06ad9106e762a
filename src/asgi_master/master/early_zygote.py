"""The first zygote, started before the master imports the rest of itself: the two imports run in parallel (ADR 8).

It needs no setting to import what every zygote imports; then it waits for its `Boot`, which names the application.
Every import in this file delays it, so the channel is made of its socket only when it is asked for.
"""

import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from asgi_master.master import variables
from asgi_master.master.interpreter import Interpreter
from asgi_master.master.spawn import spawn_zygote
from asgi_master.telemetry.streams import open_missing

if TYPE_CHECKING:
    from asgi_master.ipc.channel import Channel

_STDERR = 2
_FAULT = "ASGI_MASTER_FAULT"
"""`faults.VARIABLE`; without it, there is no reason to import that before the zygote."""


class EarlyZygote:
    """Starts zygotes, the first of them on entry. On exit one that was not taken is killed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """At a live upgrade no early zygote is started: the master before has one."""
        self._is_upgrade = variables.UPGRADE in environ
        if _FAULT in environ:
            # Refuses a misspelt fault here: a zygote would do so with a traceback.
            importlib.import_module("asgi_master.faults")
        self._waiting: tuple[int, socket.socket] | None = None
        self.interpreter = Interpreter()
        """What zygotes run in."""

    def __enter__(self) -> Self:
        open_missing()
        if not self._is_upgrade:
            _inherit_nothing()
            with contextlib.suppress(OSError):  # `zygote` fails in the same way, and its caller reports it
                self._waiting = spawn_zygote(self.interpreter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if self._waiting is not None:
            pid, channel = self._waiting
            channel.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def zygote(self) -> "tuple[int, Channel]":
        """A zygote that waits for its `Boot`: its pid and our end of its channel. Raises `OSError`."""
        waiting, self._waiting = self._waiting, None
        return _with_channel(waiting or spawn_zygote(self.interpreter))

    def warm_base(self) -> "tuple[int, Channel]":
        """A process that waits for `WarmUp`: its pid and our end of its channel. Raises `OSError`."""
        return _with_channel(spawn_zygote(self.interpreter, "base"))


def _with_channel(started: tuple[int, socket.socket]) -> "tuple[int, Channel]":
    from asgi_master.ipc.channel import Channel  # noqa: PLC0415 -- after the start

    pid, end = started
    channel = Channel(end)
    channel.refuse_descriptors()
    return pid, channel


def _inherit_nothing() -> None:
    """Keep zygotes from inheriting descriptors that this process was given, such as systemd's sockets."""
    with contextlib.suppress(FileNotFoundError):  # where there is no /proc
        for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 -- pathlib can wait
            if fd > _STDERR:
                with contextlib.suppress(OSError):  # that of the listing, closed by now
                    os.set_inheritable(fd, False)
