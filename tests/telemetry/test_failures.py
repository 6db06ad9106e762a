"""Tracebacks as the author of an application reads them: what stands out, what is folded, and what bounds hold."""

import asyncio
import json
import os
import sys
import textwrap
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.telemetry.code_ownership import CodeOwnership
from asgi_master.telemetry.failures import describe, read
from asgi_master.telemetry.tracebacks import fields_of, for_another_process, text_of


@pytest.fixture
def code(tmp_path):
    """A function that runs source as if it lay in a file, of the application unless another directory is named."""

    def run(source, directory="shop", **names):
        path = tmp_path / directory / "views.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        exec(compile(path.read_text(), path, "exec"), names)
        return names

    return run


FRAMEWORK = "venv/lib/python3.13/site-packages/framework"
DRIVER = "venv/lib/python3.13/site-packages/driver"


def caught(call, *arguments):
    try:
        call(*arguments)
    except BaseException as error:  # noqa: BLE001 -- whatever it is
        # Without the frame of the test.
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError


def shown(error, *, full=False):
    return text_of(read(error, full=full, ownership=CodeOwnership()), full=full)


@pytest.fixture
def stacked(code):
    """A framework that calls the application, which calls a driver, which raises."""
    driver = code("def low(): raise OSError('gone')\ndef query(): low()\n", DRIVER)
    view = code("def view():\n    return query()\n", query=driver["query"])
    framework = code("def inner(): view()\ndef call(): inner()\n", FRAMEWORK, view=view["view"])
    return framework["call"]


def test_frames_of_frameworks_are_folded_and_the_one_that_raised_is_shown(stacked):
    lines = shown(caught(stacked)).splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", "  [... 2 frames of framework]"]
    assert lines[2].endswith('shop/views.py", line 2, in view')
    assert lines[3] == "    return query()"
    assert lines[-5 if "~" in lines[-1] else -1] == "OSError: gone"
    assert "  [... 1 frame of driver]" in lines
    assert any(line.endswith("in low") for line in lines)


def test_all_frames_are_shown_if_asked_for(stacked):
    error = caught(stacked)
    text = shown(error, full=True)
    assert "[..." not in text
    assert text == "".join(traceback.format_exception(error)).rstrip()


def test_where_no_frame_is_the_applications_those_of_packages_are_shown(code):
    view = code("def fail(): raise OSError('gone')\n", DRIVER)["fail"]
    call = code("def call(): view()\n", FRAMEWORK, view=view)["call"]
    text = shown(caught(call))
    assert "in call" in text
    assert "in fail" in text


def test_an_application_that_was_installed_is_still_the_application(code, monkeypatch):
    view = code("def fail(): raise OSError('gone')\n", DRIVER)["fail"]
    call = code("def call(): view()\n", FRAMEWORK, view=view)["call"]
    error = caught(call)
    module = type(sys)("driver")
    module.__path__ = [os.path.dirname(view.__code__.co_filename)]  # noqa: PTH120
    monkeypatch.setitem(sys.modules, "driver", module)
    ownership = CodeOwnership()
    ownership.set_application("driver")
    assert "[... 1 frame of framework]" in text_of(read(error, ownership=ownership), full=False)


def test_causes_contexts_and_notes_are_shown_in_their_order(code):
    names = code("""
        def fail():
            try:
                try:
                    raise OSError("first")
                except OSError as error:
                    error.add_note("a note\\nof two lines")
                    raise KeyError("second") from error
            except KeyError:
                raise LookupError("third")
    """)
    lines = shown(caught(names["fail"])).splitlines()
    said = [line for line in lines if line and not line.startswith("  ")]
    assert said == [
        "Traceback (most recent call last):",
        "OSError: first",
        "The above exception was the direct cause of the following exception:",
        "Traceback (most recent call last):",
        "KeyError: 'second'",
        "During handling of the above exception, another exception occurred:",
        "Traceback (most recent call last):",
        "LookupError: third",
    ]
    assert lines[lines.index("OSError: first") + 1 :][:2] == ["    a note", "    of two lines"]


def test_what_was_raised_from_none_hides_its_context(code):
    names = code("def fail():\n try: 1/0\n except: raise OSError('gone') from None\n")
    assert "ZeroDivisionError" not in shown(caught(names["fail"]))


TASKS = """
    import asyncio
    async def work(name):
        raise LookupError(name)
    async def both(*names):
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(work(name))
"""


