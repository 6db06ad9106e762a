"""Hear what children say, so much of it at a time that nobody is kept from being heard, and hang up."""

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator

from asgi_master.ipc.channel import Channel, Received
from asgi_master.ipc.conduct import BreachError
from asgi_master.master.child import Child
from asgi_master.master.disposal import Disposal

MESSAGES_A_TURN = 32
"""Of one child: the selector tells again of those who have more to say."""
LAST_WORDS = 1024
"""Messages of a child that died: more than a channel holds."""


class Hearing:
    """The channels of all children."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.disposal = Disposal()
        """Closes what children may have sent something through."""

    def watch(self, channel: Channel, read: Callable[[], None]) -> None:
        """Have `read` called whenever somebody said something there, unless it is closed already."""
        if channel.fileno() >= 0:
            self._selector.register(channel, selectors.EVENT_READ, read)

    def messages(self, child: Child, most: int) -> Iterator[Received]:
        """What can be read now, up to so many; hangs up at the end of file. Raises `BreachError`."""
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
