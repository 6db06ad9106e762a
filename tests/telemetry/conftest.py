"""Programs that use the telemetry room: what it does to descriptors, forks and exits is seen from outside only."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import asgi_master

PRELUDE = """
import logging, os, sys
from asgi_master.telemetry import logs
log = logging.getLogger("asgi_master")
def configure(role="master", level="info", format="text", log_config="", **place):
    logs.configure(role, level=level, format=format, log_config=str(log_config), **place)
"""


def _program(code: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]


def _environment(**changes: str) -> dict[str, str]:
    kept = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "JOURNAL_STREAM", "TERM")
    }
    return {**kept, "PYTHONPATH": str(Path(asgi_master.__file__).parent.parent), "TZ": "UTC", **changes}


Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program() -> Callable[[str], list[str]]:
    """The command that runs code after the prelude."""
    return _program


@pytest.fixture
def environment() -> Callable[..., dict[str, str]]:
    """Our environment, without what a terminal or a journal around the tests would change, and with changes."""
    return _environment


@pytest.fixture
def run() -> Runner:
    """Run code; by default its output is captured and a failure fails the test."""

    def run(code: str, *, check: bool = True, env: dict[str, str] | None = None, **options: object):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        done = subprocess.run(
            _program(code), env=_environment(**(env or {})), timeout=30, text=True, **options
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
