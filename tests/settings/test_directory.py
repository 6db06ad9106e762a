import os
from pathlib import Path
from typing import NoReturn

import pytest

from asgi_master.settings.directory import working_directory


@pytest.fixture
def releases(tmp_path, monkeypatch) -> Path:
    """Below `app`: two releases, and a link to the first, where we are."""
    root = Path(os.path.realpath(tmp_path)) / "app"
    for name in ("releases/1/src", "releases/2/src"):
        (root / name).mkdir(parents=True)
    (root / "current").symlink_to("releases/1")
    monkeypatch.chdir(root / "current")
    return root


def test_what_the_shell_says_counts(releases):
    for name in ("current", "releases/1"):
        assert working_directory({"PWD": str(releases / name)}, []) == releases / name


@pytest.mark.parametrize("name", ["/", "/nowhere", "", ".", "/nowhere\0"])
def test_what_it_said_of_another_directory_does_not(releases, name):
    (releases / "other").symlink_to("releases/1")
    assert working_directory({"PWD": name}, []) == releases / "releases/1"


@pytest.mark.parametrize(
    "command",
    [
        ["{}/releases/1/.venv/bin/python", "{}/other/.venv/bin/asgi-master", "main:app"],
        ["python", "-m", "asgi_master", "--app-dir={}/other/src"],
        ["python", "-m", "asgi_master", "--app-dir", "{}/other"],
    ],
)
def test_a_name_in_the_command_counts_otherwise(releases, command):
    (releases / "other").symlink_to("releases/1")
    words = [word.format(releases) for word in command]
    assert working_directory({"PWD": "/"}, words) == releases / "other"


@pytest.mark.parametrize("below", [".", "src"])
def test_or_the_one_link_that_leads_here(releases, monkeypatch, below):
    monkeypatch.chdir(releases / "current" / below)
    assert working_directory({}, []) == releases / "current" / below


def test_of_several_links_none_is_taken(releases):
    (releases / "stable").symlink_to("releases/1")
    assert working_directory({}, []) == releases / "releases/1"


def test_nor_one_where_anybody_may_make_one(releases):
    """As in /tmp: a user who may not change the release must not be able to have another one loaded."""
    releases.chmod(0o1777)
    assert working_directory({}, []) != releases / "current"


def test_a_directory_that_is_gone_has_a_name_all_the_same(releases):
    (releases / "releases/1/src").rmdir()
    (releases / "releases/1").rmdir()
    (releases / "current").unlink()
    assert working_directory({"PWD": str(releases / "current")}, []).name == "1 (deleted)"


def test_a_folder_that_cannot_be_read_is_passed_over(releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> NoReturn:
        raise PermissionError

    monkeypatch.setattr(os, "scandir", refuse)
    assert working_directory({}, []) == releases / "releases/1"
