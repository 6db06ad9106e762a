"""Locations in code: stacks as lines of files, and the innermost one that belongs to the application.

The innermost frame of a stack says what is being done (`time.sleep`, a read from a socket), and the innermost frame of
the application says who does it. Reports show both, without the frames of frameworks and the standard library between.
"""

import linecache
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

from asgi_master.records import record
from asgi_master.telemetry.code_ownership import CodeOrigin, CodeOwnership

_MAX_SOURCE = 120
_MAX_DEPTH = 200
"""Maximum number of frames, from the innermost: bounds the report of an endless recursion."""


@record
class CodeLocation:
    """A line of code, and the function that contains it."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """`file:line in function: source`, if the source can be read."""
        source = linecache.getline(self.file, self.line).strip()
        if len(source) > _MAX_SOURCE:
            source = f"{source[:_MAX_SOURCE]}..."
        where = f"{self.file}:{self.line} in {self.function}"
        return f"{where}: {source}" if source else where


def application_location(locations: Sequence[CodeLocation], ownership: CodeOwnership) -> CodeLocation | None:
    """The innermost location of the application, or else of an installed package. Innermost location first."""
    best, found = CodeOrigin.STANDARD_LIBRARY, None
    for location in locations:
        origin = ownership.origin(location.file)
        if origin > best:
            best, found = origin, location
    return found


def describe(locations: Sequence[CodeLocation], ownership: CodeOwnership) -> str:
    """The application's location, and the innermost one if it is another; empty if there is none."""
    if not locations:
        return ""
    innermost = locations[0]
    location = application_location(locations, ownership)
    if location is None or location == innermost:
        return str(innermost)
    return f"{location} (now at {innermost})"


def location_of(code: CodeType, line: int | None) -> CodeLocation:
    """The location of a frame with this code."""
    return CodeLocation(code.co_filename, line or code.co_firstlineno, code.co_qualname)


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """This frame of a running stack, its caller, and so on."""
    for _ in range(_MAX_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def waiting_frames(coroutine: Any) -> list[FrameType]:
    """The frames of a suspended coroutine, innermost first.

    `Task.get_stack` returns only the outermost of them.
    """
    frames: list[FrameType] = []
    for _ in range(_MAX_DEPTH):
        frame, awaited = _suspended(coroutine)
        if frame is None:
            break
        frames.append(frame)
        coroutine = awaited
    frames.reverse()
    return frames


def waiting_locations(coroutine: Any) -> list[CodeLocation]:
    """The locations where a suspended coroutine waits, innermost first."""
    return locations_of(waiting_frames(coroutine))


def locations_of(frames: Iterable[FrameType]) -> list[CodeLocation]:
    """The locations of frames."""
    return [location_of(frame.f_code, frame.f_lineno) for frame in frames]


def _suspended(awaitable: Any) -> tuple[FrameType | None, Any]:
    """The frame of a suspended coroutine, generator or asynchronous generator, and the object that it awaits."""
    for frame, awaited in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
        if hasattr(awaitable, frame):
            return getattr(awaitable, frame), getattr(awaitable, awaited)
    return None, None
