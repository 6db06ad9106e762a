"""A real memory limit: the kernel kills a worker, the log says why, and the fleet goes on."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cgroups import control_groups
from fleet import PATIENCE, Fleet

pytestmark = pytest.mark.newest_python

LIMIT = 300 << 20
# What `/grow` of the application keeps each time, in bytes: the limit is reached long before this many.
GROWTH = 24 << 20
MOST = 4 * LIMIT // GROWTH


@pytest.fixture
def group() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            (group,) = stack.enter_context(control_groups(memory=LIMIT))
        except OSError as error:
            pytest.skip(f"no control group with a memory limit can be made here: {error}")
        yield group


@pytest.fixture
def limited_fleet(tmp_path: Path, group: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def test_an_oom_kill_is_named_and_survived(limited_fleet: Fleet, group: Path) -> None:
    fleet = limited_fleet
    inside = (
        "sh",
        "-c",
        f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"',
        sys.executable,
        "-m",
        "asgi_master",
    )
    killed = (
        r"worker \d \(generation 1\) died .*: killed by SIGKILL \(the kernel's OOM killer: .*counted a kill\)"
    )
    fleet.expect_log(killed)
    fleet.serve("growing:app", workers=2, program=inside)
    with pytest.raises(httpx.TransportError), fleet.client() as client:
        for _ in range(MOST):
            assert client.get("/grow").status_code == 200
    fleet.wait_line(killed)
    fleet.wait_workers(lambda seen: len(seen) == 2, "the worker was replaced")

    def serves() -> bool:
        return httpx.get(f"{fleet.url}/", timeout=PATIENCE, trust_env=False).status_code == 200

    for _ in range(10):
        assert serves()
