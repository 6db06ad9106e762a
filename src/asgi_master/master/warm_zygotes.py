"""In development: the warm base, and the zygote that it forked for the next reload (see `worker.warm.base`)."""

import logging
import os
import selectors
from collections.abc import Callable

from asgi_master.control.component import Component
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.conduct import BASE, BreachError, Conduct
from asgi_master.ipc.memory import growing_file
from asgi_master.ipc.messages import ForkZygote, WarmedUp, WarmUp, ZygoteForked
from asgi_master.master.children import Children
from asgi_master.master.reaper import is_child
from asgi_master.master.running_settings import RunningSettings
from asgi_master.supervision.notices import MasterReady, Notice, ReloadCommitted

log = logging.getLogger("asgi_master")

_ATTEMPTS = 5
"""To find how much can be imported without the application."""

Start = Callable[[], tuple[int, Channel]]


class ZygoteSource:
    """Where zygotes come from: the one that waits, or else a fresh interpreter."""

    def __init__(self, fresh: Start) -> None:
        self._fresh = fresh
        self.take_waiting: Callable[[], tuple[int, Channel] | None] = lambda: None

    def new_zygote(self) -> tuple[int, Channel]:
        """A process that waits for its `Boot`: its pid and our end of its channel. Raises `OSError`."""
        return self.take_waiting() or self._fresh()


class WarmZygotes(Component):
    """Keeps a warm base that fits the code which serves, and one zygote of it that waits."""

    def __init__(
        self,
        source: ZygoteSource,
        new_base: Start,
        children: Children,
        settings: RunningSettings,
        selector: selectors.BaseSelector,
        directory: str,
    ) -> None:
        """`new_base` starts one. Raises `OSError`."""
        self._new_base = new_base
        self._children = children
        self._settings = settings
        self._selector = selector
        self._directory = directory
        self._learnt_fd = growing_file("learnt imports")
        self._base: Channel | None = None
        self._conduct = Conduct(BASE)
        self._ordered: Channel | None = None
        """Our end of the channel of the zygote that is being forked."""
        self._waiting: tuple[int, Channel] | None = None
        self._attempts = 0
        children.learnt = (self._learnt_fd,)
        source.take_waiting = self._take_waiting

    def note(self, notice: Notice) -> None:
        """After a cold import has shown what to import, start a base that does."""
        if not isinstance(notice, MasterReady | ReloadCommitted):
            return
        if self._children.problem_of(notice.generation):
            return
        # "cold: REASON" is what a zygote of the base objected to; plain "cold" one that the base was not ready for.
        if self._base is None or self._children.manner_of(notice.generation).startswith("cold:"):
            self._attempts = 0
            self._restart()

    def close(self) -> None:
        """Let go of all of it: the processes end with their channels."""
        self._let_go()
        if self._learnt_fd >= 0:
            self._children.learnt = ()
            os.close(self._learnt_fd)
            self._learnt_fd = -1

    def _take_waiting(self) -> tuple[int, Channel] | None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._children.expect_no_exit(waiting[0])
            self._order_zygote()
        return waiting

    def _restart(self, limit: int = -1) -> None:
        self._let_go()
        self._children.no_base_because = ""
        try:
            pid, channel = self._new_base()
        except OSError as error:
            log.debug("no warm base: %s", error)
            return
        self._children.expect_exit(pid, lambda _status: None)
        self._conduct = Conduct(BASE)
        self._base = channel
        self._selector.register(channel, selectors.EVENT_READ, self._read)
        channel.send(WarmUp(self._directory, self._settings.current, limit), (self._learnt_fd,))

    def _let_go(self) -> None:
        if self._base is not None:
            self._selector.unregister(self._base)
            self._base.close()
            self._base = None
        if self._ordered is not None:
            self._ordered.close()
            self._ordered = None
        if self._waiting is not None:
            self._waiting[1].close()
            self._waiting = None

    def _order_zygote(self) -> None:
        if self._base is None or self._ordered is not None:
            return
        ours, theirs = Channel.pair()
        ours.setblocking(False)
        ours.refuse_descriptors()
        if self._base.send(ForkZygote(), (theirs.fileno(),)):
            self._conduct.asked()
            self._ordered = ours
        else:
            ours.close()
        theirs.close()

    def _read(self) -> None:
        base = self._base
        if base is None:
            return
        try:
            received = base.receive()
        except BlockingIOError:
            return
        except ValueError as error:
            self._distrust(f"said what no version of this program says: {error}")
            return
        if received is None:
            self._let_go()
            return
        try:
            # The order is that of `Conduct`; the time does not count here: each message is an answer.
            self._conduct.judge(received.message, 0.0)
        except BreachError as breach:
            self._distrust(str(breach))
            return
        match received.message:
            case WarmedUp(_, refusal, limit):
                if refusal and limit > 0 and self._attempts < _ATTEMPTS:
                    self._attempts += 1
                    self._restart(limit)
                elif refusal:
                    self._let_go()
                    self._children.no_base_because = refusal
                    log.debug("reloads are cold: %s", refusal)
                else:
                    self._order_zygote()
            case ZygoteForked(pid):
                self._forked(pid, received.sender)

    def _forked(self, pid: int, sender: int) -> None:
        channel, self._ordered = self._ordered, None
        others = {*self._children.zygote_pids(), *self._children.worker_pids().values()}
        if channel is None or pid <= 0 or sender not in {0, pid} or pid in others or not is_child(pid):
            self._distrust(f"reported pid {pid}, which is not a process of it")
            if channel is not None:
                channel.close()
            return
        self._waiting = (pid, channel)
        self._children.expect_exit(pid, lambda _status: self._gone(pid))

    def _gone(self, pid: int) -> None:
        if self._waiting is not None and self._waiting[0] == pid:
            self._waiting[1].close()
            self._waiting = None

    def _distrust(self, why: str) -> None:
        log.error("the warm base %s; reloads are cold", why)
        self._let_go()
