"""What a worker counts: one declaration gives each number its words in a row of the scoreboard, and its metric.

Rules:
  - Numbers of words are never changed or reused: the master and its workers can be of different versions.
  - A count is an attribute of `Stats`, as the hot path wants it; the worker's timer copies all of them to the row.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, fields
from enum import IntEnum
from operator import itemgetter
from typing import Any

from asgi_master.records import mutable_record, record

DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds, in seconds, of the buckets that count responses by their duration; a last bucket has none."""
BUCKET_COUNT = len(DURATION_BOUNDS) + 1
FIRST_BUCKET = 32
"""The word of the first bucket. Words of other numbers are below it, or above the last bucket."""

SHORT = DURATION_BOUNDS[0]
"""Seconds: responses that take no longer are counted without a search for their bucket."""

MAX_COUNT = 1 << 52
"""Of one worker: the sum over all rows fits a word, and a float."""
MAX_NS = 1 << 62


class Field(IntEnum):
    """Words that are read and written by themselves."""

    STATE = 0
    HEARTBEAT_NS = 4
    """`CLOCK_MONOTONIC` of the last turn of the worker's loop timer."""
    CONNECTIONS = 5
    LOOP_LAG_NS = 16
    """How late the last heartbeat was."""
    PROGRESS_NS = 24
    """`CLOCK_MONOTONIC` of when a thread of the worker last saw progress, even if its loop does not turn."""


@record
class Number:
    """How a number of `Stats` is published."""

    word: int
    """The first of its words. Of a list it is that of index 1; index 0 is not published."""
    suffixes: tuple[str, ...] = ("",)
    """For each of its words, what follows the attribute's name in the word's name."""
    is_time: bool = False
    """Whether the attribute is in seconds. The word is in nanoseconds."""
    grows: bool = True
    """Whether it only grows while the row belongs to one worker. Otherwise it is a state."""
    metric: str = ""
    """The Prometheus counter that is its value; empty where `control.metrics` shows it in another way, or not."""
    help: str = ""
    """The meaning of the metric."""

    @property
    def words(self) -> range:
        """All of its words, in order."""
        return range(self.word, self.word + len(self.suffixes))


_NUMBER = "asgi_master.number"


def _count(word: int, metric: str = "", help: str = "") -> Any:  # noqa: A002 -- as in `settings.fields`
    return field(default=0, metadata={_NUMBER: Number(word, metric=metric, help=help)})


def _gauge(word: int) -> Any:
    return field(default=0, metadata={_NUMBER: Number(word, grows=False)})


def _seconds(word: int) -> Any:
    return field(default=0.0, metadata={_NUMBER: Number(word, ("_ns",), is_time=True)})


def _counts(word: int, *suffixes: str) -> Any:
    zeros = [0] * (1 + len(suffixes))
    return field(default_factory=zeros.copy, metadata={_NUMBER: Number(word, suffixes)})


