"""`asgi-masterctl top`: its lines, its keys, and its terminal."""

import contextlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from asgi_master.cli import ctl
from asgi_master.cli.ctl_exit import Exit
from asgi_master.cli.top import numbers
from asgi_master.cli.top.keys import Ask, Close, Dialogue, Quit, Scroll
from asgi_master.cli.top.terminal import render
from asgi_master.cli.top.view import Screen, activities, layout
from asgi_master.control.api import Span
from asgi_master.control.commands import show_status
from asgi_master.control.http_server import Limits
from asgi_master.control.reloads import Outcome, Reloads, Result
from asgi_master.supervision.notices import Died, WorkerLost
from control_server import STACKS, STATUS, Served
from fleet import SOURCE, wait_until
from live_samples import PaperSource

# --- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.24, "0.2"),
        (9.94, "9.9"),
        (9.96, "10"),
        (999.4, "999"),
        (1234, "1.2k"),
        (35_400, "35k"),
        (2.5e6, "2.5M"),
        (3e9, "3.0G"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.00034, "0.3 ms"),
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (45.2, "45 s"),
        (200, "3 m"),
        (7300, "2 h"),
        (180_000, "2 d"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert numbers.seconds(value) == text


def test_sizes() -> None:
    assert [numbers.size(value) for value in (None, 640 << 10, 45 << 20, 1.25 * 2**30)] == [
        "-",
        "640K",
        "45M",
        "1.2G",
    ]
    assert [numbers.growth(value) for value in (None, 0.0, 3495.0, -3495.0)] == ["-", "0", "+12M", "-12M"]
    assert [numbers.share(value) for value in (None, 0.474)] == ["-", "47%"]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([None, 0.0, 0.5, 1.0], 4, " ▁▅█"),
        ([0.0, 1.0, 0.0, 0.0], 2, "█▁"),
        ([0.0, 4.0], 2, "▁█"),
        ([1.0] * 60, 6, "██████"),
    ],
)
def test_sparklines(values: list[float | None], width: int, line: str) -> None:
    assert numbers.sparkline(values, width, 1.0) == line


# --- the lines


def document(**changes: Any) -> dict[str, Any]:
    source = PaperSource(show_status(replace(STATUS, **changes), Reloads(generation=3)))
    return source.document(span=Span.MINUTE, events_after=0)


def shown(screen: Screen, width: int = 100, height: int | None = None) -> list[str]:
    console = Console(file=StringIO(), width=width)
    return [line.rstrip() for line in render(layout(screen, width, height), console, width)]


def test_a_screen() -> None:
    lines = shown(Screen(document()))
    assert lines[0] == "shop  ready 1/2  steady  generation 3  up 1 h  asgi-master 1.2.3 [42]"
    assert lines[1] == "next: restart of worker 1 in 2 s"
    assert lines[3].startswith(
        "20 req/s ███████████████  p50 18 ms  p99 25 ms  5xx 2.0/s  CPU 50%  busy 25% (4.0 times"
    )
    assert lines[6] == "   0   3 ready 12 s  10 18ms 25ms   1.0   2    5 25% 51M     - ▁▁▁▁▁▁▁▁▁▁▁▁ 2.0 ms"
    assert lines[-1].endswith("reloaded: 2 workers serving generation 3")


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("height", [5, 10, 24, 60])
def test_it_fits(width: int, height: int) -> None:
    worker = STATUS.workers[0]
    many = document(workers=[replace(worker, slot=slot) for slot in range(50)])
    lines = shown(Screen(many, {"workers": [asdict(STACKS)]}, notice="x" * 300, keys="q quit"), width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 10)
    if height >= 24:
        assert lines[-1] == "q quit"


def test_threads_of_wsgi_are_shown() -> None:
    worker = replace(STATUS.workers[0], threads=8, threads_busy=3)
    assert " 3/8 " in shown(Screen(document(workers=[worker])))[6]


def test_trouble_comes_first() -> None:
    found = document() | {"ready": False, "reasons": ["0 of 2 workers serve, 1 must"], "next": []}
    lines = shown(Screen(found))
    assert "NOT READY" in lines[0]
    assert lines[1] == "0 of 2 workers serve, 1 must"
    assert lines[2] == "next: nothing is due"


