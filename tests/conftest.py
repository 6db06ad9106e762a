"""Fixtures that more than one room uses."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How fast an example is says how busy the machine is.
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")

# The assertions of helpers show their values too.
pytest.register_assert_rewrite(*(path.stem for path in (Path(__file__).parent / "support").glob("*.py")))

from fleet import Fleet  # noqa: E402
from ports import reserved_port  # noqa: E402


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet to start; judged when the test is over."""
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port of 127.0.0.1 for the program under test, until the end of the test."""
    with reserved_port() as port:
        yield port
