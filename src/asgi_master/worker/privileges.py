"""Switches to the application's user, permanently. Called in the zygote, before it imports application code.

The master keeps its rights: it binds ports on a reload, reads keys, and signals and reaps its children. It runs no
application code.
"""

import contextlib
import os
from pathlib import Path

from asgi_master.errors import AsgiMasterError
from asgi_master.ipc.prctl import allow_inspection, give_up_capabilities, refuse_new_privileges
from asgi_master.settings.account import Account, find_account
from asgi_master.settings.model import PrivilegeSettings
from asgi_master.settings.values import UNSET_UMASK


def drop_privileges(settings: PrivilegeSettings) -> None:
    """Apply the user, the groups, the umask and no_new_privs of the settings.

    Clears the parent-death signal (see prctl(2)): the caller must set it afterwards. Raises `AsgiMasterError` if a part
    fails or could be reversed.
    """
    if settings.umask != UNSET_UMASK:
        os.umask(settings.umask)
    is_for_good = settings.no_new_privs == "on" or (settings.no_new_privs == "auto" and settings.user != "")
    try:
        if is_for_good:
            # While this is still allowed: the new user may not do it. If sudo is to work, its capabilities come from
            # here.
            give_up_capabilities()
        if settings.user:
            _become(find_account(settings.user, settings.group))
        if is_for_good:
            refuse_new_privileges()
    except ValueError as error:
        raise AsgiMasterError(str(error)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise AsgiMasterError(
            f"cannot run the application as {settings.user or 'this user'}: {reason}"
        ) from None


def _become(account: Account) -> None:
    """Raises `OSError`, `AsgiMasterError`."""
    _name(account)
    if (os.geteuid(), os.getegid()) == (account.uid, account.gid):
        # Already this user: started by it, or switched by the previous image of this process (`--preload auto`).
        return
    _give_pipes(account)
    # In this order: a user other than root may not change groups.
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    if account.uid != 0:
        _verify(account)
        # A process that was root is hidden from its own user: no core dumps, and /proc/self belongs to root.
        allow_inspection()
        _check_library(account)


def _check_library(account: Account) -> None:
    """Check that the user can read the standard library, as later imports would fail. Raises `AsgiMasterError`."""
    if not os.access(os.__file__, os.R_OK):
        raise AsgiMasterError(
            f"{account.name or account.uid} cannot read Python's own library in {Path(os.__file__).parent}: "
            "use an interpreter that is installed where that user may read, such as /usr or /opt"
        )


def _name(account: Account) -> None:
    """Set the environment of the user, as login(1) does: libraries search their files in HOME."""
    os.environ["HOME"] = account.home
    for variable in ("USER", "LOGNAME"):
        if account.name:
            os.environ[variable] = account.name
        else:
            os.environ.pop(variable, None)


def _give_pipes(account: Account) -> None:
    """Let the user open /dev/stdout and /dev/stderr, if these are pipes that were created for this service."""
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            if os.fspath(Path(f"/proc/self/fd/{fd}").readlink()).startswith("pipe:"):
                os.fchown(fd, account.uid, -1)


def _verify(account: Account) -> None:
    """Check that the switch is complete and cannot be reversed. Raises `AsgiMasterError`."""
    try:
        os.setuid(0)
    except PermissionError:
        is_final = True
    else:
        is_final = False
    now = (os.getresuid(), os.getresgid(), set(os.getgroups()))
    wanted = ((account.uid,) * 3, (account.gid,) * 3, set(account.groups))
    if now != wanted or not is_final:
        raise AsgiMasterError(
            "the rights of root could be taken back after they were dropped (securebits of capabilities(7)?): "
            "not running the application"
        )
