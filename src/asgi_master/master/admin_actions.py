"""What can be done at the admin address."""

import time
from collections.abc import Callable
from pathlib import Path

from asgi_master.control.admin import Actions
from asgi_master.control.commands import MasterControl
from asgi_master.control.reloads import Reloads
from asgi_master.settings.model import Settings


def admin_actions(
    settings: Settings,
    directory: Path,
    master: MasterControl,
    reloads: Reloads,
    settle: Callable[[], object],
) -> Actions | None:
    """What can be done at the admin address; `None` if it is read-only."""
    observation = settings.observation
    if not observation.admin_bind or not observation.admin_actions:
        return None
    from asgi_master.control.access import Access, read_token  # noqa: PLC0415 -- OpenSSL, and few have it

    path = directory / observation.admin_token_file
    return Actions(Access(lambda: read_token(path), time.monotonic), master, reloads, settle)
