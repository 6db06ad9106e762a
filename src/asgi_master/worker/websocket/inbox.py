"""The messages that wait for the application of one WebSocket, and the application waiting for messages."""

import asyncio
from collections import deque

from asgi_master.http.limits import WebSocketLimits
from asgi_master.http.websocket.frames import UNLIMITED


class Inbox:
    """Bounded in messages, and in bytes by the size of one message: many large ones would be too much."""

    __slots__ = ("_bytes", "_loop", "_messages", "_most", "_most_bytes", "_receivers")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: WebSocketLimits) -> None:
        self._loop = loop
        self._most = limits.queue_size or UNLIMITED
        self._most_bytes = limits.message_size or UNLIMITED
        self._messages: deque[str | bytes] = deque()
        self._bytes = 0
        self._receivers: list[asyncio.Future[None]] = []

    @property
    def has_room(self) -> bool:
        """Whether one more message may be put."""
        return len(self._messages) < self._most and self._bytes < self._most_bytes

    def put(self, message: str | bytes) -> bool:
        """Add a message; false if it was the last that there is room for. The caller wakes the application."""
        messages = self._messages
        messages.append(message)
        self._bytes += len(message)
        return len(messages) < self._most and self._bytes < self._most_bytes

    def take(self) -> str | bytes | None:
        """The oldest message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message

    def clear(self) -> None:
        """Forget all messages."""
        self._messages.clear()
        self._bytes = 0

    async def wait(self) -> None:
        """Wait for `wake`. The message stays here meanwhile, so that a cancelled wait loses none."""
        receiver = self._loop.create_future()
        self._receivers.append(receiver)
        try:
            await receiver
        finally:
            self._receivers.remove(receiver)

    def wake(self) -> None:
        """Have everybody who waits look again."""
        for receiver in self._receivers:
            if not receiver.done():
                receiver.set_result(None)
