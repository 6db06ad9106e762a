"""What a warm import is compared by: the same in any two interpreters, and different where modules are."""

import json
import logging
import os
import random
import sys
import types

import pytest

from asgi_master.worker.warm.comparison import describe, differences, of_packages, state_of


class Plain:
    def __init__(self):
        self.flag = True
        self.inner = {"a": 1}

    def own(self): ...


class Hidden:
    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, False),
        (1, 2),
        ("a", "b"),
        (None, 0),
        ([1], [2]),
        ({"a": 1}, {"b": 1}),
        ({"a"}, {"b"}),
        (json.dumps, json.loads),
        (json, os),
        (Plain, Hidden),
        (Plain(), object()),
    ],
    ids=range(11),
)
def test_what_differs_is_described_differently(one, other):
    assert describe(one) == describe(one)
    assert describe(one) != describe(other)


def test_attributes_of_instances_and_patches_of_classes_are_seen(monkeypatch):
    changed = Plain()
    changed.flag = False
    assert describe(changed) != describe(Plain())
    before = describe(Plain)
    monkeypatch.setattr(Plain, "own", json.dumps)
    assert describe(Plain) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1.5, 2.5),
        (object(), object()),
        ("at 0x7f00", "at 0x7f01"),
        ("id 3f2504e04f89", "id 9a0b1c2d3e4f"),
        (os.getpid(), os.getppid()),
        (1 << 40, 1 << 41),
        (random.Random(1), random.Random(2)),
    ],
    ids=range(7),
)
def test_what_is_never_the_same_does_not_count(one, other):
    assert describe(one) == describe(other)


def test_an_object_that_refuses_to_be_looked_at_does_no_harm():
    assert "Hidden" in describe(Hidden())
    assert describe({Hidden(): 1}).startswith("1 entries")


def module(name, **values):
    made = types.ModuleType(name)
    vars(made).update(values)
    return made


def test_differences_are_named():
    warm = state_of({"a": module("a", x=1, y=1), "only": module("only")}, lambda _: True)
    cold = state_of({"a": module("a", x=2, y=1, z=3)}, lambda _: True)
    assert differences(warm, cold) == [
        "only is imported only warm",
        "a.x is 1 warm and 2 cold",
        "a.z is nothing warm and 3 cold",
    ]
    assert differences(cold, warm)[0] == "only is imported only cold"
    assert differences(warm, warm) == []


def test_many_differences_are_counted():
    warm = state_of({"a": module("a", **{f"x{number:03}": 1 for number in range(99)})}, lambda _: True)
    lines = differences(warm, state_of({"a": module("a")}, lambda _: True))
    assert len(lines) == 21
    assert lines[-1] == "79 more"


def test_handlers_of_logging_count():
    before = state_of({}, lambda _: True)
    logger, handler = logging.getLogger("test_comparison"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        assert differences(before, state_of({}, lambda _: True)) == [
            "logging.test_comparison is nothing warm and 0 ['NullHandler'] cold"
        ]
    finally:
        logger.removeHandler(handler)


def test_packages_are_compared_not_the_standard_library_or_this_program():
    matters = of_packages("asgi_master")
    assert matters(pytest)
    assert not matters(json)
    assert not matters(sys.modules["asgi_master.worker"])