def test_generations_side_by_side() -> None:
    found = document()
    found["now"]["generations"]["4"] = found["now"]["fleet"] | {"workers": 1}
    assert "generation 3 (serves)" in "\n".join(shown(Screen(found)))
    found["status"]["starting_generation"] = 4
    lines = "\n".join(shown(Screen(found)))
    assert "generation 3 (old)" in lines
    assert "generation 4 (new)  1 worker  20 req/s" in lines


def test_a_deploy_that_failed() -> None:
    reloads = Reloads(generation=3, last=Outcome(Result.FAILED, 4, "reload failed: no", 1_700_000_000.0))
    found = PaperSource(show_status(STATUS, reloads)).document(span=Span.NONE, events_after=0)
    assert "last deploy: failed 250 ms ago: reload failed: no" in shown(Screen(found))


def stack(request: str, **group: Any) -> dict[str, Any]:
    task = {
        "count": 1,
        "serves": [request],
        "stack": ["/usr/lib/python3.13/asyncio/a.py:1 in x: y", "/srv/a.py:7 in f: await g()"],
    }
    return {"workers": [{"slot": 1, "tasks": [task | group]}]}


def test_what_requests_wait_for() -> None:
    (one,) = activities(stack("GET /a", oldest=3.0, oldest_request="GET /b", count=5))
    assert (one.request, one.age, one.location, one.count) == ("GET /b", 3.0, "/srv/a.py:7 in f", 5)
    assert activities(None) == activities({"workers": [{"slot": 1, "tasks": None}]}) == []
    lines = shown(Screen(document(), stack("GET /a", oldest=3.0), stacks_age=4.0))
    assert "REQUESTS (the oldest first, 4.0 s ago)" in lines
    assert "  1: GET /a 3.0 s  /srv/a.py:7 in f" in lines


def test_requests_cannot_steer_the_terminal() -> None:
    text = "\n".join(shown(Screen(document(), stack("GET /\x1b]0;evil\x07\x1b[2J[red]\u202e"))))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "GET /\\x1b]0;evil\\x07\\x1b[2J[red]\\u202e" in text


# --- the keys


def pressed(*keys: str, is_reading: bool = False) -> list[Any]:
    dialogue = Dialogue(is_reading=is_reading)
    return [action for key in keys if (action := dialogue.press(key)) is not None]


RELOAD = Ask("POST", "/reload", None, "reload requested")
DRAIN = Ask("POST", "/drain", {"slot": 12}, "replacing the worker of slot 12")


@pytest.mark.parametrize(
    ("keys", "actions"),
    [
        ("r", []),
        ("ry", [RELOAD]),
        ("rn", []),
        ("rq", []),
        ("by", [Ask("POST", "/rollback", None, "rollback requested")]),
        ("d12\ry", [DRAIN]),
        ("d13\x7f2\ny", [DRAIN]),
        ("d12\rn", []),
        ("d\r", []),
        ("d1\x1b\ry", []),
        ("d123456789\x7f\x7f\x7f\ry", [DRAIN]),
        ("s\r", [Ask("POST", "/stacks", {}, "")]),
        ("s2\r", [Ask("POST", "/stacks", {"slot": 2}, "")]),
        ("q", [Quit()]),
        ("xyz", []),
    ],
)
def test_keys(keys: str, actions: list[Any]) -> None:
    assert pressed(*keys) == actions


def test_keys_in_a_text() -> None:
    assert pressed("j", "\x1b[A", " ", "x", "q", is_reading=True) == [
        Scroll(1),
        Scroll(-1),
        Scroll(screens=1),
        Close(),
    ]


def test_a_question_is_shown() -> None:
    dialogue = Dialogue()
    dialogue.press("d")
    dialogue.press("3")
    assert dialogue.prompt == "replace the worker of slot: 3"
    dialogue.press("\r")
    assert dialogue.prompt == "replace the worker of slot 3? (y/n) "


# --- the command


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with contextlib.closing(Served(tmp_path, Limits(), uid=os.geteuid())) as served:
        yield served


