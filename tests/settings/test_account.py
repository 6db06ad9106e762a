import grp
import os
import pwd

import pytest

from asgi_master.settings.account import find_account

NOBODY = pwd.getpwnam("nobody")


@pytest.mark.parametrize("user", ["nobody", str(NOBODY.pw_uid)])
def test_a_user_with_the_login_group(user: str):
    account = find_account(user, "")
    assert (account.uid, account.gid, account.name, account.home) == (
        NOBODY.pw_uid,
        NOBODY.pw_gid,
        "nobody",
        NOBODY.pw_dir,
    )
    assert set(account.groups) == set(os.getgrouplist("nobody", NOBODY.pw_gid))


@pytest.mark.parametrize("group", ["daemon", str(grp.getgrnam("daemon").gr_gid)])
def test_another_group(group: str):
    account = find_account("nobody", group)
    assert account.gid == grp.getgrnam("daemon").gr_gid
    assert account.gid in account.groups


def test_unused_numbers():
    account = find_account("54321", "54322")
    assert (account.uid, account.gid, account.groups) == (54321, 54322, (54322,))
    assert (account.name, account.home) == ("", "/")


@pytest.mark.parametrize(
    ("user", "group", "line"),
    [
        ("no-such", "", 'user: there is no user "no-such" here'),
        ("nobody", "no-such", 'group: there is no group "no-such" here'),
        ("54321", "", "its group is not known: give group too"),
    ],
)
def test_what_cannot_be_had(user: str, group: str, line: str):
    with pytest.raises(ValueError, match=line):
        find_account(user, group)
