"""Process titles: what `ps`, `top` and `pgrep -f` show."""

import setproctitle

from asgi_master.telemetry.text import one_line

_MAX_LENGTH = 200
"""Maximum number of characters; the rest of an overlong application name carries no information."""


def set_title(
    role: str, *, worker: int | str | None = None, generation: int | None = None, application: str
) -> None:
    """Show this process as, for example, `asgi-master: worker 3 gen 7 app:app`. `worker` may be a service's name."""
    shown = title(role, worker=worker, generation=generation, application=application)
    setproctitle.setproctitle(shown)
    # The kernel truncated the short name (comm) from the title. `/proc/self/stat` does not quote it: if it contains a
    # space, Python takes the niceness for the number of threads, and warns at each fork of a process started by `nice`.
    setproctitle.setthreadtitle(shown.replace(" ", ""))


def title(
    role: str, *, worker: int | str | None = None, generation: int | None = None, application: str
) -> str:
    """The text of a title."""
    place = role if worker is None else f"{role} {worker}"
    if generation is not None:
        place += f" gen {generation}"
    return one_line(f"asgi-master: {place} {application}")[:_MAX_LENGTH]
