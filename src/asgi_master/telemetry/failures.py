"""Exceptions as values, with their stacks reduced to the frames that matter to the author of the application.

Rules:
  - Nothing that states the cause is left out: causes, contexts, notes, the members of groups.
  - Everything is bounded in number and length: exceptions contain text from peers, and chains can be endless.
"""

import importlib
import itertools
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import field
from types import TracebackType
from typing import Any

from asgi_master.records import record
from asgi_master.telemetry.code_ownership import CodeOrigin, CodeOwnership, ownership

_MAX_CHAINED = 10
"""Maximum number of exceptions shown of one chain: the newest and the oldest."""
_NEWEST = 4
_MAX_MEMBERS = 15
"""Maximum number of members shown of one group, as in Python."""
_MAX_GROUP_DEPTH = 8
_MAX_EXCEPTIONS = 40
_MAX_FRAMES = 40
"""Maximum number of frames shown of one exception: the outermost and the innermost."""
_OUTERMOST = 10
_ROOM = 120
"""Maximum number of frames of all exceptions together. A few are kept for each exception in any case."""
_MIN_FRAMES = 3
_MAX_REPEATED = 3
"""Maximum number of times that one line may follow itself, as in Python."""
_MAX_LINE = 400
_MAX_MESSAGE = 4000
_MAX_NOTES = 20
_MAX_HEADLINE = 300
_MAX_LEAVES = 3
"""Maximum number of members named in the headline of a group."""

_INDENT = "    "
"""Prefix of the further lines of a message and of notes, so that none of them can pass for a line of the traceback."""


@record
class Frame:
    """A stack frame."""

    file: str
    line: int
    function: str
    code: str
    """The source line; empty if it cannot be read."""
    application: bool
    """Whether the file belongs to the application."""
    text: list[str]
    """The lines that Python prints for the frame."""


@record
class Folded:
    """A run of frames that are not shown, and the line that replaces it."""

    count: int
    text: str


@record
class Failure:
    """An exception, with its stack and the exceptions that led to it."""

    type: str
    message: str
    ending: list[str]
    """The last lines of the traceback: type and message, then notes."""
    notes: list[str] = field(default_factory=list)
    stack: list[Frame | Folded] = field(default_factory=list)
    """Outermost frame first."""
    before: "Failure | None" = None
    """The cause, or the exception that was being handled when this one was raised."""
    is_caused: bool = False
    """Whether `before` is its cause."""
    skipped: int = 0
    """Number of exceptions left out between this one and `before`."""
    is_group: bool = False
    members: list["Failure"] = field(default_factory=list)
    hidden: int = 0
    """Number of members that are not shown."""


def read(error: BaseException, *, full: bool = False, ownership: CodeOwnership = ownership) -> Failure:
    """Read an exception and everything that led to it.

    Shows the frames of the application and the innermost frame, and folds runs of other frames to their count. If no
    frame belongs to the application, frames of installed packages are shown in their place, and so on. `full` folds
    nothing.
    """
    try:
        return _Reader(ownership, full=full).read_all(error)
    except Exception as own:  # noqa: BLE001 -- an exception may have any attributes, and Python's reader trusts them
        line = f"{type(error).__name__}: (cannot be read: {type(own).__name__})"
        return Failure(type(error).__name__, describe(error), [line])


def describe(error: BaseException) -> str:
    """A headline of bounded length: the exception in one line, a group of one by its member."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # the group that a task group raises adds no information
    line = _one_line(error)
    if isinstance(error, BaseExceptionGroup):
        leaves = list(itertools.islice(_leaves(error), _MAX_LEAVES + 1))
        named = "; ".join(_one_line(leaf) for leaf in leaves[:_MAX_LEAVES])
        line = f"{line}: {named}{'; ...' if len(leaves) > _MAX_LEAVES else ''}"
    return _shortened(line)


def exc_info(
    error: BaseException | None,
) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
    """`exc_info` for other formatters, without the server's own outer frames."""
    if error is None:
        return None
    frames = error.__traceback__
    while frames is not None and ownership.origin(frames.tb_frame.f_code.co_filename) is CodeOrigin.SERVER:
        frames = frames.tb_next
    return type(error), error, frames or error.__traceback__


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 -- the application's `__str__` may do anything
        text = "(no description)"
    return _shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _shortened(line: str) -> str:
    return line if len(line) <= _MAX_HEADLINE else f"{line[:_MAX_HEADLINE]}..."


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(reversed(error.exceptions))
        else:
            yield error


