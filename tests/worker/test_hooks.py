"""Hooks: functions that workers call when they start and exit."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_master.errors import ApplicationError
from asgi_master.settings.model import LifespanSettings
from asgi_master.worker.application import load_callable
from asgi_master.worker.hooks import Hooks, call_worker_exit, call_worker_start, load_hooks

PLACE = {"worker": 3, "generation": 7}
SOURCE = """
calls = []
def bare(): calls.append("bare")
def told(worker): calls.append(worker)
def keyword(*, worker=None): calls.append(worker)
def two(a, b): pass
def raises(): raise LookupError("none")
async def coroutine(): pass
number = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "hooked.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield __import__("hooked")
    del sys.modules["hooked"]


@pytest.mark.parametrize(("name", "call"), [("bare", "bare"), ("told", PLACE), ("keyword", None)])
def test_one_that_takes_an_argument_gets_the_place_of_the_worker(
    module: Any, name: str, call: object
) -> None:
    call_worker_start(load_callable(f"hooked:{name}", arguments=1), PLACE)
    assert module.calls == [call]


def test_those_of_the_settings_are_imported(module: Any) -> None:
    settings = LifespanSettings(hook_worker_start="hooked:bare", hook_worker_exit="hooked:told")
    assert load_hooks(settings) == Hooks(module.bare, module.told)
    assert load_hooks(LifespanSettings()) == Hooks()


def test_a_built_in_without_a_signature_is_called_without_arguments() -> None:
    call_worker_start(load_callable("builtins:dict", arguments=1), PLACE)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("hooked:two", '"hooked:two" must take no argument, or one'),
        ("hooked:number", '"hooked:number" is not callable but of type int'),
        ("hooked:none", 'cannot load "hooked:none"'),
        ("unhooked:bare", 'no module named "unhooked"'),
    ],
)
def test_what_cannot_be_one(target: str, error: str) -> None:
    with pytest.raises(ApplicationError, match=error):
        load_callable(target, arguments=1)


@pytest.mark.usefixtures("module")
def test_a_service_takes_no_argument() -> None:
    assert load_callable("hooked:bare")
    with pytest.raises(ApplicationError, match=r'"hooked:told" must take no argument$'):
        load_callable("hooked:told")


def test_a_failing_start_is_a_failure_of_the_worker(module: Any) -> None:
    with pytest.raises(ApplicationError, match="the worker start hook failed: LookupError: none") as caught:
        call_worker_start(module.raises, PLACE)
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(ApplicationError, match="it is a coroutine function"):
        call_worker_start(module.coroutine, PLACE)


def test_a_failing_exit_is_logged(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    call_worker_exit(module.raises, PLACE)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR,
        "the worker exit hook failed: LookupError: none",
    )
