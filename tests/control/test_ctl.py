"""`asgi-masterctl` in this process, against a server in a thread: its words and its exit statuses."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from asgi_master.cli import ctl_commands
from asgi_master.cli.ctl import main
from asgi_master.cli.ctl_exit import Exit
from asgi_master.cli.ctl_view import _duration, show_masters, show_stacks, show_status
from asgi_master.cli.own_frames import without_ours
from asgi_master.cli.rates import Rates, Sample
from asgi_master.control import socket_paths
from asgi_master.control.client import Found
from asgi_master.control.status import ServiceStatus
from asgi_master.supervision.notices import ImportFailed, MasterReady, ReloadFailed, ReloadStarted
from control_server import STACKS, STATUS, Served

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def one(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The only master that the program can find."""
    monkeypatch.setenv("ASGI_MASTER_CONTROL_SOCKET", str(served.path))
    return served


def test_status(one: Served, capsys: Captured) -> None:
    one.note(MasterReady(2, 3))
    one.note(ReloadStarted(4))
    one.note(ReloadFailed(4, ImportFailed("no module [bold]named[/bold] shop"), 3))
    assert main(["status"]) == Exit.OK
    shown = capsys.readouterr().out
    for words in (
        "shop  steady, generation 3, 1 of 2 workers ready\n",
        "master 42, asgi-master 1.2.3, up 1 h 1 m\n",
        "listening on http://127.0.0.1:8000",
        "a rollback would return to generation 2",
        " s ago: reload failed: generation 4: no module [bold]named[/bold] shop; staying",
        "slot 1 waits 2.5 s after 3 failures in a row",
        " 43   3 ready ",
        "1200 requests (0 a second), 8 answered 5xx, 1 application errors; 5 connections, 2 active",
        " 1000 ",
    ):
        assert words in shown
    assert main(["status", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["last_reload"]["generation"] == 4


def test_steering(one: Served, capsys: Captured) -> None:
    for arguments in (
        ["reload"],
        ["rollback"],
        ["scale", "3"],
        ["drain", "0"],
        ["stop", "--quick"],
    ):
        assert main(arguments) == Exit.OK
    assert one.steering.asked == [
        ("reload",),
        ("rollback",),
        ("scale", 3),
        ("drain", 0),
        ("stop", True),
    ]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["drain", "5"], "no worker serves in slot 5"),
        (["stacks", "5"], "no worker is in slot 5"),
        (["scale", "5000"], "from 1 to 500"),
    ],
)
def test_refusals(one: Served, capsys: Captured, arguments: list[str], why: str) -> None:
    assert main(arguments) == Exit.FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("asgi-masterctl: ")
    assert why in captured.err


@pytest.mark.parametrize("command", [["reload"], ["rollback"], ["scale", "2"]])
def test_timeout(one: Served, capsys: Captured, command: list[str]) -> None:
    assert main([*command, "--wait", "--timeout", "0.1"]) == Exit.TIMED_OUT
    assert "no answer within 0.1 s" in capsys.readouterr().err


def test_nothing_to_roll_back_to(one: Served, capsys: Captured) -> None:
    one.steering.can_roll_back = False
    for wait in ([], ["--wait"]):
        assert main(["rollback", *wait]) == Exit.FAILED
        assert "nothing to roll back to" in capsys.readouterr().err


def test_scale_and_wait(one: Served, capsys: Captured) -> None:
    one.steering.shown = replace(STATUS, workers_wanted=1)
    assert main(["scale", "1", "--wait"]) == Exit.OK
    assert capsys.readouterr().out == "1 worker is ready\n"
    assert main(["scale", "3", "--wait"]) == Exit.FAILED
    assert "1 workers are configured now" in capsys.readouterr().err


