"""Whether what was imported still holds."""

import ast
import os
import sys
from pathlib import Path

import pytest

from asgi_master.worker.warm.inputs import Source, Stamps, imports_in, source_of, surroundings


def test_a_changed_new_or_vanished_file_is_named(tmp_path):
    same, other, gone, new = (str(tmp_path / name) for name in ("same", "other", "gone", "new"))
    for path in (same, other, gone):
        Path(path).write_text("1")
    stamps = Stamps.of([same, other, gone, new])
    assert stamps.changed() == []
    Path(other).write_text("22")
    Path(gone).unlink()
    Path(new).touch()
    assert stamps.changed() == [other, gone, new]


def test_the_interpreter_and_the_installed_packages_are_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", "/opt/lib/site-packages"])
    found = surroundings("/etc/app.env", str(tmp_path))
    assert sys.executable in found
    assert "/opt/lib/site-packages" in found
    assert "/etc/app.env" in found
    assert str(tmp_path / ".env") in found
    assert str(tmp_path) not in found


def test_the_file_of_a_module():
    assert source_of(ast) == ast.__file__
    assert source_of(sys) == ""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (b"import a, b.c as d", {"a", "b.c"}),
        (b"from a import b, c\nfrom . import d\nfrom .e import *", {"a:b", "a:c", ".:d", ".e:*"}),
        (b"def f():\n    import lazy", {"lazy"}),
        (b"def broken(:", None),
        (b"\0", None),
    ],
)
def test_imports(source, found):
    assert imports_in(source) == found


@pytest.mark.parametrize(
    ("before", "after", "dropped"),
    [
        ("import a", "import a", ""),
        ("import a", "import a, b", ""),
        ("import a, b", "import a", "b"),
        ("import a", "import (", ""),
        ("import (", "import a", ""),
    ],
)
def test_an_import_that_is_dropped(tmp_path, before, after, dropped):
    path = tmp_path / "own.py"
    path.write_text(before)
    source = Source.read(str(path))
    path.write_text(after)
    os.utime(path, (1, 1))
    assert source.dropped(str(path)) == dropped


def test_a_file_that_is_not_there(tmp_path):
    source = Source.read(str(tmp_path / "none.py"))
    assert source == Source(None, None)
    assert source.dropped(str(tmp_path / "none.py")) == ""
