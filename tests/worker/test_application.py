import functools
import os
import sys
import textwrap
import traceback
from pathlib import Path

import pytest

from asgi_master.errors import ApplicationError, ExitCode
from asgi_master.settings.model import ApplicationSettings
from asgi_master.telemetry.failures import read
from asgi_master.telemetry.tracebacks import text_of
from asgi_master.worker.application import load_application, prepare_environment

_APP = "async def app(scope, receive, send): ...\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that writes modules into a fresh app dir; all they import is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    prepare_environment(ApplicationSettings(app_dir=str(tmp_path)))

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _fail(target: str, *, factory: bool = False) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        load_application(target, factory=factory)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.BOOT_FAILED
    return caught.value


def test_targets_are_loaded(project):
    project(
        s_plain=_APP,
        s_nested="""
            class Holder:
                class inner:
                    async def app(scope, receive, send): ...
            holder = Holder()
        """,
        s_package__in__api=_APP,
    )
    assert load_application("s_plain:app", factory=False).__name__ == "app"
    assert load_application("s_nested:holder.inner.app", factory=False).__name__ == "app"
    assert load_application("s_package.api:app", factory=False).__module__ == "s_package.api"


def test_a_factory_is_called(project):
    project(
        s_make="""
            async def app(scope, receive, send): ...
            def create_app(): return app
            class App:
                async def __call__(self, scope, receive, send): ...
        """
    )
    assert load_application("s_make:create_app", factory=True).__name__ == "app"
    assert type(load_application("s_make:App", factory=True)).__name__ == "App"


@pytest.mark.parametrize(
    "source",
    [
        "def app(scope, receive, send): ...",
        "def app(*args): ...",
        "class App:\n    async def __call__(self, scope, receive, send): ...\napp = App()",
        "class app:\n    def __init__(self, scope, receive, send): ...\n    def __await__(self): ...",
        "import functools\nasync def f(a, scope, receive, send): ...\napp = functools.partial(f, 1)",
        "async def app(scope, receive, send, extra=None): ...",
        "class Meta(type):\n    def __call__(cls, scope, receive, send): ...\nclass app(metaclass=Meta): ...",
    ],
)
def test_whatever_may_be_an_application_passes(project, source):
    project(s_passes=source)
    assert callable(load_application("s_passes:app", factory=False))


def test_real_frameworks_pass(project):
    project(
        s_frameworks="""
            from starlette.applications import Starlette
            from fastapi import FastAPI
            from quart import Quart
            starlette, fastapi, quart = Starlette(), FastAPI(), Quart("s")
        """
    )
    for name in ("starlette", "fastapi", "quart"):
        assert callable(load_application(f"s_frameworks:{name}", factory=False))


def test_a_mistyped_attribute_names_what_is_there(project):
    directory = project(s_typo=_APP + "from os.path import join\nimport textwrap\n_private = app\n")
    assert str(_fail("s_typo:ap")) == (
        f'cannot load "s_typo:ap": module s_typo ({directory}/s_typo.py) has no attribute "ap"; did you mean "app"?'
    )
    assert str(_fail("s_typo:server")).endswith('has no attribute "server"; found: app')
    assert str(_fail("s_typo:app.inner")).startswith(
        'cannot load "s_typo:app.inner": s_typo:app (of type function) has no'
    )


def test_a_target_without_attribute_names_what_was_probably_meant(project):
    project(s_bare=_APP, s_empty="")
    assert str(_fail("s_bare")).endswith('did you mean "s_bare:app"?')
    assert str(_fail("s_empty")).endswith("no similar name was found")


def test_a_missing_module_names_what_is_in_the_directory(project):
    directory = project(s_main=_APP, s_other=_APP, s_package__in__api=_APP)
    assert str(_fail("s_mian:app")) == (
        f'cannot load "s_mian:app": no module named "s_mian" in {directory} (--app-dir); did you mean "s_main"?'
    )
    assert str(_fail("zzz:app")).endswith("found: s_main, s_other, s_package")
    assert str(_fail("s_package.apo:app")).endswith('did you mean "api"?')
    assert "s_main is a module, not a package" in str(_fail("s_main.inner:app"))


