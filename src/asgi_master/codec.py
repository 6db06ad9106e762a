"""Values as JSON data and back, by their types: what a new field needs to cross to another process is its type.

Pure, and for dataclasses, enumerations, numbers, strings, `None`, unions with `None`, `Any`, and dictionaries, lists,
tuples and sets of these.

The other side may be another version of this program: unknown fields are ignored, and missing ones take their default.
The other side may also be hostile: what cannot be the value is refused, and a field of type `Annotated[T, bound]`
passes through `bound` on both sides, which cuts what is too large or raises `ValueError`.
"""

import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from asgi_master.records import record

Data = Any
"""JSON, infinities included."""

T = TypeVar("T")
_Loader = Callable[[Data], Any]

_KEYS = "asgi_master.codec"
_LARGEST = 1 << 63
"""Integers are less, and not less than minus that: words of the machine."""


def keys(key: str = "", *others: str) -> dict[str, Any]:
    """Metadata of a dataclass field: its key in the data, if not its name, and others to read where that is missing."""
    return {_KEYS: (key, *others)}


def dump(value: Any) -> Data:
    """The value as data. Raises `TypeError` for a type that has no form as data."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [dump(item) for item in value]
        case frozenset() | set():
            return [dump(item) for item in sorted(value)]
        case Mapping():
            if all(isinstance(key, str) for key in value):
                return {key: dump(item) for key, item in value.items()}
            # Pairs: JSON's objects know only strings as keys.
            return [[dump(key), dump(item)] for key, item in value.items()]
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} has no form as data")
    data = {}
    for entry in _entries(type(value)):
        item = getattr(value, entry.name)
        data[entry.keys[0]] = dump(item if entry.bound is None else entry.bound(item))
    return data


@typing.overload
def load(kind: type[T], data: Data) -> T: ...
@typing.overload
def load(kind: Any, data: Data) -> Any: ...
def load(kind: Any, data: Data) -> Any:
    """The value of type `kind` that `dump` made data of. Raises `ValueError` for data that cannot be such a value."""
    return _loader(kind)(data)


@cache
def _loader(kind: Any) -> _Loader:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        inner, bound = _loader(arguments[0]), arguments[1]
        return lambda data: bound(inner(data))
    if origin in {types.UnionType, typing.Union}:
        (other,) = (argument for argument in arguments if argument is not types.NoneType)
        inner = _loader(other)
        return lambda data: None if data is None else inner(data)
    if origin is dict:
        return _dictionary(_loader(arguments[0]), _loader(arguments[1]))
    if origin is tuple and arguments[1:] != (...,):
        items = [_loader(argument) for argument in arguments]
        return lambda data: tuple(load(item) for load, item in zip(items, _sequence(data), strict=True))
    if origin in {list, tuple, set, frozenset}:
        inner = _loader(arguments[0])
        return lambda data: origin(map(inner, _sequence(data)))
    if is_dataclass(kind):
        return lambda data: _dataclass(typing.cast("type", kind), data)
    if kind is Any:
        return lambda data: data
    return kind if issubclass(kind, Enum) else _SIMPLE[kind]


def _dictionary(key: _Loader, item: _Loader) -> _Loader:
    def load_dictionary(data: Data) -> dict[Any, Any]:
        pairs = data.items() if isinstance(data, Mapping) else map(_sequence, _sequence(data))
        return {key(name): item(value) for name, value in pairs}

    return load_dictionary


def _sequence(data: Data) -> Sequence[Data]:
    if not isinstance(data, list | tuple):
        raise _wrong(data, "list")
    return data


def _simple(kind: type) -> _Loader:
    def load_simple(data: Data) -> Any:
        if not isinstance(data, kind):
            raise _wrong(data, kind.__name__)
        return data

    return load_simple


def _integer(data: Data) -> int:
    if not _is_integer(data):
        raise _wrong(data, "int")
    return typing.cast("int", data)


def _float(data: Data) -> float:
    if not isinstance(data, float) and not _is_integer(data):
        raise _wrong(data, "float")
    return float(data)


def _is_integer(data: Data) -> bool:
    return isinstance(data, int) and not isinstance(data, bool) and -_LARGEST <= data < _LARGEST


_SIMPLE: dict[Any, _Loader] = {bool: _simple(bool), str: _simple(str), int: _integer, float: _float}


def _wrong(data: Data, kind: str) -> ValueError:
    return ValueError(f"{reprlib.repr(data)} is not a value of type {kind}")


@record
class _Entry:
    """A field of a dataclass."""

    name: str
    keys: tuple[str, ...]
    is_required: bool
    load: _Loader
    bound: Callable[[Any], Any] | None


@cache
def _entries(kind: type) -> list[_Entry]:
    hints = typing.get_type_hints(kind, include_extras=True)
    entries = []
    for field in fields(kind):
        key, *others = field.metadata.get(_KEYS, ("",))
        hint = hints[field.name]
        entries.append(
            _Entry(
                field.name,
                (key or field.name, *others),
                field.default is MISSING and field.default_factory is MISSING,
                _loader(hint),
                hint.__metadata__[0] if typing.get_origin(hint) is typing.Annotated else None,
            )
        )
    return entries


def _dataclass(kind: type, data: Data) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(data, kind.__name__)
    values = {}
    for entry in _entries(kind):
        for key in entry.keys:
            if key in data:
                try:
                    values[entry.name] = entry.load(data[key])
                except ValueError as error:
                    raise ValueError(f"{kind.__name__}.{key}: {error}") from None
                break
        else:
            if entry.is_required:
                raise ValueError(f"{kind.__name__}.{entry.keys[0]} is missing")
    return kind(**values)
