"""Process titles: what `ps`, `top` and `pgrep -f` show."""

import setproctitle

from asgi_master.telemetry.text import one_line

_LONGEST = 200
"""Characters; the rest of an overlong application name says nothing."""


def set_title(
    role: str, *, worker: int | None = None, generation: int | None = None, application: str
) -> None:
    """Show this process as, for example, `asgi-master: worker 3 gen 7 app:app`."""
    setproctitle.setproctitle(title(role, worker=worker, generation=generation, application=application))


def title(role: str, *, worker: int | None = None, generation: int | None = None, application: str) -> str:
    """The text of a title."""
    place = role if worker is None else f"{role} {worker}"
    if generation is not None:
        place += f" gen {generation}"
    return one_line(f"asgi-master: {place} {application}")[:_LONGEST]
