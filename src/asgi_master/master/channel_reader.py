"""Reads messages of children, a bounded number of each at a time, and closes their channels."""

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator

from asgi_master.ipc.channel import Channel, Received
from asgi_master.ipc.conduct import BreachError
from asgi_master.master.child import Child
from asgi_master.master.disposal import Disposal

MESSAGES_PER_TURN = 32
"""Of one child: the selector reports the channel again if there are more."""
MAX_LAST_MESSAGES = 1024
"""Messages that are read of a child that died: more than a channel holds."""


class ChannelReader:
    """The channels of all children."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.disposal = Disposal()
        """Closes sockets that may hold descriptors from children."""

    def watch(self, channel: Channel, read: Callable[[], None]) -> None:
        """Call `read` whenever there is a message, unless the channel is closed already."""
        if channel.fileno() >= 0:
            self._selector.register(channel, selectors.EVENT_READ, read)

    def messages(self, child: Child, most: int) -> Iterator[Received]:
        """Read up to `most` messages; closes the channel at its end of file. Raises `BreachError`."""
        channel = child.channel
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                if channel.fileno() < 0:
                    return
                try:
                    received = channel.receive()
                except ValueError as error:
                    raise BreachError(f"said what no version of this program says: {error}") from None
                if received is None:
                    self.hang_up(channel)
                    return
                child.conduct.judge(received.message, time.monotonic())
                yield received

    def hang_up(self, channel: Channel) -> None:
        """Close it, if it is not closed yet."""
        if channel.fileno() < 0:
            return
        try:
            self._selector.unregister(channel)
        finally:
            if channel.may_hold_descriptors:
                self.disposal.close(channel)
            else:
                channel.close()
