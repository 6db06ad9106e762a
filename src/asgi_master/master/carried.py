"""What a master takes across a live upgrade: a section of plain values and descriptors for each of its parts.

An upgrade replaces the program of the running process (`execve`), so memory is gone and descriptors stay. A part that
has something to keep says so once, and asks for it when it is made again:

    self.totals = Totals(**before.values) if (before := cargo.unpack("totals")) else Totals()
    cargo.pack("totals", lambda: Carried({"requests": self.totals.requests}))

At an ordinary start `unpack` returns `None`. The other program may be another version of this one: ignore values that
are not known, and have a default for those that are missing.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from asgi_master.errors import AsgiMasterError

VERSION = 1
"""Of the state and what its sections must hold. Raise it when another version could no longer go on with them.

A program refuses the versions that it does not know while it is asked, before the exec.
"""


VARIABLE = "_ASGI_MASTER_UPGRADE"
"""Tells the new program what to do, and with which state: a `handover.Errand`, a colon, the state's descriptor."""


@dataclass(slots=True)
class Carried:
    """One part's section."""

    values: dict[str, Any] = field(default_factory=dict)
    """JSON: strings as keys, and no tuples (they come back as lists)."""
    fds: dict[str, int] = field(default_factory=dict)
    """Descriptors that stay open, by a name of the part's choice. Their numbers stay the same."""


class StateError(AsgiMasterError):
    """What another master left cannot be taken over; why not, in one line."""


class Cargo:
    """All sections: those that the program before left, and those that are packed when this one is replaced."""

    def __init__(self, sections: Mapping[str, Carried] | None = None) -> None:
        """`sections` is what was left; `None` at an ordinary start. The descriptors are owned from now on."""
        self.is_upgrade = sections is not None
        """Whether there was a program before this one, in this process."""
        self._left = dict(sections or {})
        self._packers: dict[str, Callable[[], Carried]] = {}
        for fd in self._left_fds():
            os.set_inheritable(fd, False)

    def unpack(self, name: str) -> Carried | None:
        """What the part of this name left, once; the caller owns its descriptors. `None` if it left nothing."""
        return self._left.pop(name, None)

    def pack(self, name: str, carry: Callable[[], Carried]) -> None:
        """Have `carry` called when this program is about to be replaced.

        It must change nothing, as the replacement may still fail: the descriptors stay in use then.
        """
        self._packers[name] = carry

    def packed(self) -> dict[str, Carried]:
        """All sections as they are now."""
        return {name: carry() for name, carry in self._packers.items()}

    def close_leftovers(self) -> list[str]:
        """Close what nobody asked for: the parts that this version does not have. Returns their names."""
        for fd in self._left_fds():
            os.close(fd)
        names = sorted(self._left)
        self._left.clear()
        return names

    def _left_fds(self) -> Iterator[int]:
        return (fd for section in self._left.values() for fd in section.fds.values())


def encode(sections: Mapping[str, Carried], program: str) -> bytes:
    """The sections as the state that `decode` reads; `program` is the version of this one."""
    state = {
        "version": VERSION,
        "program": program,
        "pid": os.getpid(),
        "sections": {name: asdict(section) for name, section in sections.items()},
    }
    return json.dumps(state).encode()


def decode(state: bytes, pid: int) -> dict[str, Carried]:
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
            name: Carried(dict(section["values"]), {key: int(fd) for key, fd in section["fds"].items()})
            for name, section in known["sections"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"the state of the running master cannot be read: {error!r}") from None
