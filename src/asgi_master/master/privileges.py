"""What the master says about rights: whether the user that is asked for can be had, and that root is too much."""

import logging
import os

from asgi_master.settings.account import find_account
from asgi_master.settings.model import Settings

log = logging.getLogger("asgi_master")


def check_user(settings: Settings) -> list[str]:
    """A line if application code cannot run as the user that the settings name."""
    wanted = settings.privileges
    if not wanted.user:
        return []
    try:
        account = find_account(wanted.user, wanted.group)
    except ValueError as error:
        return [str(error)]
    if os.geteuid() == 0 or (os.geteuid(), os.getegid()) == (account.uid, account.gid):
        return []
    line = f"user: only root can run the application as another user, and this is uid {os.geteuid()}"
    return [f"{line}: start asgi-master as root, or leave user out"]


def warn_of_root(settings: Settings) -> None:
    """Say so if application code is going to run as root, and nobody said that it should."""
    if os.geteuid() == 0 and not settings.privileges.user and not settings.development.reload:
        log.warning("the application runs as root: say --user NAME, or --user root if that is meant")
