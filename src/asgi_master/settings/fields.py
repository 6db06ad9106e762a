"""Declaration of a setting, in the metadata of its dataclass field."""

from collections.abc import Iterator
from dataclasses import field, fields
from enum import StrEnum
from typing import Any, TypeVar, cast

from asgi_master import codec
from asgi_master.records import record
from asgi_master.settings.values import (
    INTEGER,
    LIST,
    SECONDS,
    SWITCH,
    TEXT,
    WORD,
    Raw,
    ValueType,
)

T = TypeVar("T")

_OPTION = "asgi_master.option"
_TITLE = "asgi_master.group"
_VALUE_TYPES: dict[type, ValueType] = {bool: SWITCH, int: INTEGER, str: TEXT, tuple: LIST, float: SECONDS}

ENVIRONMENT_PREFIX = "ASGI_MASTER_"


class Applies(StrEnum):
    """When a changed value takes effect."""

    START = "start"
    RELOAD = "reload"


@record
class Option:
    """What a setting declares: everything but its place in the tree of settings."""

    name: str
    """Its name for the operator, in place of the field's; empty if they are the same."""
    old_name: str
    """A former name that still works everywhere; empty if there is none."""
    default: Any
    help: str
    value_type: ValueType
    short: str
    """A one-letter flag, such as `-w`; empty if there is none."""
    argument: bool
    """Whether it is the command's positional argument."""
    metavar: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    applies: Applies

    def read(self, raw: Raw) -> Any:
        """Convert and check a raw value. Raises `ValueError`, whose text completes `<value> ...`."""
        value = self.value_type.read(raw)
        if self.choices:
            value = value.strip().lower()
            if value not in self.choices:
                raise ValueError(f"is not one of {', '.join(self.choices)}")
        if isinstance(value, int | float):
            if self.minimum is not None and value < self.minimum:
                raise ValueError(f"is too small: at least {self.value_type.write(self.minimum)}")
            if self.maximum is not None and value > self.maximum:
                raise ValueError(f"is too large: at most {self.value_type.write(self.maximum)}")
        return value


@record
class Setting:
    """One setting of the model: its place in the tree, its names, and its option."""

    group: str
    title: str
    """Title of the group, for the help and the reference page."""
    field: str
    option: Option

    @property
    def name(self) -> str:
        """Its name in messages between processes; `key`, `flag` and `variable` derive from it."""
        return self.option.name or self.field

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is accepted; the last one wins."""
        return (*filter(None, [self.option.old_name]), self.name)

    @property
    def key(self) -> str:
        """Its name in the settings file and in error messages."""
        return key_of(self.name)

    @property
    def flag(self) -> str:
        """Its long flag; for an argument, the argument's name."""
        return self.name.upper() if self.option.argument else f"--{self.key}"

    @property
    def old_flag(self) -> str:
        """The former name of its flag; empty if there is none."""
        return f"--{key_of(self.option.old_name)}" if self.option.old_name else ""

    @property
    def off_flag(self) -> str:
        """The flag that turns a switch off; empty for other settings."""
        return f"--no-{self.key}" if self.option.value_type is SWITCH else ""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return variable_of(self.name)

    def value_in(self, settings: Any) -> Any:
        """Its value in a tree of settings."""
        return getattr(getattr(settings, self.group), self.field)


def key_of(name: str) -> str:
    """A setting's name as the settings file spells it."""
    return name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a setting's name."""
    return ENVIRONMENT_PREFIX + name.upper()


def setting(
    default: T,
    *,
    help: str,  # noqa: A002 -- the word every command line library uses for it
    value_type: ValueType | None = None,
    name: str = "",
    old_name: str = "",
    short: str = "",
    argument: bool = False,
    metavar: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    applies: Applies = Applies.RELOAD,
) -> T:
    """A field of a group of settings. Without `value_type`, the type of the default determines it."""
    if value_type is None:
        value_type = WORD if choices else _VALUE_TYPES[type(default)]
    option = Option(
        name=name,
        old_name=old_name,
        default=default,
        help=help,
        value_type=value_type,
        short=short,
        argument=argument,
        metavar=metavar or ("|".join(choices) if choices else value_type.metavar),
        minimum=minimum,
        maximum=maximum,
        choices=choices,
        applies=applies,
    )
    # A type checker sees the field as its default.
    return field(default=default, metadata={_OPTION: option} | codec.keys(name, *filter(None, [old_name])))


def group_title(title: str) -> dict[str, str]:
    """The metadata of a field that holds a group of settings."""
    return {_TITLE: title}


def settings_of(tree: type) -> Iterator[Setting]:
    """All settings of a tree of groups, in the order of their definition."""
    for branch in fields(tree):
        # The default factory of a group is its class.
        for leaf in fields(cast("Any", branch.default_factory)):
            yield Setting(branch.name, branch.metadata[_TITLE], leaf.name, leaf.metadata[_OPTION])


def same_named(kind: type, group: Any) -> dict[str, Any]:
    """The values of a group of settings whose fields are also fields of the dataclass `kind`."""
    names = {entry.name for entry in fields(kind)} & {entry.name for entry in fields(group)}
    return {name: getattr(group, name) for name in names}
