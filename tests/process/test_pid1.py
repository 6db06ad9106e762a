"""As process 1 of a container: handles signals from the start, reaps orphans, runs on a read-only file system."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cgroups import control_groups
from fleet import PATIENCE, SOURCE, wait_until
from pid1_container import USER, Container, why_not
from shared_interpreter import program_for_anybody

pytestmark = pytest.mark.newest_python

HOOK = """
import pathlib, sys, time

class Slow:
    # Stops the start where the imports of the program begin.
    def find_spec(self, name, path=None, target=None):
        if name == "asgi_master.master.main":
            pathlib.Path(__file__).with_name("importing").touch()
            time.sleep(60)

sys.meta_path.insert(0, Slow())
"""

Run = Callable[..., Container]


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="asgi-master-pid1-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def run(directory: Path) -> Iterator[Run]:
    if reason := why_not():
        pytest.skip(reason)
    started: list[Container] = []

    with contextlib.ExitStack() as stack:

        def run(
            *arguments: str, memory: int | None = None, cpus: float | None = None, **options
        ) -> Container:
            try:
                groups = stack.enter_context(control_groups(memory=memory, cpus=cpus))
            except OSError as error:
                pytest.skip(f"no control group with a limit can be made here: {error}")
            started.append(Container(*arguments, directory=directory, groups=groups, **options))
            return started[-1]

        yield run
        for container in started:
            container.close()


def get(container: Container, path: str = "/") -> dict:
    return httpx.get(f"{container.url}{path}", timeout=PATIENCE, trust_env=False).json()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_program_still_imports_is_heard(
    run: Run, directory: Path, signum: signal.Signals
) -> None:
    (directory / "sitecustomize.py").write_text(HOOK)
    container = run(
        "init:app",
        env={"PYTHONPATH": f"{directory}:{os.environ.get('PYTHONPATH', '')}:{SOURCE}"},
    )
    wait_until((directory / "importing").exists, "the imports began")
    assert container.stop(signum) == 0, container.log
    assert container.lines == []


def test_orphans_are_reaped_and_no_worker_is_blamed(run: Run) -> None:
    container = run("--workers", "2", "init:app")
    container.wait_line("ready: 2 workers")
    told = get(container, "/orphans")
    assert told["master"] == 1
    wait_until(lambda: len(container.first.children()) == 3, "a zygote and two workers are left")
    assert container.zombies() == []
    assert container.stop() == 0
    assert "WARNING" not in container.log


def test_nothing_to_write_to_no_home_and_no_root(run: Run) -> None:
    if isinstance(why := program_for_anybody(), str):
        pytest.skip(why)
    container = run("--workers", "2", "init:app", sealed=True)
    container.wait_line("ready: 2 workers")
    told = get(container)
    assert (told["uid"], told["home"], told["writable"], told["shm"]) == (USER, None, [], False)
    (line,) = [line for line in container.lines if "control socket" in line]
    assert "INFO" in line
    container.first.send_signal(signal.SIGHUP)
    container.wait_line("reloaded: 2 workers")
    assert get(container)["uid"] == USER
    assert container.stop() == 0
    assert "WARNING" not in container.log


def test_workers_by_the_quota(run: Run) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a quota of one CPU tells nothing where there is only one")
    container = run("--workers", "auto", "init:app", cpus=1)
    container.wait_line("ready: 1 worker")
    assert container.stop() == 0


def test_the_status_says_why(run: Run) -> None:
    assert run("no_such_module:app").wait_exit() == 3
    assert run("--workers", "none", "init:app").wait_exit() == 2


def test_a_worker_out_of_memory_ends_the_container_if_asked_to(run: Run) -> None:
    container = run("--workers", "2", "--on-oom", "exit", "init:app", memory=300 << 20)
    container.wait_line("ready: 2 workers")
    with pytest.raises(httpx.TransportError):
        for _ in range(60):
            get(container, "/grow")
    assert container.wait_exit() == 7, container.log
    container.wait_line("the kernel's OOM killer")
    container.wait_line(r"stopping: a worker was killed for lack of memory \(--on-oom exit\)")
    assert any("stopped" in line for line in container.lines), container.log
