"""Records: dataclasses with slots whose methods are compiled when they are first used.

`dataclass(frozen=True, slots=True)` compiles six methods for each class, nearly half of the time that a master took
to import itself. Most records of a fleet are never made: those of crashes, upgrades and wrong settings.
"""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields
from typing import Any, NoReturn, TypeVar, dataclass_transform

_T = TypeVar("_T")

_OPTIONS = {
    "__init__": {"repr": False, "eq": False},
    "__repr__": {"init": False, "eq": False},
    "__eq__": {"init": False, "repr": False},
    "__hash__": {"init": False, "repr": False, "unsafe_hash": True},
}
"""The methods of a record, and the options of `dataclass` that generate each of them."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make the class what `dataclass(frozen=True, slots=True)` makes it."""
    made = _deferred(cls, frozen=True)
    made.__setattr__ = made.__delattr__ = _refuse
    return made  # type: ignore[no-any-return]


@dataclass_transform(field_specifiers=(field,))
def mutable_record(cls: type[_T]) -> type[_T]:
    """Make the class what `dataclass(slots=True)` makes it."""
    made = _deferred(cls, frozen=False)
    made.__hash__ = None
    return made  # type: ignore[no-any-return]


def _deferred(cls: type, *, frozen: bool) -> Any:
    own = [name for name in _OPTIONS if vars(cls).get(name) is not None]
    cls.__doc__ = cls.__doc__ or cls.__name__  # else `dataclass` takes long to make one of the signature
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    for name in _OPTIONS.keys() - own:
        setattr(made, name, _compiled_on_call(made, name, frozen=frozen))
    return made


def _compiled_on_call(made: type, name: str, *, frozen: bool) -> Callable[..., Any]:
    def method(self: object, *arguments: Any, **by_name: Any) -> Any:
        setattr(made, name, vars(_with_method(made, name, frozen=frozen))[name])
        return getattr(self, name)(*arguments, **by_name)

    return method


def _with_method(made: type, name: str, *, frozen: bool) -> type:
    """A class that has the method that `dataclass` generates for those fields."""
    own = {each.name: each for each in fields(made)}
    body: dict[str, Any] = {**own, "__annotations__": {each.name: each.type for each in own.values()}}
    body["__doc__"] = made.__doc__
    if hasattr(made, "__post_init__"):
        body["__post_init__"] = made.__post_init__
    return dataclass(frozen=frozen, **_OPTIONS[name])(type(made.__name__, (), body))


def _refuse(_self: object, name: str, *_value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot change the field {name!r}")
