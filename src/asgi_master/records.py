"""Immutable records: dataclasses whose methods are compiled when they are first used.

`dataclass(frozen=True, slots=True)` compiles six methods for each class, which was half of the time that a master took
to import itself. Most records of a fleet are never made: those of crashes, upgrades and wrong settings.
"""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields
from typing import Any, NoReturn, TypeVar, dataclass_transform

_T = TypeVar("_T")

_METHODS = ("__init__", "__repr__", "__eq__", "__hash__")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make the class what `dataclass(frozen=True, slots=True)` makes it."""
    missing = [name for name in _METHODS if vars(cls).get(name) is None]
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)

    def compile_methods() -> None:
        compiled = _compiled(made)
        for name in missing:
            setattr(made, name, vars(compiled)[name])

    for name in missing:
        setattr(made, name, _compiled_on_call(name, compile_methods))
    made.__setattr__ = made.__delattr__ = _refuse
    return made  # type: ignore[no-any-return]


def _compiled(made: type) -> type:
    """A class with the methods that `dataclass` generates for those fields."""
    own = {each.name: each for each in fields(made)}
    body: dict[str, Any] = {**own, "__annotations__": {name: each.type for name, each in own.items()}}
    if hasattr(made, "__post_init__"):
        body["__post_init__"] = made.__post_init__
    return dataclass(frozen=True)(type(made.__name__, (), body))


def _compiled_on_call(name: str, compile_methods: Callable[[], None]) -> Callable[..., Any]:
    def method(self: object, *arguments: Any, **by_name: Any) -> Any:
        compile_methods()
        return getattr(self, name)(*arguments, **by_name)

    return method


def _refuse(_self: object, name: str, *_value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot change the field {name!r}")
