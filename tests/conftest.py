"""Fixtures that more than one room uses."""

import functools
from collections.abc import Iterator
from pathlib import Path

import httpx._transports.default
import hypothesis
import pytest

# How fast an example is says how busy the machine is.
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")

# httpx reads the certificate authorities of the Internet for each client, in 45 ms. No test meets their certificates.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)

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
