"""Releases behind a symbolic link that a deploy switches, however the master was started."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet import SOURCE, Fleet, wait_until

APP = """
import os, sys
import dependency
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = "gone"
    text = f"RELEASE {dependency.RELEASE} {os.path.basename(here)} {os.environ['PWD']} {sys.prefix}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""
QUICK = ("--watch-time", "0", "--workers", "1", "--bind", "127.0.0.1:0")


def release(root: Path, number: int) -> Path:
    """A release, with a virtual environment of its own that holds a dependency."""
    directory = root / f"releases/{number}"
    directory.mkdir(parents=True)
    (directory / "app.py").write_text(APP.replace("RELEASE", str(number), 1))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "venv"], check=True)
    (packages,) = (directory / "venv/lib").glob("*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "theirs.pth").write_text("\n".join([str(SOURCE), *ours]))
    (packages / "dependency.py").write_text(f"RELEASE = {number}\n")
    script = directory / "venv/bin/asgi-master"
    script.write_text(
        f"#!{directory}/venv/bin/python\nimport sys\nfrom asgi_master.cli.app import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return directory


@pytest.fixture
def root(fleet: Fleet) -> Path:
    root = Path(os.path.realpath(fleet.directory)) / "srv"
    for number in (1, 2):
        release(root, number)
    (root / "current").symlink_to("releases/1")
    return root


def switch(root: Path, target: str = "releases/2") -> None:
    (root / "new").symlink_to(target)
    (root / "new").rename(root / "current")


def answer(fleet: Fleet) -> list[str]:
    with fleet.client() as client:
        return client.get("/").text.split()


def again(fleet: Fleet, signum: signal.Signals = signal.SIGHUP) -> str:
    """Reload or upgrade; returns where the new generation is."""
    after = len(fleet.lines)
    fleet.send(signum)
    return fleet.wait_line(r"reloaded: .*, from (\S+)$", 40, after=after)[1]


def is_of(number: int, root: Path) -> Callable[[list[str]], bool]:
    return lambda words: (
        words[:3] == [str(number)] * 3
        and words[3] in {str(root / "current"), str(root / f"releases/{number}")}
        and words[4] == str(root / f"releases/{number}/venv")
    )


STARTS = {
    "by a shell": ("current", "{root}/current", ["venv/bin/asgi-master", *QUICK]),
    "by who only changes the directory": ("current", "/", ["venv/bin/asgi-master", *QUICK]),
    "by a unit": ("current", None, ["{root}/current/venv/bin/asgi-master", *QUICK]),
    "with --chdir": (".", "/", ["{root}/current/venv/bin/asgi-master", "--chdir", "{root}/current", *QUICK]),
    "with --chdir, relative": (".", "{root}", ["current/venv/bin/asgi-master", "--chdir=current", *QUICK]),
    "by python -m": (
        ".",
        "/",
        ["{root}/current/venv/bin/python", "-m", "asgi_master", "--chdir", "{root}/current", *QUICK],
    ),
}


@pytest.mark.parametrize("how", STARTS)
@pytest.mark.parametrize(
    "signum", [signal.SIGHUP, pytest.param(signal.SIGUSR2, marks=pytest.mark.newest_python)]
)
def test_the_new_release_serves_with_its_own_environment(fleet: Fleet, root: Path, how: str, signum) -> None:
    directory, pwd, command = STARTS[how]
    fleet.directory = root / directory
    env = {"PYTHONPATH": ""} | ({} if pwd is None else {"PWD": pwd.format(root=root)})
    fleet.start("app:app", program=[word.format(root=root) for word in command], env=env).wait_ready(1)
    assert is_of(1, root)(answer(fleet)), answer(fleet)
    switch(root)
    assert again(fleet, signum) == str(root / "releases/2")
    # A connection that the old worker accepted while its order to stop was on the way is still its own.
    wait_until(lambda: is_of(2, root)(answer(fleet)), "the new release serves")
    shutil.rmtree(root / "releases/1")
    assert again(fleet) == str(root / "releases/2")
    # A connection that the old worker accepted while its order to stop was on the way is still its own.
    wait_until(lambda: is_of(2, root)(answer(fleet)), "the new release serves")


def test_a_release_that_is_gone_serves_on_and_reloads_once_there_is_one(fleet: Fleet, root: Path) -> None:
    fleet.directory = root / "current"
    fleet.expect_log('ERROR.*not reloading: app-dir: the working directory .*current" is not there')
    fleet.start("app:app", program=["venv/bin/asgi-master", *QUICK], env={"PYTHONPATH": ""}).wait_ready(1)
    shutil.rmtree(root / "releases/1")
    assert answer(fleet)[:3] == ["1", "1", "gone"]
    fleet.send(signal.SIGHUP)
    fleet.wait_line("not reloading")
    assert answer(fleet)[:3] == ["1", "1", "gone"]
    switch(root)
    assert again(fleet) == str(root / "releases/2")
    wait_until(lambda: is_of(2, root)(answer(fleet)), "the new release serves")


def test_settings_are_looked_for_where_chdir_leads(fleet: Fleet, root: Path) -> None:
    (root / "releases/1/asgi-master.toml").write_text("app = 'app:app'\npid-file = 'pid'\nwatch-time = 0\n")
    (root / "releases/2/asgi-master.toml").write_text("app = 'app:app'\nwatch-time = 0\nworkers = 2\n")
    fleet.expect_log("WARNING.*pid-file takes effect after a restart")
    fleet.start(
        "--chdir", str(root / "current"), "--bind", "127.0.0.1:0", program=[str(root / "current/venv/bin/asgi-master")], env={"PYTHONPATH": ""}
    ).wait_ready(1)  # fmt: skip
    assert (root / "releases/1/pid").read_text() == f"{fleet.pid}\n"
    switch(root)
    again(fleet)
    fleet.wait_settled(2)
