import os
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_master.master import interpreter as room
from asgi_master.master.interpreter import Interpreter, options_of


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("-m asgi_master app:app -O", ""),
        (
            "-O -W error::ResourceWarning -X tracemalloc=1 -m asgi_master",
            "-O -Werror::ResourceWarning -Xtracemalloc=1",
        ),
        ("-OOIEs -Wd -Xdev script -O", "-OOIEs -Wd -Xdev"),
        ("-sWignore -bXutf8 script", "-s -Wignore -b -Xutf8"),
        ("-Im asgi_master -O", "-I"),
        ("-ic code", ""),
        ("-uix script", "-u"),
        ("--check-hash-based-pycs always -B script", "--check-hash-based-pycs always -B"),
        ("- -O", ""),
        ("", ""),
        ("-X", "-X"),
    ],
)
def test_the_options_of_the_interpreter(words, options):
    assert options_of(words.split()) == options.split()


@pytest.fixture
def releases(tmp_path, monkeypatch) -> Path:
    """Two releases with an environment each, and a link to the first."""
    root = Path(os.path.realpath(tmp_path))
    for number in (1, 2):
        (root / f"releases/{number}/venv/bin").mkdir(parents=True)
        for name in ("python", "asgi-master"):
            (root / f"releases/{number}/venv/bin" / name).touch(0o755)
    (root / "current").symlink_to("releases/1")
    (root / "else").mkdir()
    monkeypatch.setattr(sys, "executable", str(root / "releases/1/venv/bin/python"))
    return root


def switch(root: Path) -> None:
    (root / "new").symlink_to("releases/2")
    (root / "new").rename(root / "current")


@pytest.mark.parametrize(
    ("started_in", "argv"),
    [
        ("current", ["venv/bin/asgi-master"]),
        ("current", ["{}/releases/1/venv/bin/asgi-master"]),
        ("current/venv", ["bin/asgi-master"]),
        ("else", ["{}/current/venv/bin/asgi-master"]),
        ("else", ["{}/else/asgi-master"]),
    ],
)
def test_the_python_of_the_release_that_is_current(releases, monkeypatch, started_in, argv):
    (releases / "else/asgi-master").symlink_to("../current/venv/bin/asgi-master")
    script = argv[0].format(releases)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, script])
    monkeypatch.setattr(sys, "argv", [script])
    ours = Interpreter()
    ours.follow(str(releases / started_in))
    assert ours.command("zygote")[0] == str(releases / "releases/1/venv/bin/python")
    switch(releases)
    assert ours.command("zygote")[0] == str(releases / "releases/2/venv/bin/python")
    assert "/current/venv" in ours.by_name(sys.executable)


def test_one_that_lies_elsewhere_stays(releases, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(releases / "else/python"))
    (releases / "else/python").touch(0o755)
    ours = Interpreter()
    ours.follow(str(releases / "current"))
    switch(releases)
    assert ours.command("zygote")[0] == str(releases / "else/python")


def test_a_release_without_one_uses_that_of_before_and_without_that_says_so(releases, monkeypatch):
    ours = Interpreter()
    ours.follow(str(releases / "current"))
    switch(releases)
    (releases / "releases/2/venv/bin/python").unlink()
    assert ours.command("zygote")[0] == sys.executable
    Path(sys.executable).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        ours.command("zygote")
    assert caught.value.filename == sys.executable


def test_links_that_only_look_alike_are_not_taken_for_more(releases, monkeypatch):
    """`venv` is a link of its own here: what lies beside it has nothing to do with what lies beside its target."""
    (releases / "else/venv").symlink_to("../releases/1/venv")
    (releases / "else/other").mkdir()
    (releases / "releases/1/other").mkdir()
    ours = Interpreter()
    ours.follow(str(releases / "else/venv"))
    assert ours.by_name(str(releases / "releases/1/other")) == str(releases / "releases/1/other")
    assert ours.by_name(sys.executable) == str(releases / "else/venv/bin/python")


def test_an_ordinary_start_needs_no_path(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", str(Path(sys.executable).parent), *room._inherited_path()])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-O", "-m", "asgi_master"])
    program, *words = Interpreter().command("some.module", "3")
    assert words == ["-O", "-P", "-m", "some.module", "3"]
    assert Path(program).samefile(sys.executable)


def test_a_path_that_a_start_script_set_is_handed_on(tmp_path, monkeypatch):
    """In its order, before and after what the interpreter has by itself, and none of it twice."""
    (tmp_path / "first").mkdir()
    (tmp_path / "last").mkdir()
    (tmp_path / "first/begun.py").write_text(
        "import sys; print(__name__, sys.argv[1:], *sys.path, sep='\\n')"
    )
    inherited = list(room._inherited_path())
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), *inherited, str(tmp_path / "last")])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "start.py"])
    command = Interpreter().command("begun", "3", "-x")
    name, arguments, *path = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert (name, arguments) == ("__main__", "['3', '-x']")
    assert (path[0], path[-1]) == (str(tmp_path / "first"), str(tmp_path / "last"))
    assert len(path) == len(set(path))
