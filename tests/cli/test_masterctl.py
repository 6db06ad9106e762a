"""The commands of `asgi-masterctl` that are repeated: read without Typer, with the same result."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from asgi_master.cli import ctl, ctl_commands, masterctl
from asgi_master.cli.ctl_commands import Selection
from asgi_master.cli.ctl_exit import Exit
from asgi_master.cli.masterctl import main


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if self.path == "/livez" else self.server.ready  # type: ignore[attr-defined]
        body = b"ok\n" if status == 200 else b"1 of 2 workers serve\nworker 0 is booting\n"
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    server.ready = 200  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("ASGI_MASTER_ADMIN_BIND", f"127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_ready_and_not(admin: HTTPServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health"]) == Exit.OK
    assert capsys.readouterr().out == "ok\n"
    admin.ready = 503  # type: ignore[attr-defined]
    assert main(["health"]) == Exit.FAILED
    assert capsys.readouterr().err == (
        "asgi-masterctl: 1 of 2 workers serve\nasgi-masterctl: worker 0 is booting\n"
    )
    assert main(["health", "--live"]) == Exit.OK
    assert main(["health", "--timeout", "2"]) == Exit.FAILED  # read by Typer, with the same end


@pytest.mark.parametrize("any_host", ["0.0.0.0", "[::ffff:127.0.0.1]"])
def test_an_address_to_listen_on_is_one_to_ask(
    admin: HTTPServer, monkeypatch: pytest.MonkeyPatch, any_host: str
) -> None:
    monkeypatch.setenv("ASGI_MASTER_ADMIN_BIND", f"{any_host}:{admin.server_port}")
    assert main(["health"]) == Exit.OK


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:/nowhere/at/all", "localhost:1"])
def test_no_master_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("ASGI_MASTER_ADMIN_BIND", address)
    assert main(["health"]) == Exit.NO_MASTER
    assert capsys.readouterr().err.startswith(f"asgi-masterctl: {address}: ")


@pytest.mark.parametrize("address", ["9000", "fd://3", "systemd:admin", "unix:"])
def test_no_address_that_can_be_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("ASGI_MASTER_ADMIN_BIND", address)
    assert main(["health"]) == Exit.USAGE


def test_it_brings_neither_typer_nor_rich(admin: HTTPServer) -> None:
    source = (
        "import sys; from asgi_master.cli.masterctl import main; status = main(['health']);"
        "print([name for name in ('typer', 'rich', 'asyncio') if name in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], env=dict(os.environ), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "ok\n[]\n"), done.stderr


def _executed(main, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Which command `main` executes for these arguments, and with what."""
    executed: list[object] = []
    for name in ("list_masters", "show_status"):
        monkeypatch.setattr(
            ctl_commands, name, lambda *given, name=name, **by_name: executed.append((name, given, by_name))
        )
    return main(arguments), executed


_VIEWS = [
    ["list"],
    ["list", "--json"],
    ["status"],
    ["status", "--json"],
    ["status", "--pid", "12", "--json"],
    ["status", "--pid=12"],
    ["status", "--json", "--socket", "/run/a.sock"],
    ["status", "--name", "shop", "--name", "forum"],
    ["status", "--name=-shop"],
    ["status", "--socket="],
]


@pytest.mark.parametrize("arguments", _VIEWS, ids=" ".join)
def test_list_and_status_are_read_as_typer_reads_them(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert masterctl._view(arguments) is not None
    with monkeypatch.context() as patches:
        expected = _executed(ctl.main, arguments, patches)
    assert _executed(masterctl.main, arguments, monkeypatch) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["reload"],
        ["--pid", "12", "status"],
        ["list", "--pid", "12"],
        ["status", "--help"],
        ["status", "12"],
        ["status", "--pid"],
        ["status", "--pid", "twelve"],
        ["status", "--pid", "-12"],
        ["status", "--name", "--json"],
        ["status", "--json=yes"],
        ["status", "--jso"],
    ],
    ids=" ".join,
)
def test_other_command_lines_are_left_to_typer(arguments: list[str]) -> None:
    assert masterctl._view(arguments) is None


def test_a_failure_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ctl_commands, "find", lambda _environ, _uid: [])
    monkeypatch.delenv("ASGI_MASTER_CONTROL_SOCKET", raising=False)
    for arguments in (["list"], ["status", "--name", "shop"]):
        assert main(arguments) == ctl.main(arguments) == Exit.NO_MASTER
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == lines[1] == "asgi-masterctl: no running master found"
    assert lines[2] == lines[3] == "asgi-masterctl: no running master of that pid or name found"


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (Selection(), Selection(1, "a", "b"), Selection(1, "a", "b")),
        (Selection(2, "c", "d"), Selection(1, "a", "b"), Selection(2, "c", "d")),
        (Selection(name=""), Selection(1, None, "b"), Selection(1, None, "")),
    ],
)
def test_options_after_the_command_win(first: Selection, second: Selection, both: Selection) -> None:
    assert first.or_else(second) == both
