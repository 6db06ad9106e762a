"""The terminal: its alternate screen, its keys one by one, its size; and as it was before, whatever happens."""

import contextlib
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from io import StringIO
from types import FrameType
from typing import Any, Self

from rich.console import Console, RenderableType

_ENTER = "\x1b[?1049h\x1b[?25l"
"""The alternate screen, without a cursor (xterm)."""
_LEAVE = "\x1b[?25h\x1b[?1049l"
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)
_ENDS = (signal.SIGTERM, signal.SIGHUP)


class Terminal:
    """The terminal while the program has it to itself."""

    def __init__(self) -> None:
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._console = Console(highlight=False)
        self.wake, self._alarm = os.pipe()
        """`wake` is readable when the size has changed or a signal came."""
        self.is_ended = False
        """Whether a signal asks the program to end."""
        self._shown: list[str] = []

    def __enter__(self) -> Self:
        for fd in (self.wake, self._alarm):
            os.set_blocking(fd, False)
        self._modes: list[Any] = termios.tcgetattr(self._input)
        self._handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGWINCH, signal.SIGINT, signal.SIGCONT, *_ENDS)
        }
        self._begin()
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._input, termios.TCSAFLUSH, self._modes)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.wake)
        os.close(self._alarm)

    def _begin(self) -> None:
        # Keys at once and unseen; signals of the terminal (Ctrl-C, Ctrl-Z) go on.
        tty.setcbreak(self._input)
        self._write(_ENTER)
        self._shown = []

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCONT:
            # After Ctrl-Z the shell has set its own modes.
            with contextlib.suppress(OSError, termios.error):
                self._begin()
        elif number != signal.SIGWINCH:
            self.is_ended = True
        with contextlib.suppress(OSError):
            os.write(self._alarm, b"x")

    @property
    def descriptor(self) -> int:
        """The descriptor of the keyboard."""
        return self._input

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines, now."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._output)
            if size.columns and size.lines:
                return size
        return os.terminal_size((80, 24))

    def read_keys(self) -> Iterator[str]:
        """The keys that were pressed; an escape sequence is one. Raises `EOFError` if the terminal is gone."""
        try:
            data = os.read(self._input, 1024)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        yield from _KEY.findall(data.decode(errors="replace"))

    def show(self, what: RenderableType, offset: int = 0) -> int:
        """Draw; of more lines than there is room for, those from `offset` on. Returns how many there are."""
        columns, height = self.size
        lines = render(what, self._console, columns)
        visible = lines[offset : offset + height]
        if visible != self._shown:
            self._shown = visible
            # The cursor stays in the last line: a line break there would scroll.
            self._write("\x1b[H" + "\r\n".join(f"{line}\x1b[0m\x1b[K" for line in visible) + "\x1b[J")
        return len(lines)

    def redraw(self) -> None:
        """Draw everything the next time: the size has changed."""
        self._shown = []

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(self._output, data) :]


def render(what: RenderableType, like: Console, columns: int) -> list[str]:
    """The lines of `what`, none of them wider than the columns, in the colours that the console has."""
    out = StringIO()
    console = Console(
        file=out,
        width=columns,
        highlight=False,
        force_terminal=like.is_terminal,
        color_system=like.color_system if like.is_terminal else None,  # type: ignore[arg-type]
        no_color=like.no_color,
        legacy_windows=False,
    )
    console.print(what, overflow="ellipsis", no_wrap=True, crop=True)
    return out.getvalue().splitlines()


def drain(fd: int) -> None:
    """Empty a pipe that only wakes."""
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 1024):
            pass