def test_stacks(one: Served, capsys: Captured) -> None:
    assert main(["stacks", "0"]) == Exit.OK
    shown = capsys.readouterr().out
    for line in (
        "worker 0 gen 3 [43]",
        "  tasks: 10007, 7 of them not shown",
        "    10000 x RequestTask._run (feed), serving GET /feed?user=1, GET /feed?user=2 and 9998 more",
        "      /srv/shop/feed.py:7 in events: await changes.wait()",
        "  threads:",
        '      File "/srv/shop/feed.py", line 9 in work',
    ):
        assert f"{line}\n" in shown
    assert main(["stacks", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"workers": [asdict(STACKS)]}
    assert one.steering.asked == [("stacks", 0), ("stacks", None)]


OURS = "/venv/lib/python3.13/site-packages/asgi_master/worker/main.py"
LIBRARY = "/usr/lib/python3.13/asyncio/queues.py"


def test_stacks_hide_what_is_ours_unless_all_is_wanted(one: Served, capsys: Captured) -> None:
    group = {"names": [], "serves": [], "more_served": 0}
    own = group | {
        "count": 2,
        "coroutine": "Worker.run",
        "stack": [f"{LIBRARY}:1 in get", f"{OURS}:5 in run"],
    }
    app = group | {
        "count": 1,
        "coroutine": "poll",
        "stack": [f"{LIBRARY}:1 in get", "/srv/shop/poll.py:9 in poll", f"{OURS}:6 in call"],
    }
    threads = (
        f'Thread 0x2 (most recent call first):\n  File "{OURS}", line 8 in watch\n\n'
        f'Current thread 0x1 (most recent call first):\n  File "/srv/shop/a.py", line 9 in f\n  File "{OURS}", line 7 in x\n'
    )
    mixed = replace(STACKS, task_count=3, tasks=[own, app], tasks_left_out=0, threads=threads)
    found = {"workers": [asdict(mixed)]}
    show_stacks(found, everything=False)
    shown = capsys.readouterr().out
    assert OURS not in shown
    assert "  tasks: 3, 2 of asgi-master itself (--all shows them)\n    1 x poll\n" in shown
    assert f"      {LIBRARY}:1 in get\n      /srv/shop/poll.py:9 in poll\n  threads: 1 of" in shown
    assert shown.endswith(
        '    Current thread 0x1 (most recent call first):\n      File "/srv/shop/a.py", line 9 in f\n'
    )
    show_stacks(found, everything=True)
    assert capsys.readouterr().out.count(OURS) == 4
    assert main(["stacks", "--all"]) == Exit.OK


def test_a_request_is_shown_even_where_only_we_hold_it() -> None:
    held = {
        "count": 1,
        "coroutine": "RequestTask._run",
        "serves": ["GET /"],
        "stack": [f"{OURS}:5 in receive"],
    }
    assert without_ours([held]) == ([held | {"stack": []}], 0)


@pytest.mark.parametrize("question", [[], ["--live"]])
def test_health_of_the_master_that_runs_here(one: Served, capsys: Captured, question: list[str]) -> None:
    assert main(["health", *question]) == Exit.OK
    assert capsys.readouterr().out == "ok\n"
    one.steering.health = replace(one.steering.health, leaving="the master is stopping")
    assert main(["health", *question]) == (Exit.OK if question else Exit.FAILED)
    assert ("asgi-masterctl: the master is stopping" in capsys.readouterr().err) is (not question)


def test_health_without_a_master(monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path) -> None:
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [])
    assert main(["health"]) == Exit.NO_MASTER
    assert main(["health", "--admin", f"unix:{tmp_path}/none"]) == Exit.NO_MASTER
    assert main(["health", "--admin", "9000"]) == Exit.USAGE
    assert "is not HOST:PORT" in capsys.readouterr().err


