"""The messages of a lifespan, in both directions: the `lifespan` part of ASGI as a table.

STARTING ── startup.complete ── STARTED ── (shutdown) ── STOPPING ── shutdown.complete or .failed ── STOPPED
└────── startup.failed ──── FAILED         └── shutdown.failed ── ENDED
"""

from enum import StrEnum

from asgi_master.asgi.types import Message


class Phase(StrEnum):
    """Where the lifespan stands."""

    STARTING = "starting"
    STARTED = "started"
    ENDED = "over"
    """It failed after its startup, before a shutdown was requested."""
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


# The messages that the application may send, and the phase that follows. `startup.failed` and `shutdown.failed` carry a
# message.
_SENDS = {
    (Phase.STARTING, "lifespan.startup.complete"): Phase.STARTED,
    (Phase.STARTING, "lifespan.startup.failed"): Phase.FAILED,
    # Frameworks send these, with the reason, when their lifespan fails before the shutdown was requested.
    (Phase.STARTED, "lifespan.shutdown.failed"): Phase.ENDED,
    (Phase.STOPPING, "lifespan.shutdown.complete"): Phase.STOPPED,
    (Phase.STOPPING, "lifespan.shutdown.failed"): Phase.STOPPED,
}


class LifespanSession:
    """The lifespan of one application."""

    __slots__ = ("_shutdown_received", "_startup_received", "is_aware", "phase", "reason")

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.reason = ""
        """The message of the application's `failed`."""
        self.is_aware = False
        """Whether the application speaks this protocol, as far as it has received or sent anything."""
        self._startup_received = self._shutdown_received = False

    @property
    def is_over(self) -> bool:
        """Whether no message follows."""
        return self.phase in (Phase.FAILED, Phase.ENDED, Phase.STOPPED)

    def request_shutdown(self) -> None:
        """The server stops: the next message is `lifespan.shutdown`."""
        self.phase = Phase.STOPPING

    def next_message(self) -> Message | None:
        """What `receive` returns; `None` means that it has to wait."""
        self.is_aware = True
        if self.is_over:
            return None
        if not self._startup_received:
            self._startup_received = True
            return {"type": "lifespan.startup"}
        if self.phase is Phase.STOPPING and not self._shutdown_received:
            self._shutdown_received = True
            return {"type": "lifespan.shutdown"}
        return None

    def handle(self, message: Message) -> None:
        """Take a message that the application sends. Raises `RuntimeError` for one that may not come now."""
        kind = str(message.get("type"))
        if self.phase is Phase.STARTING and not kind.startswith("lifespan."):
            # It answers an HTTP request without reading the scope.
            self.is_aware = False
            raise RuntimeError(f"{kind!r} sent to a lifespan scope")
        self.is_aware = True
        following = _SENDS.get((self.phase, kind))
        if following is None:
            raise RuntimeError(f"{kind!r} sent while the lifespan is {self.phase}")
        self.phase = following
        if kind.endswith(".failed"):
            self.reason = str(message.get("message", "")) or "no reason given"
