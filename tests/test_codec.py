"""Values as JSON data and back."""

import json
from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Annotated, Any

import pytest

from asgi_master import codec
from asgi_master.codec import dump, load
from asgi_master.supervision.fleet import Urgency, WorkerRecord
from asgi_master.supervision.states import Phase


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(dump(value)))


def _short(text: str) -> str:
    return text[:3]


@dataclass
class Inner:
    number: int = 0


@dataclass
class Outer:
    name: Annotated[str, _short]
    inner: Inner = field(default_factory=Inner)
    renamed: int = field(default=5, metadata=codec.keys("first", "second"))
    own: int = field(default=6, metadata=codec.keys("", "older"))


def test_every_type_of_field_comes_back() -> None:
    worker = WorkerRecord(1, 0, 1, ordered_at=2.5, deadline=None, urgency=Urgency.DRAIN)
    data = through_json(worker)
    assert len(data) == len(fields(WorkerRecord))
    assert load(WorkerRecord, data) == worker


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[int, tuple[str, ...]], {1: ("a", "b")}),
        (dict[int, str], {}),
        (dict[str, int], {"a": 1}),
        (dict[str, Any], {"a": {"b": [1, None]}}),
        (frozenset[int], frozenset({2, 1})),
        (set[int], {2, 1}),
        (tuple[int, str], (1, "a")),
        (list[bool], [True]),
        (float, float("-inf")),
        (int | None, None),
        (int | None, 3),
        (Phase, Phase.STEADY),
        (Urgency, Urgency.GRACEFUL),
    ],
)
def test_values_come_back(kind: Any, value: object) -> None:
    again = load(kind, through_json(value))
    assert again == value
    assert type(again) is type(value)


def test_an_enumeration_is_its_value() -> None:
    assert dump(Phase.STEADY) == "steady"
    assert issubclass(Phase, StrEnum)
    assert dump(Urgency.DRAIN) == 1
    assert issubclass(Urgency, IntEnum)


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    assert isinstance(load(float, 1), float)


@pytest.mark.parametrize("value", [object(), WorkerRecord])
def test_what_has_no_form_as_data(value: object) -> None:
    with pytest.raises(TypeError, match="has no form as data"):
        dump(value)


def test_a_bound_holds_on_both_sides() -> None:
    assert dump(Outer("abcdef"))["name"] == "abc"
    assert load(Outer, {"name": "abcdef"}).name == "abc"


def test_a_field_can_have_another_key() -> None:
    assert dump(Outer("a")) == {"name": "a", "inner": {"number": 0}, "first": 5, "own": 6}
    assert load(Outer, {"name": "a", "second": 1, "older": 2}) == Outer("a", renamed=1, own=2)
    assert load(Outer, {"name": "a", "second": 1, "first": 3}) == Outer("a", renamed=3)


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    assert load(Outer, {"name": "a", "colour": "blue"}) == Outer("a")


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        (Outer, {}, "Outer.name is missing"),
        (Outer, {"name": 1}, "Outer.name: 1 is not a value of type str"),
        (Outer, {"name": "a", "inner": {"number": "x"}}, "Outer.inner: Inner.number: 'x' is not"),
        (Outer, [], "Outer"),
        (int, True, "int"),
        (int, 1.5, "int"),
        (int, 1 << 63, "int"),
        (float, True, "float"),
        (float, 10**400, "float"),
        (float, "1", "float"),
        (bool, 1, "bool"),
        (list[str], "ab", "list"),
        (list[str], [1], "str"),
        (tuple[int, str], [1], "shorter"),
        (dict[int, int], {"1": 1}, "int"),
        (dict[int, int], [1], "list"),
        (dict[int, int], [[1]], "not enough"),
        (dict[str, int], 5, "list"),
        (Phase, "asleep", "asleep"),
        (Phase, ["asleep"], "asleep"),
    ],
)
def test_wrong_data_is_refused_with_a_reason(kind: Any, data: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        load(kind, data)


def test_a_reason_is_short() -> None:
    with pytest.raises(ValueError) as caught:
        load(int, "x" * 10_000)
    assert len(str(caught.value)) < 100
