"""When the end of a connection is announced, so that it costs the peer no request (RFC 9113 §6.8).

The RFC has two GOAWAYs, with a round trip in between. Not every client is up to that: those on the Python library h2
give up what is under way when they read GOAWAY, and nginx fails a request that is behind the last stream, though it
could be sent again. So, while another worker serves, a drain waits for the right moment:

  - With one stream at a time, GOAWAY leaves together with the end of a response.
  - In a pause, PING is sent first. A peer that closes idle connections when anything arrives does that (nginx), one
    that is about to send a request does so; after an answer, or silence, GOAWAY names the last stream at once.
  - With streams side by side, it is a moment without one.
  - Without any of these in time, it is the two GOAWAYs.
"""

from enum import Enum, auto
from typing import Final

_LONGEST_WAIT: Final = 1.0
"""Seconds in which a moment without a stream is waited for."""
_PAUSE: Final = 0.05
"""Seconds without a stream before PING is sent: right behind a response, its answer would say nothing of the pause."""
_PROBE_ANSWER: Final = 0.25
"""Seconds that a peer without a stream has to answer PING, before GOAWAY is sent to it anyway."""
_GOAWAY_ANSWER: Final = 1.0
"""Seconds that a peer has to answer the first GOAWAY, before the last stream is named anyway."""


class Step(Enum):
    """What a drain does next."""

    WAIT = auto()
    PROBE = auto()
    """Send PING; its answer is to be reported by `Drain.is_over_when_answered`."""
    ANNOUNCE = auto()
    """Send GOAWAY, and call `Drain.announced`."""
    FINISH = auto()
    """Send the second GOAWAY."""


class Drain:
    """The drain of one connection, from its first `next_step` on. Times are in seconds, of one monotonic clock.

    Streams are counted from the beginning of the connection: `opened` is how many there were, `running` how many are.
    """

    __slots__ = (
        "_announced_at",
        "_began_at",
        "_is_serial",
        "_pause",
        "_pause_at",
        "_probed_at",
        "owes_response",
    )

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._is_serial = True  # whether the peer had one stream at a time
        self._pause = -1  # how many streams had been opened when none was found running
        self._pause_at = 0.0
        self._probed_at: float | None = None
        self._announced_at: float | None = None
        self.owes_response = False
        """Whether GOAWAY leaves with the end of the response that is under way."""

    @property
    def is_announced(self) -> bool:
        """Whether a GOAWAY was sent."""
        return self._announced_at is not None

    def stream_opens(self, *, is_alone: bool) -> None:
        """The peer opens a stream; `is_alone` is whether all others have their responses."""
        # One that comes before the last response has left is beside that.
        self._is_serial = self._is_serial and not self.owes_response and is_alone
        self.owes_response = self._is_serial and not self.is_announced

    def next_step(self, now: float, opened: int, running: int, *, others_serve: bool) -> Step:
        """What to do now; to be asked several times a second. `others_serve` is whether another worker takes over."""
        if self._announced_at is not None:
            return Step.FINISH if now - self._announced_at >= _GOAWAY_ANSWER else Step.WAIT
        if not others_serve or now - self._began_at >= _LONGEST_WAIT:
            return Step.ANNOUNCE
        if running:
            self._is_serial = self._is_serial and running == 1
            return Step.WAIT
        if not self._is_serial:
            return Step.ANNOUNCE
        if self._pause != opened:
            self._pause, self._pause_at, self._probed_at = opened, now, None
        elif self._probed_at is None:
            if now - self._pause_at >= _PAUSE:
                self._probed_at = now
                return Step.PROBE
        elif now - self._probed_at >= _PROBE_ANSWER:
            return Step.ANNOUNCE
        return Step.WAIT

    def is_over_when_answered(self, opened: int, running: int) -> bool:
        """Whether GOAWAY may be sent, as PING was answered: no stream was opened meanwhile."""
        return not running and not self.is_announced and self._pause == opened

    def announced(self, now: float) -> None:
        """A GOAWAY was sent."""
        self._announced_at = now
        self.owes_response = False
