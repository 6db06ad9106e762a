"""The words of a fault, and when it strikes."""

import os
import subprocess
import sys

import pytest

from asgi_master import faults
from asgi_master.errors import SettingsError
from fleet import SOURCE


def test_nothing_is_asked_for() -> None:
    assert faults.parse("") is None
    faults.fault_point("before_ready")


def test_all_of_it() -> None:
    fault = faults.parse("hang@drain_start:generation=2,slot=0,nth=3,armed=/run/x")
    assert fault is not None
    assert (fault.point, fault.generation, fault.slot, fault.nth, fault.armed) == (
        "drain_start",
        2,
        0,
        3,
        "/run/x",
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("die@before_ready", "'die'"),
        ("kill@before_redy", "'before_redy'"),
        ("kill", "point ''"),
        ("kill@before_ready:gen=2", "'gen=2'"),
        ("kill@before_ready:slot=-1", "'slot=-1'"),
        ("kill@before_ready:armed=", "'armed='"),
    ],
)
def test_a_word_that_is_not_known(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        faults.parse(text)


def matches(text: str, *passes: tuple[str, int | None, int | None]) -> list[bool]:
    fault = faults.parse(text)
    assert fault is not None
    return [fault.matches(*one) for one in passes]


def test_it_strikes_only_where_it_is_asked_for() -> None:
    passes = [("before_ready", 2, 0), ("after_ready", 2, 0), ("before_ready", 1, 0), ("before_ready", 2, 1)]
    assert matches("kill@before_ready", *passes) == [True, False, True, True]
    assert matches("kill@before_ready:generation=2", *passes) == [True, False, False, True]
    assert matches("kill@before_ready:generation=2,slot=1", *passes) == [False, False, False, True]


def test_the_nth_pass_that_the_filters_let_through() -> None:
    passes = [("before_fork", 1, 0), ("before_fork", 1, 1), ("before_fork", 1, 0), ("before_fork", 1, 0)]
    assert matches("kill@before_fork:nth=2", *passes) == [False, True, False, False]
    assert matches("kill@before_fork:slot=0,nth=2", *passes) == [False, False, True, False]


def test_an_armed_fault_strikes_once(tmp_path) -> None:
    file = tmp_path / "armed"
    fault = faults.parse(f"kill@before_ready:armed={file}")
    assert fault is not None
    assert not fault.matches("before_ready", 1, 0)
    file.touch()
    assert fault.matches("before_ready", 1, 0)
    assert not file.exists()
    assert not fault.matches("before_ready", 1, 0)


@pytest.mark.parametrize(("action", "status"), [("kill", -9), ("exit", faults.EXIT_STATUS), ("raise", 1)])
def test_what_becomes_of_the_process(action: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from asgi_master import faults; faults.fault_point('before_ready')"],
        env={**os.environ, "PYTHONPATH": str(SOURCE), faults.VARIABLE: f"{action}@before_ready"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == status
    assert action != "raise" or "OSError: [Errno 5] fault point before_ready" in done.stderr


def test_every_point_exists_once_in_the_source() -> None:
    """A point that is never passed would let a test pass for nothing."""
    passed: list[str] = []
    for file in (SOURCE / "asgi_master").rglob("*.py"):
        text = file.read_text()
        passed += [name for name in faults.POINTS if f'faults.fault_point("{name}"' in text]
    assert sorted(passed) == sorted(faults.POINTS)


def test_a_misspelt_fault_keeps_the_program_from_starting(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asgi_master", "--bind", "127.0.0.1:0", "nothing:app"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), faults.VARIABLE: "kill@before_redy"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "there is no point 'before_redy'" in done.stderr