def failing_tasks(code, *names):
    async def main(both):
        await both(*names)

    return caught(asyncio.run, main(code(TASKS)["both"]))


def test_a_task_group_with_one_failure_reads_as_one_stack(code):
    error = failing_tasks(code, "one")
    text = shown(error)
    assert "+-" not in text
    order = [
        text.index(part)
        for part in ("in both", "[within ExceptionGroup: unhandled errors in a TaskGroup", "in work")
    ]
    assert order == sorted(order)
    assert text.endswith("\nLookupError: one")
    assert describe(error) == "LookupError: one"


def test_each_member_of_a_group_is_shown(code):
    error = failing_tasks(code, "one", "two")
    text = shown(error)
    assert text.startswith("  + Exception Group Traceback")
    assert "    | LookupError: one" in text
    assert "    | LookupError: two" in text
    assert describe(error) == (
        "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions): LookupError: one; LookupError: two"
    )
    assert [member["message"] for member in fields_of(read(error), full=False)["members"]] == ["one", "two"]


def test_all_of_a_group_is_as_python_shows_it_if_asked_for(code):
    error = failing_tasks(code, "one", "two")
    assert shown(error, full=True) == "".join(traceback.format_exception(error)).rstrip()


def test_a_message_cannot_pass_for_lines_of_the_traceback():
    said = "x\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):"
    error = ValueError(said)
    error.add_note('  File "forged.py", line 1, in forged')
    lines = shown(error).splitlines()
    assert lines[0] == "ValueError: x"
    assert all(line.startswith("    ") for line in lines[1:])


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    "error",
    [
        UnspeakableError(),
        ExceptionGroup("group", [UnspeakableError(), ValueError(UnspeakableError())]),
        ValueError("\ud800 \x1b[2J"),
        SyntaxError(None),
        OSError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_an_exception_is_it_can_be_shown(error):
    error.__notes__ = [UnspeakableError(), 5, "fine"]
    assert describe(error)
    assert "fine" in shown(error)
    json.dumps(fields_of(read(error), full=False))
    error.__notes__ = UnspeakableError()
    assert shown(error)


def test_an_exception_that_python_cannot_read_is_named():
    error = SyntaxError("bad", ("x.py", "one", None, 5))
    assert shown(error) == "SyntaxError: (cannot be read: AttributeError)"


def chained(length):
    error = None
    for number in range(length):
        following = ValueError(f"number {number}")
        following.__context__ = error
        error = following
    return error


def test_a_long_chain_shows_its_newest_and_its_oldest():
    text = shown(chained(5000))
    assert "number 4999" in text
    assert "number 0\n" in text
    assert "4990 more exceptions" in text
    assert len(text.splitlines()) < 60


def test_circles_end():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert shown(first).endswith("ValueError: first")


def test_recursion_stays_short(code):
    names = code("def f(): f()\ndef a(): b()\ndef b(): a()\n")
    text = shown(caught(names["f"]))
    assert "[Previous line repeated" in text
    assert len(text.splitlines()) < 20
    text = shown(caught(names["a"]))
    assert "more frames]" in text
    assert len(text.splitlines()) < 130


errors = st.recursive(
    st.builds(ValueError, st.text(max_size=30)),
    lambda children: st.one_of(
        st.builds(ExceptionGroup, st.text(min_size=1), st.lists(children, min_size=1, max_size=20)),
        st.builds(lambda error, other: _linked(error, "__context__", other), children, children),
        st.builds(lambda error, other: _linked(error, "__cause__", other), children, children),
        st.builds(lambda error, note: error.add_note(note) or error, children, st.text()),
    ),
    max_leaves=60,
)


def _linked(error, name, other):
    setattr(error, name, other)
    return error


@given(errors)
@settings(deadline=None)
def test_any_tree_of_exceptions_is_bounded_and_names_the_last_one(error):
    text, fields = for_another_process(error, full=False)
    assert len(text) < 100_000
    assert json.loads(json.dumps(fields))["text"] == text
    assert fields["type"] == type(error).__name__
    assert "\n" not in describe(error).replace("\x0b", "").replace("\x0c", "")


def test_what_goes_to_another_process_fits_into_a_message():
    error = ExceptionGroup("x" * 10_000, [ValueError("y" * 100_000) for _ in range(1000)])
    text, fields = for_another_process(error, full=True)
    assert len(text) + len(json.dumps(fields)) < 180_000
    assert fields["type"] == "ExceptionGroup"
