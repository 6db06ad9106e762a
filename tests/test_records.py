"""A record is what a frozen dataclass with slots is, and a mutable one what a dataclass with slots is."""

from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest

from asgi_master.records import mutable_record, record


@record
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list, compare=False)


@record
class Named(Point):
    name: str = field(default="", kw_only=True)


@record
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")


@record
class Secret:
    value: str

    def __repr__(self) -> str:
        return "Secret()"


@record
class CaseInsensitive:
    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaseInsensitive) and self.text.lower() == other.text.lower()

    def __hash__(self) -> int:
        return hash(self.text.lower())


def test_it_takes_its_fields_in_order_by_name_and_by_default():
    assert (Point(1).x, Point(1).y, Point(1, 2).y, Point(y=3, x=1).y) == (1, 0, 2, 3)
    assert Point(1).tags is not Point(1).tags


@pytest.mark.parametrize(("arguments", "by_name"), [((), {}), ((1, 2, [], 3), {}), ((1,), {"z": 2})])
def test_it_refuses_what_its_fields_do_not_take(arguments, by_name):
    with pytest.raises(TypeError):
        Point(*arguments, **by_name)


def test_it_has_the_equality_hash_and_text_of_a_frozen_dataclass():
    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0

    expected = Point

    @record
    class Point:
        x: int
        y: int = 0

    assert repr(Point(1, 2)) == repr(expected(1, 2))
    assert hash(Point(1, 2)) == hash(expected(1, 2))
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != expected(1, 2)
    assert Point.__match_args__ == expected.__match_args__


@pytest.mark.parametrize("use", [repr, hash, lambda made: made == replace(made), asdict, replace])
def test_any_method_may_be_the_first_that_is_used(use):
    @record
    class Fresh:
        x: int = 1

    made = Fresh.__new__(Fresh)
    object.__setattr__(made, "x", 1)
    use(made)
    assert Fresh(2).x == 2


def test_it_cannot_be_changed_or_extended():
    point = Point(1)
    for change in (
        lambda: setattr(point, "x", 2),
        lambda: delattr(point, "x"),
        lambda: setattr(point, "other", 2),
    ):
        with pytest.raises(FrozenInstanceError):
            change()
    assert not hasattr(point, "__dict__")


def test_an_heir_has_the_fields_of_both():
    named = Named(1, name="home")
    assert (named.x, named.y, named.name) == (1, 0, "home")
    assert [each.name for each in fields(named)] == ["x", "y", "tags", "name"]
    assert replace(named, x=5) == Named(5, name="home")
    assert named != Point(1)
    assert Point(1) == Point(1)


def test_it_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)


def test_methods_of_its_own_stay():
    assert repr(Secret("x")) == "Secret()"
    assert CaseInsensitive("A") == CaseInsensitive("a")
    assert hash(CaseInsensitive("A")) == hash(CaseInsensitive("a"))


def test_patterns_match_it_by_position():
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
        case _:
            pytest.fail("no match")


def test_a_mutable_record_is_changed_in_place_and_compared_by_value():
    @dataclass(slots=True)
    class Tally:
        count: int
        names: list[str] = field(default_factory=list)

    expected = Tally

    @mutable_record
    class Tally:
        count: int
        names: list[str] = field(default_factory=list)

    tally = Tally(1)
    tally.count += 1
    tally.names.append("a")
    assert tally == Tally(2, ["a"])
    assert tally != Tally(2)
    assert repr(tally) == repr(expected(2, ["a"]))
    assert [each.name for each in fields(tally)] == ["count", "names"]
    with pytest.raises(AttributeError):
        tally.other = 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(tally)
