"""Where code is: a stack as places in files, and which of them the author of the application will recognise.

Of a stack the innermost frame says what is done (`time.sleep`, a read from a socket), and the innermost frame of
the application says who does it. Both are wanted; the frames of frameworks and the standard library between are not.
"""

import linecache
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from asgi_master.telemetry.territory import Ground, Territory

_LONGEST_SOURCE = 120
_DEEPEST = 200
"""Frames looked at, from the innermost: an endless recursion must not make an endless report."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line that is being executed, and the function it belongs to."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """`file:line in function: source`, as far as the source can be read."""
        source = linecache.getline(self.file, self.line).strip()
        if len(source) > _LONGEST_SOURCE:
            source = f"{source[:_LONGEST_SOURCE]}..."
        where = f"{self.file}:{self.line} in {self.function}"
        return f"{where}: {source}" if source else where


def application_place(places: Sequence[Place], territory: Territory) -> Place | None:
    """The innermost place of the application, or else of what was installed for it. Innermost place first."""
    best, found = Ground.STANDARD_LIBRARY, None
    for place in places:
        ground = territory.ground(place.file)
        if ground > best:
            best, found = ground, place
    return found


def describe(places: Sequence[Place], territory: Territory) -> str:
    """The application's place, and the innermost one if it is another; empty if there is none."""
    if not places:
        return ""
    innermost = places[0]
    place = application_place(places, territory)
    if place is None or place == innermost:
        return str(innermost)
    return f"{place} (now at {innermost})"


def place_of(code: CodeType, line: int | None) -> Place:
    """The place that a frame with this code stands at."""
    return Place(code.co_filename, line or code.co_firstlineno, code.co_qualname)


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """This frame of a running stack, its caller, and so on."""
    for _ in range(_DEEPEST):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def waiting_frames(coroutine: Any) -> list[FrameType]:
    """The frames of a coroutine that does not run, innermost first.

    `Task.get_stack` tells the outermost of them only.
    """
    frames: list[FrameType] = []
    for _ in range(_DEEPEST):
        frame, awaited = _suspended(coroutine)
        if frame is None:
            break
        frames.append(frame)
        coroutine = awaited
    frames.reverse()
    return frames


def waiting_places(coroutine: Any) -> list[Place]:
    """Where a coroutine that does not run waits, innermost first."""
    return places_of(waiting_frames(coroutine))


def places_of(frames: Iterable[FrameType]) -> list[Place]:
    """The places that frames stand at."""
    return [place_of(frame.f_code, frame.f_lineno) for frame in frames]


def _suspended(awaitable: Any) -> tuple[FrameType | None, Any]:
    """The frame of a coroutine, a generator or an asynchronous generator, and what it waits for."""
    for frame, awaited in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
        if hasattr(awaitable, frame):
            return getattr(awaitable, frame), getattr(awaitable, awaited)
    return None, None
