from dataclasses import replace

from asgi_master.settings.diff import diff, hold_until_restart
from asgi_master.settings.model import HttpSettings, ProcessSettings, Settings, SocketSettings

_OLD = Settings()
_NEW = replace(
    _OLD,
    process=ProcessSettings(workers=4, pid_file="new.pid"),
    sockets=SocketSettings(bind=("127.0.0.1:9000",), backlog=5),
    http=HttpSettings(root_path="/new"),
)


def test_nothing_changed():
    assert diff(_OLD, Settings()) == []


def test_changes_say_when_they_apply():
    assert [(change.name, change.old, change.new, change.applies) for change in diff(_OLD, _NEW)] == [
        ("workers", 1, 4, "reload"),
        ("pid-file", "", "new.pid", "start"),
        ("bind", ("127.0.0.1:8000",), ("127.0.0.1:9000",), "reload"),
        ("backlog", 4096, 5, "start"),
        ("root-path", "", "/new", "reload"),
    ]


def test_what_applies_at_start_is_held():
    held, waiting = hold_until_restart(_OLD, _NEW)
    assert [change.name for change in waiting] == ["pid-file", "backlog"]
    assert [change.name for change in diff(_OLD, held)] == ["workers", "bind", "root-path"]
    assert hold_until_restart(_OLD, _OLD) == (_OLD, [])
