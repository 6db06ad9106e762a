"""Entry point of `asgi-masterctl`; runs the health check, which is repeated for ever, without Typer."""

import os
import sys
from collections.abc import Sequence

from asgi_master.cli.health import ADMIN_VARIABLE, LIVE, READY, TIMEOUT, check_admin

_QUESTIONS = {("health",): READY, ("health", "--live"): LIVE}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the program's) and return the exit status."""
    question = _QUESTIONS.get(tuple(sys.argv[1:] if arguments is None else arguments))
    address = os.environ.get(ADMIN_VARIABLE, "")
    if question is not None and address:
        return check_admin(address, question, TIMEOUT)
    from asgi_master.cli.ctl import main as main_of_all  # noqa: PLC0415 -- what takes most of the time

    return main_of_all(arguments)
