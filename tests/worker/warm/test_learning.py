"""What is learnt from an import: which installed modules, in which order, and what the application did before them."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from asgi_master.worker.warm.learning import ImportLearner, Learnt, Step, dump, forget_racy_cache, load
from asgi_master.worker.warm.source_tree import SourceTree


@pytest.fixture
def learn(tmp_path, monkeypatch):
    """Imports the application `own_main` beside installed packages, from these sources, and returns what it shows."""
    before = set(sys.modules)
    application, installed = tmp_path / "application", tmp_path / "lib" / "site-packages"
    application.mkdir()
    installed.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(application), str(installed), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def run(**sources: str) -> Learnt:
        for name, text in sources.items():
            place = application if name.startswith("own_") else installed
            file = place / f"{name.replace('__', '/').replace('init', '__init__')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        importlib.invalidate_caches()
        with ImportLearner(SourceTree([str(application)])) as learner:
            importlib.import_module("own_main")
        return learner.learnt

    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_installed_modules_are_learnt_in_the_order_in_which_they_begin(learn):
    learnt = learn(
        own_main="import lib_b, own_part, lib_c",
        own_part="import lib_d",
        lib_b="import lib_a",
        lib_a="",
        lib_c="",
        lib_d="",
    )
    assert learnt.modules == ["lib_b", "lib_a", "lib_d", "lib_c"]
    assert [Path(file).name for file in learnt.files] == ["own_main.py", "own_part.py"]
    assert learnt.ended_by == ""
    assert learnt.fixed == 0


def test_what_the_application_does_to_the_environment_is_repeated(learn):
    os.environ["OWN_GONE"] = "x"
    learnt = learn(
        own_main="import own_first, lib_b\nimport os\nos.environ['OWN_LATE'] = 'x'",
        own_first="import os, sys\nos.environ['OWN_SET'] = '1'\ndel os.environ['OWN_GONE']\nsys.path.append('/nowhere')",
        lib_b="import os\nos.environ['LIB_SET'] = '1'",
    )
    change, module = learnt.steps
    assert change.environ == {"OWN_SET": "1", "OWN_GONE": None}
    assert change.path is not None
    assert change.path[-1] == "/nowhere"
    assert module == Step("lib_b")
    assert learnt.fixed == 2


def test_nothing_is_learnt_after_the_application_patched_an_installed_module(learn):
    learnt = learn(
        own_main="import lib_a\nlib_a.FLAG = True\nimport lib_b",
        lib_a="FLAG = False",
        lib_b="import lib_a\nSEEN = lib_a.FLAG",
    )
    assert learnt.modules == ["lib_a"]
    assert learnt.ended_by == "the application changes lib_a.FLAG before it imports the rest"


def test_a_patch_by_a_function_of_the_application_is_seen(learn):
    learnt = learn(
        own_main="import lib_a, own_patch\nimport lib_b",
        own_patch="import lib_a\nfor name in ['F' + 'LAG']: vars(lib_a)[name] = lambda: True",
        lib_a="FLAG = False",
        lib_b="",
    )
    assert "lib_a.FLAG" in learnt.ended_by


def test_what_an_installed_module_binds_by_itself_is_its_own_affair(learn):
    learnt = learn(
        own_main="import lib_a\nlib_a.connect()\nimport lib_b\nimport lib_p.part\nimport lib_c",
        lib_a="_cache = None\ndef connect():\n    global _cache\n    _cache = object()",
        lib_b="",
        lib_c="",
        lib_p__init="",
        lib_p__part="",
    )
    assert learnt.ended_by == ""
    assert learnt.modules == ["lib_a", "lib_b", "lib_p", "lib_p.part", "lib_c"]


def test_an_installed_module_that_imports_the_application_is_left_to_the_reload(learn):
    learnt = learn(
        own_main="import lib_outer, lib_b",
        lib_outer="import lib_inner, own_plugin",
        lib_inner="",
        own_plugin="import lib_deep",
        lib_deep="",
        lib_b="",
    )
    assert learnt.modules == ["lib_inner", "lib_deep", "lib_b"]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import sys; sys.argv = ['x']", "sys.argv"),
        (
            "import sys; sys.meta_path.insert(0, type('F', (), {'find_spec': lambda *a: None})())",
            "sys.meta_path",
        ),
        ("import os; os.chdir('/')", "the working directory"),
    ],
)
def test_other_changes_of_the_process_end_it(learn, monkeypatch, code, what):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.chdir(Path.cwd())
    learnt = learn(own_main=f"import lib_a\n{code}\nimport lib_b", lib_a="", lib_b="")
    assert learnt.modules == ["lib_a"]
    assert what in learnt.ended_by


def test_a_module_that_could_not_be_imported_is_not_learnt(learn):
    learnt = learn(
        own_main="try:\n    import lib_a\nexcept ValueError:\n    pass\nimport lib_b",
        lib_a="raise ValueError",
        lib_b="",
    )
    assert learnt.modules == ["lib_b"]


def test_it_crosses_to_another_process(tmp_path):
    learnt = Learnt(
        [Step("a"), Step(environ={"X": "1", "Y": None}, path=["/p"])],
        ["/own.py"],
        [(1, 2, 3)],
        fixed=1,
        ended_by="why",
    )
    with (tmp_path / "file").open("w+b") as file:
        dump(Learnt(ended_by="much longer than what follows" * 99), file.fileno())
        dump(learnt, file.fileno())
        assert load(file.fileno()) == learnt


def test_compiled_code_hardly_younger_than_its_source_is_not_trusted(tmp_path):
    source, compiled = tmp_path / "a.py", tmp_path / "a.pyc"
    source.touch()
    spec = importlib.machinery.ModuleSpec("a", None, origin=str(source))
    spec.cached = str(compiled)
    forget_racy_cache(spec)
    compiled.touch()
    forget_racy_cache(spec)
    assert not compiled.exists()
    compiled.touch()
    os.utime(source, (1, 1))
    forget_racy_cache(spec)
    assert compiled.exists()
