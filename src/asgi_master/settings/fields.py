"""What a setting declares about itself, in the metadata of its dataclass field."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar, cast

from asgi_master.settings.values import (
    INTEGER,
    LIST,
    SECONDS,
    SWITCH,
    TEXT,
    WORD,
    Kind,
    Raw,
)

T = TypeVar("T")

_SPEC = "asgi_master.setting"
_TITLE = "asgi_master.group"
_KINDS: dict[type, Kind] = {bool: SWITCH, int: INTEGER, str: TEXT, tuple: LIST, float: SECONDS}

ENVIRONMENT_PREFIX = "ASGI_MASTER_"


class Applies(StrEnum):
    """When a changed value takes effect."""

    START = "start"
    RELOAD = "reload"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a setting says about itself, apart from its name."""

    default: Any
    help: str
    kind: Kind
    short: str
    """A one-letter flag, such as `-w`; empty if there is none."""
    argument: bool
    """Whether it is given without a flag, as the argument of the command."""
    metavar: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    applies: Applies

    def read(self, raw: Raw) -> Any:
        """The checked value. Raises `ValueError`, whose text completes `<value> ...`."""
        value = self.kind.read(raw)
        if self.choices:
            value = value.strip().lower()
            if value not in self.choices:
                raise ValueError(f"is not one of {', '.join(self.choices)}")
        if isinstance(value, int | float):
            if self.minimum is not None and value < self.minimum:
                raise ValueError(f"is too small: at least {self.kind.write(self.minimum)}")
            if self.maximum is not None and value > self.maximum:
                raise ValueError(f"is too large: at most {self.kind.write(self.maximum)}")
        return value


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the model: its place and what it says about itself."""

    group: str
    title: str
    """The group's title for people."""
    name: str
    spec: Spec

    @property
    def key(self) -> str:
        """Its name in the file and in messages."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """Its long flag; for an argument, the argument's name."""
        return self.name.upper() if self.spec.argument else f"--{self.key}"

    @property
    def off_flag(self) -> str:
        """The flag that turns a switch off; empty for other settings."""
        return f"--no-{self.key}" if self.spec.kind is SWITCH else ""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()


def setting(
    default: T,
    *,
    help: str,  # noqa: A002 -- the word every command line library uses for it
    kind: Kind | None = None,
    short: str = "",
    argument: bool = False,
    metavar: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    applies: Applies = Applies.RELOAD,
) -> T:
    """A field of a group of settings. The kind follows from the default's type where `kind` is not given."""
    if kind is None:
        kind = WORD if choices else _KINDS[type(default)]
    spec = Spec(
        default=default,
        help=help,
        kind=kind,
        short=short,
        argument=argument,
        metavar=metavar or ("|".join(choices) if choices else kind.metavar),
        minimum=minimum,
        maximum=maximum,
        choices=choices,
        applies=applies,
    )
    # To the type checker, a field is the default it carries.
    return field(default=default, metadata={_SPEC: spec})


def titled(title: str) -> dict[str, str]:
    """The metadata of a field of the tree that holds a group of settings."""
    return {_TITLE: title}


def settings_of(tree: type) -> Iterator[Setting]:
    """All settings of a tree of groups, in the order of their definition."""
    for branch in fields(tree):
        # The default factory of a group is its class.
        for leaf in fields(cast("Any", branch.default_factory)):
            yield Setting(branch.name, branch.metadata[_TITLE], leaf.name, leaf.metadata[_SPEC])