def test_a_malformed_target(project):
    project()
    assert 'did you mean "main:app"?' in str(_fail("main.py"))


def test_what_the_application_fails_to_import_is_its_own_error(project):
    project(s_broken="import s_not_installed\n")
    error = _fail("s_broken:app")
    assert str(error) == "importing s_broken failed: ModuleNotFoundError: No module named 's_not_installed'"
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_a_missing_module_of_the_same_name_inside_the_application_is_its_own_error(project):
    project(s_same="import s_same.inner\n")
    assert str(_fail("s_same:app")).startswith("importing s_same failed: ModuleNotFoundError")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("1 / 0", "importing s_raises failed: ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines')", "importing s_raises failed: ValueError: two lines"),
        ("raise ValueError", "importing s_raises failed: ValueError"),
        ("import sys; sys.exit(3)", "importing s_raises ended the program with SystemExit: 3"),
        ("exit()", "importing s_raises ended the program"),
        ("def (:", "importing s_raises failed: SyntaxError: invalid syntax (s_raises.py, line 1)"),
        (
            "class E(Exception):\n    __str__ = None\nraise E",
            "importing s_raises failed: E: (no description)",
        ),
        ("raise ValueError('x' * 1000)", f"importing s_raises failed: ValueError: {'x' * 288}..."),
    ],
)
def test_a_failing_import_is_one_line_with_the_exception_as_cause(project, source, line):
    project(s_raises=source)
    error = _fail("s_raises:app")
    assert str(error) == line
    assert error.__cause__ is not None


def test_an_attribute_that_raises_is_the_applications_error(project):
    project(
        s_property="""
            class Holder:
                @property
                def app(self): return self.missing
                @property
                def other(self): raise KeyError("x")
            holder = Holder()
        """
    )
    assert isinstance(_fail("s_property:holder.app").__cause__, AttributeError)
    assert isinstance(_fail("s_property:holder.other").__cause__, KeyError)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def create(): 1 / 0", 'the factory "s_factory:create" failed: ZeroDivisionError: division by zero'),
        ("def create(needed): ...", 'the factory "s_factory:create" failed: TypeError: create() missing 1'),
        ("def create(): raise SystemExit", 'the factory "s_factory:create" ended the program'),
        ("async def create(): ...", 'the factory "s_factory:create" is asynchronous'),
        ("def create(): ...", 'what the factory "s_factory:create" returned is not callable but None'),
        ("create = 3", 'the factory "s_factory:create" is not callable but of type int'),
    ],
)
def test_a_factory_that_does_not_work(project, source, reason):
    project(s_factory=source)
    assert str(_fail("s_factory:create", factory=True)).startswith(reason)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("app = 3", '"s_wrong:app" is not callable but of type int'),
        ("app = None", '"s_wrong:app" is not callable but None'),
        ("import os as app", '"s_wrong:app" is a module, not an application'),
        ("def app(): ...", "environ and start_response (WSGI): use --factory"),
        ("async def app(scope): ...", '"s_wrong:app" cannot be called with scope, receive and send'),
        (
            "class app:\n    async def __call__(self, scope, receive, send): ...",
            "is a class, not an application: use --factory",
        ),
    ],
)
def test_what_surely_is_no_application_is_refused(project, source, reason):
    project(s_wrong=source)
    assert reason in str(_fail("s_wrong:app"))


@pytest.mark.parametrize(
    ("interface", "source", "reason"),
    [
        ("asgi", "def app(environ, start_response): ...", "looks like a WSGI application"),
        (
            "asgi",
            "class A:\n    def __call__(self, environ, start_response): ...\napp = A()",
            "looks like a WSGI application",
        ),
        ("wsgi", "async def app(scope, receive, send): ...", "looks like an ASGI application"),
        ("wsgi", "async def app(one, two): ...", "called with environ and start_response, as WSGI"),
        ("asgi", "def app(one): ...", "called with scope, receive and send, as ASGI applications are"),
    ],
)
def test_what_cannot_be_called_by_the_wanted_interface_is_refused(project, interface, source, reason):
    project(s_wanted=source)
    with pytest.raises(ApplicationError, match=reason):
        load_application("s_wanted:app", factory=False, interface=interface)


