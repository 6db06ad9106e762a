"""Dataclasses as plain data and back, by their fields' types: what a new field needs to be remembered is its type.

Pure, and for the supervision core's own types only: dataclasses, enumerations, numbers, strings, `None`, unions with
`None`, and dictionaries, lists, tuples and frozen sets of these.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

Plain = Any
"""What JSON can say, infinities included."""


def to_plain(value: Any) -> Plain:
    """The value as plain data. Raises `TypeError` for what is none of the types of this file."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [to_plain(item) for item in value]
        case frozenset() | set():
            return [to_plain(item) for item in sorted(value)]
        case Mapping():
            # Pairs: JSON's objects know only strings as keys.
            return [[to_plain(key), to_plain(item)] for key, item in value.items()]
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} has no plain form")
    return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}


def from_plain(kind: Any, data: Plain) -> Any:
    """The value of type `kind` that `to_plain` made data of.

    Fields that are missing take their default, unknown ones are ignored: the other side may be another version.
    Raises `ValueError`, `TypeError` or `KeyError` for data that cannot be such a value.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        if data is None:
            return None
        (kind,) = [argument for argument in arguments if argument is not types.NoneType]
        return from_plain(kind, data)
    if origin is dict:
        key, item = arguments
        return {from_plain(key, name): from_plain(item, value) for name, value in data}
    if origin in {list, frozenset, set}:
        return origin(from_plain(arguments[0], item) for item in data)
    if origin is tuple:
        kinds = [arguments[0]] * len(data) if arguments[1:] == (...,) else arguments
        return tuple(from_plain(one, item) for one, item in zip(kinds, data, strict=True))
    if is_dataclass(kind):
        return _dataclass(typing.cast("type", kind), data)
    if kind is float:
        return float(data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if not isinstance(data, kind):
        raise TypeError(f"{data!r} is not a {kind.__name__}")
    return data


def _dataclass(kind: type, data: Mapping[str, Plain]) -> Any:
    values = {}
    for field, hint in _hints(kind):
        if field.name in data:
            values[field.name] = from_plain(hint, data[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise KeyError(f"{kind.__name__}.{field.name}")
    return kind(**values)


@cache
def _hints(kind: type) -> list[tuple[Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return [(field, hints[field.name]) for field in fields(kind)]
