"""Fixtures that more than one room uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet to start; judged when the test is over."""
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()