def test_the_application_directory_is_first_and_once_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/elsewhere", str(tmp_path)])
    monkeypatch.chdir(tmp_path.parent)
    prepare_environment(ApplicationSettings(app_dir=tmp_path.name))
    assert sys.path == [str(tmp_path), "/elsewhere"]


@pytest.fixture
def environ(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TAKEN", "before")
    # Set and removed, so that it is gone afterwards whatever the test does.
    monkeypatch.setenv("NEW", "")
    monkeypatch.delenv("NEW")
    return os.environ


def test_the_environment_file_fills_gaps_only(tmp_path, environ):
    (tmp_path / ".env").write_text("TAKEN=after\nexport NEW='new one'\n")
    prepare_environment(ApplicationSettings(env_file=str(tmp_path / ".env")))
    assert (environ["TAKEN"], environ["NEW"]) == ("before", "new one")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"A=1\nnonsense\n", ", line 2: not KEY=VALUE"),
        (b"\xff", "it is not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_bad_environment_file_is_one_line(tmp_path, environ, content, reason):
    path = tmp_path / ".env"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ApplicationError, match=reason):
        prepare_environment(ApplicationSettings(env_file=str(path)))


def user_traceback(error: BaseException) -> str:
    return text_of(read(error), full=False) + "\n"


def _traceback_of(target: str, **options: bool) -> str:
    cause = _fail(target, **options).__cause__
    assert cause is not None
    return user_traceback(cause)


def test_the_traceback_shows_the_applications_frames_only(project):
    directory = project(
        s_outer="import s_inner\n",
        s_inner="def fail():\n    raise RuntimeError('no database')\nfail()\n",
    )
    lines = _traceback_of("s_outer:app").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: no database"
    files = [line.split('"')[1] for line in lines if line.startswith("  File ")]
    assert files == [f"{directory}/s_outer.py", f"{directory}/s_inner.py", f"{directory}/s_inner.py"]


def test_the_traceback_of_a_syntax_error_is_the_place(project):
    directory = project(s_syntax="x = 1\ndef (:\n")
    text = _traceback_of("s_syntax:app")
    assert text.startswith(f'  File "{directory}/s_syntax.py", line 2\n')
    assert text.endswith("SyntaxError: invalid syntax\n")


def test_causes_and_contexts_and_groups_are_kept_and_stripped(project):
    project(
        s_chain="""
            import importlib
            def load(name):
                importlib.import_module(name)
            try:
                try:
                    load("s_not_there")
                except ImportError as error:
                    raise KeyError("first") from error
            except KeyError:
                raise ExceptionGroup("several", [ValueError("one"), ValueError("two")])
        """
    )
    text = _traceback_of("s_chain:app")
    for expected in (
        "ModuleNotFoundError",
        "direct cause",
        "KeyError: 'first'",
        "During handling",
        "ValueError: two",
    ):
        assert expected in text
    assert "importlib" not in text.replace("importlib.import_module(name)", "")
    assert str(Path(load_application.__code__.co_filename).parent) not in text


def test_an_exception_of_our_own_keeps_its_frames():
    try:
        load_application("", factory=False)
    except ApplicationError as error:
        ours = error.with_traceback(error.__traceback__.tb_next)
    assert "in load_application" in user_traceback(ours)


def test_an_exception_without_traceback_or_in_a_circle():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert user_traceback(first).endswith("ValueError: first\n")
    assert user_traceback(ValueError("bare")) == "".join(traceback.format_exception_only(ValueError("bare")))


def test_a_recursion_error_stays_short(project):
    project(s_deep="def f(): f()\nf()\n")
    text = _traceback_of("s_deep:app")
    assert "repeated" in text
    assert len(text.splitlines()) < 40


def test_a_partial_of_a_factory_is_one(project):
    project(
        s_partial="import functools\nasync def app(scope, receive, send): ...\nmake = functools.partial(lambda a: a, app)\n"
    )
    made = load_application("s_partial:make", factory=True)
    assert not isinstance(made, functools.partial)
