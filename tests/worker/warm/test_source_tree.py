"""Which modules are the application's."""

from importlib.machinery import ModuleSpec

import pytest

from asgi_master.worker.warm.source_tree import SourceTree


def module_at(path):
    spec = ModuleSpec("m", None, origin=str(path))
    spec.has_location = True
    return spec


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("work/app.py", True),
        ("work/package/part.py", True),
        ("work/.venv/lib/python3/site-packages/lib.py", False),
        ("work/env/lib/python3/site-packages/lib/part.py", False),
        ("elsewhere/lib.py", False),
        ("workshop/lib.py", False),
    ],
)
def test_by_its_file(tmp_path, path, owned):
    assert SourceTree([str(tmp_path / "work")]).owns(module_at(tmp_path / path)) is owned


def test_links_are_followed(tmp_path):
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    tree = SourceTree([str(tmp_path / "current")])
    assert tree.owns(module_at(tmp_path / "release" / "app.py"))
    assert SourceTree([str(tmp_path / "release")]).owns(module_at(tmp_path / "current" / "app.py"))


def test_a_namespace_package_is_owned_if_any_of_its_directories_is(tmp_path):
    spec = ModuleSpec("shared", None, is_package=True)
    tree = SourceTree([str(tmp_path / "work")])
    spec.submodule_search_locations = [str(tmp_path / "lib" / "shared")]
    assert not tree.owns(spec)
    spec.submodule_search_locations.append(str(tmp_path / "work" / "shared"))
    assert tree.owns(spec)


def test_what_has_no_file_is_not(tmp_path):
    tree = SourceTree([str(tmp_path)])
    assert not tree.owns(None)
    assert not tree.owns(ModuleSpec("sys", None, origin="built-in"))
