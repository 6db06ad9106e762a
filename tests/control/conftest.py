"""Control servers to test."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_master.control.http_server import Limits
from control_server import Served


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with contextlib.ExitStack() as stack:

        def start(**limits: Any) -> Served:
            served = Served(tmp_path, Limits(**limits), uid=os.geteuid())
            stack.callback(served.close)
            return served

        yield start


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()
