"""What survives a live upgrade: a section of plain values and descriptors for each part of the master.

An upgrade replaces the program of the running process (`execve`): its memory is lost, its descriptors stay open. Every
part with something to keep is registered once, in `master.assembly`:

    totals = state.register("totals", create=Totals, restore=Totals.import_state, export=Totals.export_state)

The other program may be another version of this one: names of sections and keys stay, unknown values are ignored, and
missing ones have a default.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, field
from typing import Any, TypeVar

from asgi_master.errors import AsgiMasterError
from asgi_master.records import mutable_record

VERSION = 1
"""Version of the format and of what the sections must hold; raise it when other versions could not restore them.

A program refuses versions that it does not know when it is checked, before the exec.
"""

Part = TypeVar("Part")


@mutable_record
class StateSection:
    """The state of one part."""

    values: dict[str, Any] = field(default_factory=dict)
    """JSON: keys are strings, and tuples come back as lists."""
    fds: dict[str, int] = field(default_factory=dict)
    """Descriptors that stay open under the same numbers, by a name of the part's choice."""


class StateError(AsgiMasterError):
    """The state of another master cannot be taken over; the reason in one line."""


class UpgradeState:
    """The sections that the program before this one left, and the parts that export theirs for the next one."""

    def __init__(self, sections: Mapping[str, StateSection] | None = None) -> None:
        """`sections` is what was left, `None` at an ordinary start. Takes ownership of the descriptors."""
        self.is_upgrade = sections is not None
        """Whether another program ran in this process before."""
        self._left = dict(sections or {})
        self._exports: dict[str, Callable[[], StateSection | None]] = {}
        for fd in self._left_fds():
            os.set_inheritable(fd, False)

    def register(
        self,
        name: str,
        *,
        create: Callable[[], Part],
        restore: Callable[[StateSection], Part],
        export: Callable[[Part], StateSection | None],
    ) -> Part:
        """The part as `restore` makes it of the section of this name, else as `create` makes it anew.

        `restore` takes ownership of the section's descriptors. `export` is called before a replacement and must change
        nothing, as the replacement may fail; `None` leaves the section out.
        """
        section = self._left.pop(name, None)
        part = create() if section is None else restore(section)
        self._exports[name] = lambda: export(part)
        return part

    def export(self) -> dict[str, StateSection]:
        """All sections as they are now."""
        sections = {name: export() for name, export in self._exports.items()}
        return {name: section for name, section in sections.items() if section is not None}

    def close_unknown(self) -> list[str]:
        """Close the descriptors of sections that no part registered for; returns the names of these sections."""
        for fd in self._left_fds():
            os.close(fd)
        names = sorted(self._left)
        self._left.clear()
        return names

    def _left_fds(self) -> Iterator[int]:
        return (fd for section in self._left.values() for fd in section.fds.values())


def encode(sections: Mapping[str, StateSection], program: str) -> bytes:
    """The sections as the state that `decode` reads; `program` is the version of this one."""
    state = {
        "version": VERSION,
        "program": program,
        "pid": os.getpid(),
        "sections": {name: asdict(section) for name, section in sections.items()},
    }
    return json.dumps(state).encode()


def decode(state: bytes, pid: int) -> dict[str, StateSection]:
    """The sections that the master with this `pid` encoded. Raises `StateError`."""
    try:
        known = json.loads(state)
        version, program, owner = known["version"], known["program"], known["pid"]
        if version != VERSION:
            raise StateError(
                f"the state of asgi-master {program} has version {version}, this program reads {VERSION}: "
                "restart instead"
            )
        if owner != pid:
            raise StateError(f"the state is that of process {owner}, not of {pid}")
        return {
            name: StateSection(dict(section["values"]), {key: int(fd) for key, fd in section["fds"].items()})
            for name, section in known["sections"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"the state of the running master cannot be read: {error!r}") from None