class _Reader:
    """Reads one exception and its chain."""

    def __init__(self, ownership: CodeOwnership, *, full: bool) -> None:
        self._ownership = ownership
        self._full = full
        self._left = _MAX_EXCEPTIONS
        self._room = _ROOM
        self._shown = CodeOrigin.SERVER
        """Frames of this origin, and of higher ones, are shown."""

    def read_all(self, error: BaseException) -> Failure:
        report = traceback.TracebackException.from_exception(error, lookup_lines=False, compact=True)
        origins = (self._origin_of(frame.filename) for frame in _frames_of_all(report))
        self._shown = max(origins, default=CodeOrigin.SERVER)
        return self.read(report)

    def read(self, report: traceback.TracebackException, depth: int = 0) -> Failure:
        links = list(_chain(report))
        skipped = max(0, len(links) - _MAX_CHAINED)
        kept = links if not skipped else links[:_NEWEST] + links[_NEWEST + skipped :]
        before: Failure | None = None
        for index, (link, is_caused) in reversed(list(enumerate(kept))):
            gap = skipped if index == _NEWEST - 1 else 0
            before = self._read_one(link, depth, before, is_caused=is_caused, skipped=gap)
        assert before is not None
        return before

    def _read_one(
        self,
        report: traceback.TracebackException,
        depth: int,
        before: Failure | None,
        *,
        is_caused: bool,
        skipped: int,
    ) -> Failure:
        self._left -= 1
        stack = self._stack(report)
        members: list[Failure] = []
        theirs = report.exceptions or ()
        for member in theirs[:_MAX_MEMBERS]:
            if self._left <= 0 or depth >= _MAX_GROUP_DEPTH:
                break
            members.append(self.read(member, depth + 1))
        return Failure(
            type=_type_name(report),
            message=_cut(str(report), _MAX_MESSAGE),
            ending=_ending(report),
            notes=_notes(report),
            stack=stack,
            before=before,
            is_caused=is_caused,
            skipped=skipped,
            is_group=report.exceptions is not None,
            members=members,
            hidden=len(theirs) - len(members),
        )

    def _origin_of(self, file: str) -> CodeOrigin:
        return CodeOrigin.SERVER if _is_import_machinery(file) else self._ownership.origin(file)

    def _stack(self, report: traceback.TracebackException) -> list[Frame | Folded]:
        frames = list(report.stack or ())
        if self._shown is CodeOrigin.SERVER and not self._full and _names_its_place(report):
            # The exception's text names the location; the server's frames would add nothing.
            return []
        entries: list[Frame | Folded] = []
        index = 0
        for is_shown, run in itertools.groupby(frames, self._is_shown):
            together = list(run)
            index += len(together)
            if is_shown:
                entries += self._repeats_folded(together)
                continue
            # That a group was raised at the end of a task group adds no information.
            may_show = index == len(frames) and report.exceptions is None and not self._is_ours(together[-1])
            raised = together.pop() if may_show else None
            if folded := self._fold(together, is_first=not entries):
                entries.append(folded)
            if raised is not None:
                entries.append(self._frame(raised))
        return self._bounded(entries)

    def _is_shown(self, frame: traceback.FrameSummary) -> bool:
        return self._full or self._origin_of(frame.filename) >= self._shown

    def _is_ours(self, frame: traceback.FrameSummary) -> bool:
        return self._origin_of(frame.filename) is CodeOrigin.SERVER

    def _fold(self, frames: list[traceback.FrameSummary], *, is_first: bool) -> Folded | None:
        # Frames of the server that called the application, and of Python that imported it, add no information.
        counted = [
            frame
            for frame in frames
            if not _is_import_machinery(frame.filename) and not (is_first and self._is_ours(frame))
        ]
        if not counted:
            return None
        packages = dict.fromkeys(self._ownership.package(frame.filename) for frame in counted)
        return Folded(
            len(counted),
            f"  [... {_counted(len(counted), 'frame')} of {_cut(', '.join(packages), _MAX_LINE)}]",
        )

    def _repeats_folded(self, frames: list[traceback.FrameSummary]) -> list[Frame | Folded]:
        entries: list[Frame | Folded] = []
        for _, run in itertools.groupby(frames, lambda frame: (frame.filename, frame.lineno, frame.name)):
            same = list(run)
            entries += [self._frame(frame) for frame in same[:_MAX_REPEATED]]
            if (more := len(same) - _MAX_REPEATED) > 0:
                entries.append(Folded(more, f"  [Previous line repeated {_counted(more, 'more time')}]"))
        return entries

    def _bounded(self, entries: list[Frame | Folded]) -> list[Frame | Folded]:
        room = max(_MIN_FRAMES, min(_MAX_FRAMES, self._room))
        if len(entries) > room:
            outermost = min(_OUTERMOST, room // 3)
            innermost = len(entries) - (room - outermost)
            hidden = sum(
                entry.count if isinstance(entry, Folded) else 1 for entry in entries[outermost:innermost]
            )
            gap = Folded(hidden, f"  [... {_counted(hidden, 'more frame')}]")
            entries = [*entries[:outermost], gap, *entries[innermost:]]
        self._room -= len(entries)
        return entries

    def _frame(self, frame: traceback.FrameSummary) -> Frame:
        return Frame(
            file=_cut(frame.filename, _MAX_LINE),
            line=frame.lineno or 0,
            function=_cut(frame.name, _MAX_LINE),
            code=_cut((frame.line or "").strip(), _MAX_LINE),
            application=self._origin_of(frame.filename) is CodeOrigin.APPLICATION,
            text=[
                _cut(line, _MAX_LINE)
                for line in traceback.StackSummary().format_frame_summary(frame).rstrip("\n").split("\n")
            ],
        )


def _frames_of_all(report: traceback.TracebackException) -> Iterator[traceback.FrameSummary]:
    waiting = [report]
    while waiting:
        for link, _ in _chain(waiting.pop()):
            yield from link.stack or ()
            waiting += link.exceptions or ()


def _chain(report: traceback.TracebackException) -> Iterator[tuple[traceback.TracebackException, bool]]:
    """The exceptions of a chain, newest first; each with whether the next one is its cause."""
    following: traceback.TracebackException | None = report
    while following is not None:
        link = following
        is_caused = link.__cause__ is not None
        following = link.__cause__ if is_caused else None if link.__suppress_context__ else link.__context__
        yield link, is_caused


def _is_import_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__


def _names_its_place(report: traceback.TracebackException) -> bool:
    return _type_name(report) in ("SyntaxError", "IndentationError", "TabError", "ModuleNotFoundError")


def _type_name(report: traceback.TracebackException) -> str:
    return _last_of(_exception_only(report)).partition(":")[0].rstrip("\n")


def _exception_only(report: traceback.TracebackException) -> list[str]:
    notes, report.__notes__ = report.__notes__, None
    try:
        return list(report.format_exception_only())
    finally:
        report.__notes__ = notes


def _ending(report: traceback.TracebackException) -> list[str]:
    ending = []
    for text in _exception_only(report):
        first, *more = _cut(text.rstrip("\n"), _MAX_MESSAGE).split("\n")
        ending += [first, *(_INDENT + line for line in more)]
    return ending + [_INDENT + line for line in _notes(report)]


def _notes(report: traceback.TracebackException) -> list[str]:
    notes: Any = report.__notes__
    if notes is None:
        return []
    if not isinstance(notes, Sequence) or isinstance(notes, str | bytes):
        notes = [notes]
    lines = [line for note in notes[:_MAX_NOTES] for line in _text_of_note(note).split("\n")]
    if len(notes) > _MAX_NOTES:
        lines.append(f"[... {_counted(len(notes) - _MAX_NOTES, 'more note')}]")
    return lines


def _text_of_note(note: object) -> str:
    try:
        return _cut(str(note), _MAX_MESSAGE)
    except Exception:  # noqa: BLE001 -- the application's `__str__` may do anything
        return "(a note that cannot be shown)"


def _last_of(texts: list[str]) -> str:
    return texts[-1] if texts else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most} more characters)"
