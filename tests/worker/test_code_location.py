"""Of a stack, the place that the author of the application recognises."""

import asyncio
import importlib.util
import sys
import types

import pytest

from asgi_master.telemetry.code_ownership import CodeOrigin, CodeOwnership
from asgi_master.worker import lifespan
from asgi_master.worker.diagnostics.code_location import (
    CodeLocation,
    application_location,
    describe,
    locations_of,
    outwards,
    waiting_locations,
)

STANDARD = asyncio.__file__
OURS = lifespan.__file__
SLEEP = CodeLocation(STANDARD, 10, "sleep")
HANDLER = CodeLocation("/srv/shop/views.py", 20, "checkout")
CALLER = CodeLocation("/srv/shop/main.py", 5, "app")
FRAMEWORK = CodeLocation("/srv/venv/lib/python3.13/site-packages/framework/routing.py", 7, "route")
LIBRARY = CodeLocation("/usr/lib/python3/dist-packages/driver.py", 9, "query")
SERVER = CodeLocation(OURS, 1, "_run")


def application(locations):
    return application_location(locations, CodeOwnership())


@pytest.mark.parametrize(
    ("file", "origin"),
    [
        (OURS, CodeOrigin.SERVER),
        (STANDARD, CodeOrigin.STANDARD_LIBRARY),
        ("<frozen importlib._bootstrap>", CodeOrigin.STANDARD_LIBRARY),
        (FRAMEWORK.file, CodeOrigin.INSTALLED),
        (LIBRARY.file, CodeOrigin.INSTALLED),
        ("/srv/shop/views.py", CodeOrigin.APPLICATION),
        ("<string>", CodeOrigin.APPLICATION),
        ("templates/cart.html", CodeOrigin.APPLICATION),
    ],
)
def test_whose_code_a_file_is(file, origin):
    assert CodeOwnership().origin(file) is origin


def test_the_innermost_frame_of_the_application_is_chosen():
    assert application([SLEEP, LIBRARY, HANDLER, FRAMEWORK, CALLER, SERVER]) == HANDLER


def test_without_one_the_innermost_installed_frame_is():
    assert application([SLEEP, LIBRARY, FRAMEWORK, SERVER]) == LIBRARY


def test_the_server_and_the_standard_library_are_never_the_application():
    assert application([SLEEP, SERVER, SLEEP]) is None


def test_an_application_that_was_installed_is_the_application(monkeypatch):
    package = types.ModuleType("framework")
    package.__path__ = ["/srv/venv/lib/python3.13/site-packages/framework"]
    monkeypatch.setitem(sys.modules, "framework", package)
    ownership = CodeOwnership()
    ownership.set_application("framework.asgi")
    assert ownership.origin(FRAMEWORK.file) is CodeOrigin.APPLICATION
    assert ownership.origin(FRAMEWORK.file.replace("framework", "framework2")) is CodeOrigin.INSTALLED
    assert application_location([SLEEP, LIBRARY, FRAMEWORK], ownership) == FRAMEWORK


def test_an_application_that_is_one_installed_file_is_the_application(monkeypatch):
    module = types.ModuleType("driver")
    module.__file__ = LIBRARY.file
    monkeypatch.setitem(sys.modules, "driver", module)
    ownership = CodeOwnership()
    ownership.set_application("driver")
    assert ownership.origin(LIBRARY.file) is CodeOrigin.APPLICATION


def test_a_module_that_nobody_imported_claims_nothing():
    ownership = CodeOwnership()
    ownership.set_application("no_such_module.asgi")
    assert ownership.origin(FRAMEWORK.file) is CodeOrigin.INSTALLED


def test_the_application_is_described_with_what_it_calls():
    ownership = CodeOwnership()
    assert describe([HANDLER, SERVER], ownership) == "/srv/shop/views.py:20 in checkout"
    assert (
        describe([LIBRARY, HANDLER], ownership)
        == "/srv/shop/views.py:20 in checkout (now at /usr/lib/python3/dist-packages/driver.py:9 in query)"
    )
    assert describe([SERVER], ownership).startswith(f"{OURS}:1 in _run")
    assert describe([], ownership) == ""


def test_a_place_shows_its_source(tmp_path):
    file = tmp_path / "views.py"
    file.write_text(f"def checkout():\n    time.sleep(3)\n    {'x' * 500}\n")
    assert str(CodeLocation(str(file), 2, "checkout")) == f"{file}:2 in checkout: time.sleep(3)"
    assert len(str(CodeLocation(str(file), 3, "checkout"))) < 300
    assert str(CodeLocation(str(file), 99, "checkout")) == f"{file}:99 in checkout"
    assert str(CodeLocation("<nowhere>", 1, "f")) == "<nowhere>:1 in f"


def names(locations):
    return [location.function.rpartition(".")[2] for location in locations]


def test_the_places_of_a_running_stack():
    def inner():
        return locations_of(outwards(sys._getframe()))

    def outer():
        return inner()

    assert names(outer())[:3] == ["inner", "outer", "test_the_places_of_a_running_stack"]


def test_an_endless_recursion_is_cut():
    def deeper(depth):
        return deeper(depth - 1) if depth else locations_of(outwards(sys._getframe()))

    assert len(deeper(400)) == 200


def test_the_places_of_a_waiting_task_are_all_its_calls():
    @types.coroutine
    def old_style(future):
        yield from future

    async def innermost(future):
        await old_style(future)

    async def middle(future):
        await innermost(future)

    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(middle(future))
        await asyncio.sleep(0)
        locations = waiting_locations(task.get_coro())
        future.set_result(None)
        await task
        return locations, waiting_locations(task.get_coro())

    locations, after = asyncio.run(main())
    assert names(locations) == ["old_style", "innermost", "middle"]
    assert after == []
    assert all(location.file == __file__ for location in locations)


def test_what_is_no_coroutine_waits_nowhere():
    assert waiting_locations(None) == []


def test_functions_are_named_as_their_classes_hold_them(tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(
        "import sys\nclass Cart:\n    def pay(self, look):\n        return look(sys._getframe())\n"
    )
    spec = importlib.util.spec_from_file_location("shop", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (location,) = module.Cart().pay(lambda frame: locations_of([frame]))
    assert str(location) == f"{file}:4 in Cart.pay: return look(sys._getframe())"