@mutable_record
class Stats:
    """The numbers of one worker, or the sums of many."""

    connections: int = _gauge(Field.CONNECTIONS)
    websockets: int = _gauge(6)
    in_flight: int = _gauge(7)
    """HTTP requests whose application has not finished."""
    accepted: int = _count(
        8, "connections_accepted_total", "Connections that workers accepted from the listeners."
    )
    requests: int = _count(
        9, "http_requests_total", "Requests whose head arrived, upgrades to WebSocket included."
    )
    responses: list[int] = _counts(10, "_1xx", "_2xx", "_3xx", "_4xx", "_5xx")
    """By class: index 1 to 5 is 1xx to 5xx."""
    application_errors: int = _count(
        15,
        "application_errors_total",
        "Exceptions the application did not catch, responses it did not finish or did not begin in time.",
    )
    late_errors: int = _count(22)
    """Of the application errors, those that broke off a response, or a WebSocket, that is not counted as 5xx."""
    tls_failures: int = _count(
        23, "tls_handshake_failures_total", "TLS handshakes that failed or took too long."
    )
    http2_connections: int = _count(
        48, "http2_connections_total", "Connections on which clients began to speak HTTP/2."
    )
    http2_streams: int = _count(
        49, "http2_streams_total", "Streams that clients opened: requests and WebSockets over HTTP/2."
    )
    http2_resets: int = _count(
        50,
        "http2_streams_reset_total",
        "Streams that clients reset, or that were reset for what clients did wrong.",
    )
    http2_goaways: list[int] = _counts(51, "_no_error", "_protocol_error", "_enhance_your_calm", "_other")
    """HTTP/2 connections that were ended, by the code of GOAWAY; index 1 to 4."""
    passed: int = _count(
        55,
        "session_connections_passed_total",
        "Connections that were passed to the worker that has the session of their next request.",
    )
    relayed: int = _count(
        56,
        "session_requests_relayed_total",
        "Requests and WebSockets that were relayed to the worker that has their session.",
    )
    wsgi_threads: int = _gauge(25)
    """Threads that may call a WSGI application at once; 0 for ASGI."""
    wsgi_busy: int = _gauge(26)
    """Of them, those that do."""
    wsgi_stuck: int = _gauge(27)
    """Of those, the ones whose call has lasted longer than `stall_warn`."""
    wsgi_queued: int = _gauge(28)
    """Requests that wait for a thread."""
    wsgi_stuck_calls: int = _count(
        29,
        "wsgi_stuck_calls_total",
        "Calls of a WSGI application, with the iteration of what it returned, that took longer than --stall-warn.",
    )
    wsgi_calls: int = _count(30)
    """Requests that a thread took from the queue."""
    wsgi_wait: float = _seconds(31)
    """Seconds that all of those together waited in it."""
    short_responses: int = _count(FIRST_BUCKET)
    """Complete responses whose time from the request's head to their end is within `SHORT`. Without streams."""
    long_responses: list[int] = _counts(FIRST_BUCKET + 1, *map(str, range(1, BUCKET_COUNT)))
    """All others, in the buckets that `DURATION_BOUNDS` divides."""
    response_time: float = _seconds(17)
    """Seconds, of all of those together."""
    streams: int = _count(18)
    """Responses that came in pieces and are complete; they are in no bucket."""
    stream_time: float = _seconds(19)
    """Seconds, of all of those together."""
    websockets_ended: int = _count(20)
    websocket_time: float = _seconds(21)
    """Seconds, of all of those together."""

    @property
    def buckets(self) -> list[int]:
        """Responses that ended within each of `DURATION_BOUNDS` but not the one before; the last is the rest."""
        return [self.short_responses, *self.long_responses[1:]]

    def response_ended(self, duration: float, *, is_stream: bool) -> None:
        """Count a complete response, `duration` seconds after its request's head. The caller counts short ones."""
        if is_stream:
            self.streams += 1
            self.stream_time += duration
        else:
            self.long_responses[bisect_left(DURATION_BOUNDS, duration)] += 1
            self.response_time += duration

    def websocket_ended(self, duration: float) -> None:
        """Count a WebSocket that is over, `duration` seconds after its handshake."""
        self.websockets_ended += 1
        self.websocket_time += duration

    def words(self) -> Iterator[tuple[int, int]]:
        """Each word with its value."""
        for name, number in NUMBERS.items():
            value = getattr(self, name)
            if number.is_time:
                # The nanoseconds of ten thousand WebSockets that last a month do not fit a word.
                yield number.word, min(int(value * 1e9), MAX_NS)
            elif len(number.suffixes) == 1:
                yield number.word, value
            else:
                yield from enumerate(value[1:], number.word)

    @classmethod
    def of_words(cls, words: Sequence[int]) -> "Stats":
        """The numbers of a row."""
        return cls(*[read(words) for read in _READERS])


NUMBERS: dict[str, Number] = {entry.name: entry.metadata[_NUMBER] for entry in fields(Stats)}
"""By attribute of `Stats`, in their order."""


def _reader(number: Number) -> Callable[[Sequence[int]], Any]:
    first, stop = number.words.start, number.words.stop
    if number.is_time:
        return lambda words: words[first] / 1e9
    return itemgetter(first) if stop - first == 1 else lambda words: [0, *words[first:stop]]


_READERS = [_reader(number) for number in NUMBERS.values()]

WORDS = {field.name: int(field) for field in Field} | {
    f"{name}{suffix}".upper(): word
    for name, number in NUMBERS.items()
    for word, suffix in zip(number.words, number.suffixes, strict=True)
}
"""All words by name, those of the buckets included."""

TIMES = frozenset(word for name, word in WORDS.items() if name.endswith("_NS"))
"""The words in nanoseconds."""

GROWING = sorted(word for number in NUMBERS.values() if number.grows for word in number.words)
"""The words that only grow."""

assert len(set(WORDS.values())) == len(WORDS), "two numbers share a word"