def test_once_and_json(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    socket = str(served.path)
    assert ctl.main(["top", "--once", "--socket", socket]) == Exit.OK
    out = capsys.readouterr().out
    assert "REQUESTS" in out
    assert "/srv/shop/feed.py:7 in events" in out
    assert ctl.main(["top", "--json", "--socket", socket]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["history"]["minute"]
    # Neither is standard input a terminal.
    assert ctl.main(["top", "--socket", socket]) == Exit.OK
    assert capsys.readouterr().out.startswith("shop  ready")


class Terminal:
    """`asgi-masterctl top` in a terminal of its own, as a person sees it."""

    def __init__(self, served: Served, lines: int = 24, columns: int = 80, **environ: str) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(lines, columns, tell=False)
        self.modes = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [
                "setsid",
                "--ctty",
                sys.executable,
                "-c",
                "import sys; from asgi_master.cli.masterctl import main; sys.exit(main())",
                "top",
                "--socket",
                str(served.path),
            ],
            stdin=self._slave,
            stdout=self._slave,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONPATH": str(SOURCE), **environ},
        )
        os.set_blocking(self.master, False)
        self.received = ""

    def resize(self, lines: int, columns: int, *, tell: bool = True) -> None:
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            os.kill(self.process.pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.master, 65536):
                self.received += data.decode()
        return self.received

    @property
    def screen(self) -> list[str]:
        """The lines of the last picture that was drawn, without colours."""
        picture = self.read().rpartition("\x1b[H")[2].partition("\x1b[J")[0]
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in picture.split("\r\n")]

    def wait(self, text: str) -> list[str]:
        wait_until(
            lambda: any(text in line for line in self.screen),
            f"the screen shows {text!r}: {self.received[-2000:]!r}",
        )
        return self.screen

    def end(self) -> int:
        status = self.process.wait(10)
        assert self.process.stderr is not None
        assert self.process.stderr.read() == b""
        self.process.stderr.close()
        self.read()
        assert termios.tcgetattr(self._slave) == self.modes, "the terminal is as it was"
        assert self.received.count("\x1b[?1049h") == self.received.count("\x1b[?1049l") == 1
        assert self.received.rstrip().endswith("\x1b[?25h\x1b[?1049l")
        for fd in (self.master, self._slave):
            os.close(fd)
        return status


def test_in_a_terminal(served: Served) -> None:
    terminal = Terminal(served)
    screen = terminal.wait("REQUESTS")
    assert screen[0].startswith("shop  ready 1/2")
    assert screen[-1].startswith("r reload  b roll back")
    assert len(screen) <= 24
    assert max(map(len, screen)) <= 80
    assert "\x1b[1m" in terminal.received
    terminal.type("r")
    terminal.wait("reload: read settings and code again? (y/n)")
    terminal.type("y")
    terminal.wait("reload requested")
    terminal.type("d5\ry")
    terminal.wait("no worker serves in slot 5")
    terminal.type("s0\r")
    terminal.wait("10000 x RequestTask._run (feed), serving GET /feed?user=1")
    terminal.type("q")
    terminal.wait("q quit")
    terminal.resize(12, 50)
    wait_until(lambda: max(map(len, terminal.screen)) <= 50 and len(terminal.screen) <= 12, "it is redrawn")
    served.live.events.note(WorkerLost(1, 0, 3, Died(0, -11, 1.0), 0.0), 40, "worker 0 crashed", 2.0)
    terminal.resize(40, 100)
    terminal.wait("worker 0 crashed")
    terminal.type("q")
    assert terminal.end() == Exit.OK
    assert [asked for asked in served.steering.asked if asked[0] != "stacks"] == [("reload",), ("drain", 5)]


@pytest.mark.parametrize("how", ["\x03", signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "TERM", "HUP"])
def test_the_terminal_is_restored(served: Served, how: str | signal.Signals) -> None:
    terminal = Terminal(served, NO_COLOR="1")
    terminal.wait("shop  ready")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.received), "no colours"
    if isinstance(how, str):
        terminal.type(how)
    else:
        terminal.process.send_signal(how)
    assert terminal.end() == Exit.OK


def test_a_master_that_goes_and_comes(served: Served) -> None:
    terminal = Terminal(served)
    terminal.wait("shop  ready")
    served.steering.fails = True
    moved = served.path.with_name("moved.sock")
    served.path.rename(moved)
    terminal.wait("no news for")
    moved.rename(served.path)
    began = time.monotonic()
    wait_until(lambda: not any("no news" in line for line in terminal.screen), "it is seen again")
    assert time.monotonic() - began < 10
    terminal.type("q")
    assert terminal.end() == Exit.OK