def test_rates(one: Served, capsys: Captured) -> None:
    before = Sample(10.0, {43: (9.8, 1000), 45: (9.9, 7)}, {42: 1.0, 43: 2.0})
    after = Sample(12.0, {43: (11.8, 1600), 44: (11.9, 5), 45: (9.9, 7)}, {42: 1.0, 43: 3.0})
    rates = after.since(before)
    assert {pid: round(rate) for pid, rate in rates.requests.items()} == {43: 300}
    assert rates.cpu == {42: 0.0, 43: 0.5}
    counted = {"pid": 43, "requests": 1000, "heartbeat_age": 0.25}
    fresh = {"pid": None, "requests": 0, "heartbeat_age": None}
    look = Sample.take({"workers": [counted, fresh]}, [os.getpid(), None])
    assert look.requests == {43: (look.at - 0.25, 1000)}
    assert look.cpu.keys() == {os.getpid()}
    status = ctl_commands.ask(one.path, "GET", "/status", timeout=5).body
    show_status(status, rates)
    shown = capsys.readouterr().out
    assert "1200 requests (300 a second)" in shown
    assert "; CPU 50%\n" in shown
    assert " 1000 300 " in shown


def test_a_status_fits_80_columns(one: Served, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = replace(
        STATUS.workers[0], pid=1234567, requests=99_999, connections=1000, in_flight=100, age=45_000.0
    )
    one.steering.shown = replace(STATUS, workers=[busy])
    show_status(
        ctl_commands.ask(one.path, "GET", "/status", timeout=5).body, Rates({1234567: 9999.0}, {1234567: 1.0})
    )
    [row] = [line for line in capsys.readouterr().out.splitlines() if "1234567" in line]
    assert len(row.rstrip()) <= 80


def test_stacks_of_a_blocked_worker(capsys: Captured) -> None:
    blocked = replace(STACKS, tasks=None, task_count=None, tasks_left_out=0, note="its loop did not answer")
    silent = replace(STACKS, slot=1, pid=None, tasks=[], task_count=0, tasks_left_out=0, threads=None)
    show_stacks({"workers": [asdict(blocked), asdict(silent)]})
    shown = capsys.readouterr().out
    assert shown.startswith("worker 0 gen 3 [43]\nits loop did not answer\n  threads:\n")
    assert shown.endswith("\n\nworker 1 gen 3 [-]\n  tasks: 0\n")


def test_spares_and_what_is_starting_are_shown(one: Served, capsys: Captured) -> None:
    spare = replace(STATUS.workers[0], slot=2, standby=True)
    one.steering.shown = replace(STATUS, workers=[*STATUS.workers, spare], spares_wanted=1)
    one.note(MasterReady(2, 3))
    one.note(ReloadStarted(4))
    assert main(["status"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "generation 3, generation 4 starting, 1 of 2 workers ready, 1 of 1 spares standing by\n" in shown
    assert " 3 standby " in shown


def test_services_have_a_table_of_their_own(one: Served, capsys: Captured) -> None:
    running = ServiceStatus("beat", "running", 3, 4711, 75.0, restarts=2, failures=0, retry_in=None)
    waiting = replace(
        running, name="mail", state="waiting", generation=None, pid=None, age=None, failures=3, retry_in=1.5
    )
    one.steering.shown = replace(STATUS, services=[running, waiting])
    assert main(["status"]) == Exit.OK
    table = [line.split() for line in capsys.readouterr().out.partition("\n\n")[2].splitlines()]
    assert table == [
        ["SERVICE", "PID", "GEN", "STATE", "AGE", "RESTARTS", "PSS"],
        ["beat", "4711", "3", "running", "1", "m", "15", "s", "2", "-"],
        ["mail", "-", "-", "waiting,", "starts", "in", "1.5", "s", "-", "2", "-"],
    ]


@pytest.mark.parametrize(
    "arguments",
    [["frob"], ["scale"], ["scale", "many"], ["drain", "-1"], ["status", "--pid", "x"], ["--frob"]],
)
def test_usage(arguments: list[str]) -> None:
    assert main(arguments) == Exit.USAGE


def test_version_and_help(capsys: Captured) -> None:
    assert main(["--version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("asgi-masterctl ")
    assert main(["reload", "--help"]) == Exit.OK
    assert "--wait" in capsys.readouterr().out


def test_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [])
    assert main(["status"]) == Exit.NO_MASTER
    assert main(["list"]) == Exit.NO_MASTER
    assert main(["list", "--json"]) == Exit.OK
    assert main(["status", "--socket", str(tmp_path / "none")]) == Exit.NO_MASTER
    assert "No such file" in capsys.readouterr().err


def test_the_choice(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    other = Found(Path("/nowhere"), 7, None)
    meant = Found(served.path, os.getpid(), asdict(STATUS))
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [other, meant])
    assert main(["status"]) == Exit.USAGE
    assert f"7 (silent), {os.getpid()} (shop)" in capsys.readouterr().err
    for words in (
        ["--name", "shop"],
        ["--name", "shop:app"],
        ["--pid", str(os.getpid())],
        ["--socket", str(served.path)],
    ):
        assert main(["status", *words]) == Exit.OK
        assert main([*words, "status"]) == Exit.OK
        assert main([*words, "reload"]) == Exit.OK
    assert main(["--pid", "7", "status", "--pid", str(os.getpid())]) == Exit.OK  # the nearer one
    assert main(["--pid", "7", "health"]) == Exit.NO_MASTER
    assert main(["status", "--name", "shop", "--pid", "7"]) == Exit.NO_MASTER
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [meant])
    assert main(["status"]) == Exit.OK


@pytest.mark.parametrize(
    "words",
    [
        ["--pid", "7"],
        ["--name", "other"],
        ["--name", "other", "--pid", str(os.getpid())],
        ["--name", "shop", "--pid", "7"],
    ],
)
@pytest.mark.parametrize(
    "command", [["reload"], ["rollback"], ["scale", "2"], ["drain", "0"], ["stacks"], ["stop"]]
)
def test_a_socket_of_another_master_than_the_one_named(
    served: Served, capsys: Captured, command: list[str], words: list[str]
) -> None:
    assert main([*command, "--socket", str(served.path), *words]) == Exit.NO_MASTER
    assert str(served.path) in capsys.readouterr().err
    assert served.steering.asked == []
    assert (
        main([*command, "--socket", str(served.path), "--name", "shop", "--pid", str(os.getpid())]) == Exit.OK
    )
    assert len(served.steering.asked) == 1


def test_a_master_that_was_followed_by_another_is_not_taken_for_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Between the choice and the order the one that was meant has gone."""
    gone = Found(served.path, 7, asdict(STATUS))
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [gone])
    assert main(["reload"]) == Exit.NO_MASTER
    assert f"process {os.getpid()} listens there, not 7" in capsys.readouterr().err
    assert served.steering.asked == []


def test_off_and_auto_in_the_environment_are_no_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [])
    for word in (socket_paths.AUTO, socket_paths.OFF, ""):
        monkeypatch.setenv("ASGI_MASTER_CONTROL_SOCKET", word)
        assert main(["status"]) == Exit.NO_MASTER


def test_a_master_of_another_version(one: Served, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    reply = ctl_commands.ask(one.path, "GET", "/status", timeout=5)
    del reply.body["waiting"]
    monkeypatch.setattr(ctl_commands, "ask", lambda *_arguments, **_options: reply)
    assert main(["status"]) == Exit.FAILED
    assert "another version" in capsys.readouterr().err
    assert main(["status", "--json"]) == Exit.OK


def test_lists_show_who_is_silent_and_no_control_characters(capsys: Captured) -> None:
    named = {**asdict(STATUS), "name": "\x1b[31mred"}
    show_masters([Found(Path("/run/7.sock"), 7, None), Found(Path("/run/8.sock"), 8, named)])
    shown = capsys.readouterr().out
    assert "no answer" in shown
    assert "\\x1b[31mred" in shown
    assert "1/2" in shown
    show_status(named | {"generation": None, "starting_generation": None, "last_reload": None})
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 m 0 s"), (3661, "1 h 1 m"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
