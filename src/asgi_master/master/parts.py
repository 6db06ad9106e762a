"""Parts of the master that cross a live upgrade: made anew, or as the program before this one left them.

Each function asks the cargo for its section, and says how it is packed for the program that may come after this one.
"""

import random
import time

from asgi_master.control.reloads import Reloads
from asgi_master.ipc.hand_off import HandOff
from asgi_master.ipc.scoreboard import Scoreboard, layout
from asgi_master.master.carried import Cargo, Carried
from asgi_master.master.policy import policy_of
from asgi_master.master.totals import Totals
from asgi_master.settings.model import Settings
from asgi_master.supervision.memento import recall, remember
from asgi_master.supervision.supervisor import Supervisor


def supervisor(cargo: Cargo, settings: Settings) -> Supervisor:
    """Who decides, with what is known of the fleet."""
    known = cargo.unpack("supervisor")
    if known is None:
        made = Supervisor(policy_of(settings), time.monotonic(), random.random)
    else:
        made = recall(known.values, random.random)
    cargo.pack("supervisor", lambda: Carried(remember(made)))
    return made


def scoreboard(cargo: Cargo) -> Scoreboard:
    """The board that the workers write to."""
    known = cargo.unpack("scoreboard")
    if known is None:
        made = Scoreboard.create()
    else:
        made = Scoreboard.recall(
            known.fds["board"], known.fds["roster"], known.values["gone"], known.values["layout"]
        )
    cargo.pack(
        "scoreboard",
        lambda: Carried(
            {"layout": layout(), "gone": made.remember()}, {"board": made.fd, "roster": made.roster_fd}
        ),
    )
    return made


def hand_off(cargo: Cargo) -> HandOff:
    """The queue of connections that change their worker."""
    known = cargo.unpack("hand-off")
    made = HandOff.create() if known is None else HandOff.of_fds(known.fds["put"], known.fds["take"])
    cargo.pack("hand-off", lambda: Carried(fds=dict(zip(("put", "take"), made.fds, strict=True))))
    return made


def totals(cargo: Cargo) -> Totals:
    """The master's counters, and when it started."""
    known = cargo.unpack("totals")
    made = Totals.recall({} if known is None else known.values, time.monotonic(), time.time())
    cargo.pack("totals", lambda: Carried(made.remember()))
    return made


def reloads(cargo: Cargo) -> Reloads:
    """What became of reloads."""
    known = cargo.unpack("reloads")
    made = Reloads() if known is None else Reloads.recall(known.values)
    cargo.pack("reloads", lambda: Carried(made.remember()))
    return made
