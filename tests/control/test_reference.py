"""The page about the control interface names all there is, and nothing else."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from asgi_master.cli import ctl
from asgi_master.control import api
from asgi_master.control.reloads import Outcome, Result
from asgi_master.control.stack_dumps import WorkerStacks
from asgi_master.control.status import FleetStatus, ServiceStatus, SlotWaiting, WorkerStatus
from asgi_master.ipc.messages import TaskGroup
from asgi_master.supervision.states import Phase

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "control.md").read_text()


def test_every_path_is_documented_and_no_other() -> None:
    told = set(re.findall(r"^\| `(GET|POST) (/[\w.]+)` \|", PAGE, re.MULTILINE))
    assert told == {(method, path) for path, (method, _reader) in api._ROUTES.items()}


def test_every_command_is_documented_with_its_options() -> None:
    told = {
        name: set(re.findall(r"--\w+", rest))
        for name, rest in re.findall(r"^asgi-masterctl (\w+)(.*)", PAGE, re.MULTILINE)
    }
    everywhere = {"--help", "--pid", "--socket", "--name", "--json"}
    commands = get_command(ctl.app).commands  # type: ignore[attr-defined]
    assert told == {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        - everywhere
        for name, command in commands.items()
    }


def test_every_exit_status_is_told() -> None:
    section = PAGE.partition("### Exit statuses")[2].partition("\n## ")[0]
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == set(ctl.Exit)


@pytest.mark.parametrize(
    "kind",
    [FleetStatus, WorkerStatus, ServiceStatus, SlotWaiting, WorkerStacks, TaskGroup, Outcome],
    ids=lambda k: k.__name__,
)
def test_every_key_is_told(kind: type) -> None:
    assert [field.name for field in fields(kind) if f"`{field.name}`" not in PAGE] == []


def test_every_result_and_phase_is_told() -> None:
    assert [str(result) for result in Result if f"`{result}`" not in PAGE] == []
    # Once it has stopped, there is no master to report it.
    assert [str(phase) for phase in set(Phase) - {Phase.STOPPED} if f"`{phase}`" not in PAGE] == []
