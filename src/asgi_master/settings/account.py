"""The account of application code: a user and groups, from the names or numbers in the settings."""

import grp
import os
import pwd

from asgi_master.records import record
from asgi_master.settings.values import quote


@record
class Account:
    """A user with all groups, and the user's environment."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """The supplementary groups, including `gid`."""
    name: str
    """Empty for a number that is not in the user database."""
    home: str


def find_account(user: str, group: str) -> Account:
    """The account that the settings name. Raises `ValueError`, whose text is one line for the operator."""
    entry = _entry(user)
    if group:
        gid = _gid(group)
    elif entry is not None:
        gid = entry.pw_gid
    else:
        raise ValueError(
            f"user: {quote(user)} is not in the user database, so its group is not known: give group too"
        )
    if entry is None:
        return Account(int(user), gid, (gid,), "", "/")
    groups = os.getgrouplist(entry.pw_name, gid)
    return Account(entry.pw_uid, gid, tuple(groups), entry.pw_name, entry.pw_dir or "/")


def _entry(user: str) -> pwd.struct_passwd | None:
    """The entry of the user database; `None` for a number that it does not contain."""
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return None
        raise ValueError(f"user: there is no user {quote(user)} here") from None


def _gid(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError(f"group: there is no group {quote(group)} here") from None
