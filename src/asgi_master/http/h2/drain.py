"""When the end of a connection is announced, so that it costs the peer no request (RFC 9113 §6.8).

The RFC has two GOAWAYs, with a round trip in between. Not every client is up to that. Those on the Python library h2
give up what is under way when they read GOAWAY, also responses that the application has not looked at yet and requests
that it is about to send; but what is behind the last stream they send again. nginx, and haproxy as a rule, fail that,
and are up to the rest. So, while another worker serves, a drain waits for the right moment:

  - With one stream at a time, GOAWAY leaves together with the end of a response.
  - A connection without a stream yet is about to have one, and httpx gives that up at a GOAWAY that names no stream.
  - In a pause, PING is sent first. A peer that closes idle connections when anything arrives does that (nginx), one
    that is about to send a request does so; after an answer, or silence, GOAWAY names the last stream at once.
  - With streams side by side, it is a moment without one.
  - If such a peer is one that gives up, PING is sent in that moment. Streams that come after it are *held*: nothing of
    them is served. The answer means that the peer has read all of its responses. When no stream was opened for a moment
    either, since all that the peer has to ask is held, GOAWAY leaves the held ones out, and the peer sends them again
    on another connection. If no moment without a stream comes, one is made: streams are held until those that run have
    ended, for a short time.
  - Without any of these in time, it is the two GOAWAYs.
"""

from enum import Enum, auto
from typing import Final

_LONGEST_WAIT: Final = 1.0
"""Seconds in which the right moment is waited for."""
_PAUSE: Final = 0.05
"""Seconds without a stream before PING is sent: right behind a response, its answer would say nothing of the pause."""
_PROBE_ANSWER: Final = 0.25
"""Seconds that a peer without a stream has to answer PING, before GOAWAY is sent to it anyway."""
_QUIET: Final = 0.05
"""Seconds without a new stream after which a peer whose streams are held is taken to have no further request."""
_LONGEST_QUIET: Final = 0.4
"""Seconds after PING in which such a peer may still open streams."""
_GOAWAY_ANSWER: Final = 1.0
"""Seconds that a peer has to answer the first GOAWAY, before the last stream is named anyway."""
_UNHELD: Final = 0.5
"""Seconds in which a moment without a stream may come by itself."""
_LONGEST_HOLD: Final = 0.1
"""Seconds in which streams that run may end while others are held."""


class Step(Enum):
    """What a drain does next."""

    WAIT = auto()
    PROBE = auto()
    """Send PING; its answer is to be reported by `Drain.probe_answered`."""
    RELEASE = auto()
    """Serve the streams that are held."""
    ANNOUNCE = auto()
    """Send GOAWAY, and call `Drain.announced`."""
    FINISH = auto()
    """Send the second GOAWAY."""


class Drain:
    """The drain of one connection, from its first `next_step` on. Times are in seconds, of one monotonic clock.

    Streams are counted from the beginning of the connection: `opened` is how many there were, `running` how many are,
    those that are held not among them.
    """

    __slots__ = (
        "_announced_at",
        "_began_at",
        "_gives_up",
        "_held_at",
        "_is_serial",
        "_may_hold",
        "_pause",
        "_pause_at",
        "_probed_at",
        "_quiet_since",
        "is_holding",
        "others_serve",
        "owes_response",
    )

    def __init__(self, now: float, *, is_serial: bool, gives_up: bool) -> None:
        """`is_serial` is whether the peer had one stream at a time, as far as is known.

        `gives_up` is whether it is one that takes GOAWAY for the end of all streams.
        """
        self._gives_up = gives_up
        self._began_at = now
        self._is_serial = is_serial
        self._pause = -1  # how many streams had been opened when none was found running
        self._pause_at = 0.0
        self._probed_at: float | None = None
        self._held_at = 0.0
        self._quiet_since: float | None = (
            None  # when PING was answered, or the last stream was opened after that
        )
        self._may_hold = True  # whether streams were not held in vain before
        self._announced_at: float | None = None
        self.others_serve = False
        """Whether another worker takes over. To be set before each `next_step`."""
        self.is_holding = False
        """Whether streams that are opened now are held."""
        self.owes_response = False
        """Whether GOAWAY leaves with the end of the response that is under way."""

    @property
    def watches_streams(self) -> bool:
        """Whether the first moment without a stream matters."""
        return self._gives_up and not self._is_serial and not self.is_announced

    @property
    def is_announced(self) -> bool:
        """Whether a GOAWAY was sent."""
        return self._announced_at is not None

    def stream_opens(self, now: float, *, is_alone: bool) -> None:
        """The peer opens a stream; `is_alone` is whether all others have their responses."""
        if self._quiet_since is not None:
            self._quiet_since = now
        # One that comes before the last response has left is beside that.
        self._is_serial = self._is_serial and not self.owes_response and is_alone
        self.owes_response = self._is_serial and not self.is_announced

    def next_step(self, now: float, opened: int, running: int) -> Step:
        """What to do now; to be asked several times a second, and when a stream has ended if `watches_streams`."""
        if self._announced_at is not None:
            return Step.FINISH if now - self._announced_at >= _GOAWAY_ANSWER else Step.WAIT
        self._is_serial = self._is_serial and running <= 1
        if not self.others_serve:
            return Step.ANNOUNCE
        if self._is_serial and not running:
            if not opened and now - self._began_at < _LONGEST_WAIT:
                return Step.WAIT  # the first request is on its way
            return self._step_in_pause(now, opened)  # which ends soon, or with the next response
        if now - self._began_at >= _LONGEST_WAIT:
            return Step.ANNOUNCE
        if self._is_serial:
            return Step.WAIT
        if self._gives_up:
            return self._step_with_held(now, running)
        return Step.WAIT if running else Step.ANNOUNCE

    def _step_in_pause(self, now: float, opened: int) -> Step:
        if self._pause != opened:
            self._pause, self._pause_at, self._probed_at = opened, now, None
        elif self._probed_at is None:
            if now - self._pause_at >= _PAUSE:
                self._probed_at = now
                return Step.PROBE
        elif now - self._probed_at >= _PROBE_ANSWER:
            return Step.ANNOUNCE
        return Step.WAIT

    def _step_with_held(self, now: float, running: int) -> Step:
        if not running:
            if self.is_holding and self._probed_at is not None:
                is_over = now - self._probed_at >= _LONGEST_QUIET
                is_quiet = self._quiet_since is not None and now - self._quiet_since >= _QUIET
                return Step.ANNOUNCE if is_over or is_quiet else Step.WAIT
            self.is_holding = True
            self._probed_at = now
            return Step.PROBE
        if self.is_holding:
            if now - self._held_at >= _LONGEST_HOLD:
                self.is_holding = self._may_hold = False
                return Step.RELEASE
        elif self._may_hold and now - self._began_at >= _UNHELD:
            self.is_holding = True
            self._held_at = now
            self._probed_at = None
        return Step.WAIT

    def probe_answered(self, now: float, opened: int, running: int) -> Step:
        """PING was answered: what to do."""
        if self.is_holding:
            self._quiet_since = now
        elif self._pause == opened and not (running or self.is_announced):
            return Step.ANNOUNCE
        return Step.WAIT

    def announced(self, now: float) -> None:
        """A GOAWAY was sent."""
        self._announced_at = now
        self.owes_response = self.is_holding = False
