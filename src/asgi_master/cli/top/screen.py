"""The loop of the full screen: draw, wait for a key or for news, do what was asked for."""

import select
import time
from io import StringIO
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from asgi_master.cli.ctl_view import show_stacks
from asgi_master.cli.top.fetcher import Asking, Fetcher
from asgi_master.cli.top.keys import MAIN_KEYS, Ask, Close, Dialogue, Quit, Scroll
from asgi_master.cli.top.terminal import Terminal, drain
from asgi_master.cli.top.view import Screen, layout
from asgi_master.control.client import Reply

_NOTICE_FOR = 8.0
"""Seconds for which the result of a command is shown."""
_STACKS_KEYS = "j k space scroll  q back"


def run(ask: Asking) -> None:
    """Show the fleet until the user quits. The terminal must be one for both input and output."""
    fetcher = Fetcher(ask)
    fetcher.start()
    try:
        with Terminal() as terminal:
            _Loop(terminal, fetcher).run()
    finally:
        fetcher.close()


class _Loop:
    def __init__(self, terminal: Terminal, fetcher: Fetcher) -> None:
        self._terminal = terminal
        self._fetcher = fetcher
        self._dialogue = Dialogue()
        self._notice, self._is_alarm, self._noticed_at = "", False, 0.0
        self._done: dict[str, str] = {}
        """By target: what to show once it is accepted."""
        self._text: list[str] = []
        """The text that is shown in place of the fleet."""
        self._offset = 0

    def run(self) -> None:
        terminal, fetcher = self._terminal, self._fetcher
        while not terminal.is_ended:
            self._draw()
            ready, _, _ = select.select([terminal.descriptor, terminal.wake, fetcher.wake], [], [], 1.0)
            if terminal.wake in ready:
                drain(terminal.wake)
                terminal.redraw()
            if fetcher.wake in ready:
                drain(fetcher.wake)
                self._take_replies()
            if terminal.descriptor in ready:
                try:
                    if not self._press():
                        return
                except EOFError:
                    return

    def _press(self) -> bool:
        """Handle the keys that were pressed; false to end."""
        for key in self._terminal.read_keys():
            match self._dialogue.press(key):
                case Quit():
                    return False
                case Ask(method, target, body, done):
                    self._done[target] = done
                    self._fetcher.request(method, target, body)
                case Scroll(lines, screens):
                    page = max(1, self._terminal.size.lines - 2)
                    most = max(0, len(self._text) - page)
                    self._offset = min(most, max(0, self._offset + lines + screens * page))
                case Close():
                    self._text, self._offset = [], 0
        return True

    def _take_replies(self) -> None:
        while not self._fetcher.replies.empty():
            target, reply = self._fetcher.replies.get()
            if isinstance(reply, str):
                self._say(reply, is_alarm=True)
            elif target == "/stacks":
                self._text, self._offset = _lines_of_stacks(reply), 0
                self._dialogue.is_reading = True
            else:
                self._say(self._done.get(target, ""))

    def _say(self, notice: str, *, is_alarm: bool = False) -> None:
        self._notice, self._is_alarm, self._noticed_at = notice, is_alarm, time.monotonic()

    def _draw(self) -> None:
        columns, height = self._terminal.size
        if self._dialogue.is_reading:
            page = self._text[self._offset : self._offset + height - 1]
            lines = [*map(Text, page), Text(_STACKS_KEYS, "dim")]
            self._terminal.show(Group(*lines))
            return
        known, now = self._fetcher.known, time.monotonic()
        notice, is_alarm = self._dialogue.prompt, False
        if not notice and known.trouble:
            notice, is_alarm = known.trouble, True
            if known.document is not None:
                notice = f"no news for {now - known.at:.0f} s: {notice}"
        elif not notice and now - self._noticed_at < _NOTICE_FOR:
            notice, is_alarm = self._notice, self._is_alarm
        if known.document is None:
            self._terminal.show(Text(notice or "asking the master ...", "red" if is_alarm else ""))
            return
        screen = Screen(known.document, known.stacks, now - known.stacks_at, notice, is_alarm, MAIN_KEYS)
        self._terminal.show(layout(screen, columns, height))


def _lines_of_stacks(reply: Reply) -> list[str]:
    out = StringIO()
    shown: dict[str, Any] = dict(reply.body)
    show_stacks(shown, everything=False, console=Console(file=out, width=1000, highlight=False))
    return out.getvalue().splitlines()
