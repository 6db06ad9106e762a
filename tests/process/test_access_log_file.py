"""The access log in a file: opened by the master, written by workers, opened again when it was renamed."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from asgi_master.errors import ExitCode
from fleet import APPS, PATIENCE, Fleet, wait_until

pytestmark = pytest.mark.newest_python

APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
"""
FORMAT = ("--access-log-format", "%(U)s", "--lifespan", "off")
REOPENED = r"access log: \S+ reopened"


class Numbered:
    """Requests, each by its number, until every worker may be taken to have had some."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.sent: list[str] = []

    def send(self, count: int = 20) -> list[str]:
        """Each on a connection of its own; returns their paths."""
        paths = [f"/{len(self.sent) + number}" for number in range(count)]
        for path in paths:
            assert httpx.get(self._fleet.url + path).status_code == 200
        self.sent += paths
        return paths


def lines(*files: Path) -> list[str]:
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def wait_written(paths: list[str], *files: Path) -> None:
    wait_until(lambda: set(paths) <= set(lines(*files)), f"{paths} in {files}")


def rotate(fleet: Fleet, signum: signal.Signals, file: Path, old: Path) -> None:
    after = len(fleet.lines)
    file.rename(old)
    fleet.send(signum)
    fleet.wait_line(REOPENED, after=after)


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_a_renamed_file_is_opened_again_by_all_workers(fleet: Fleet, signum: signal.Signals) -> None:
    file, old = fleet.directory / "access.txt", fleet.directory / "access.txt.1"
    fleet.serve_source(APP, "--access-log-file", "access.txt", *FORMAT)
    numbered = Numbered(fleet)
    wait_written(numbered.send(), file)
    assert file.stat().st_mode & 0o777 == 0o640
    rotate(fleet, signum, file, old)
    if signum == signal.SIGHUP:
        fleet.wait_line("reloaded: 2 workers? serving")
    before = lines(old)
    after = numbered.send()
    wait_written(after, file)
    assert not set(after) & set(lines(old))
    assert lines(old) == before
    fleet.stop()
    assert sorted(lines(file, old)) == sorted(numbered.sent)
    assert fleet.output == []


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logrotate_rotates_as_the_shipped_file_says(fleet: Fleet) -> None:
    logs, run = fleet.directory / "log", fleet.directory / "run"
    for directory in (logs, run):
        directory.mkdir(mode=0o755)
    shipped = Path(__file__).parents[2] / "deploy" / "logrotate" / "asgi-master"
    text = (
        shipped.read_text().replace("/var/log/asgi-master", str(logs)).replace("/run/asgi-master", str(run))
    )
    (fleet.directory / "rotation").write_text(text)
    file = logs / "shop.log"
    fleet.serve_source(APP, "--access-log-file", str(file), "--pid-file", str(run / "shop.pid"), *FORMAT)
    numbered = Numbered(fleet)
    wait_written(numbered.send(), file)
    command = (
        "logrotate",
        "--force",
        "--state",
        str(fleet.directory / "state"),
        str(fleet.directory / "rotation"),
    )
    after = len(fleet.lines)
    subprocess.run(command, check=True, timeout=PATIENCE)
    fleet.wait_line(REOPENED, after=after)
    wait_written(numbered.send(), file)
    fleet.stop()
    assert sorted(lines(file, logs / "shop.log.1")) == sorted(numbered.sent)


def test_it_lasts_through_reload_scaling_and_upgrade(fleet: Fleet) -> None:
    file, old = fleet.directory / "access.txt", fleet.directory / "access.txt.1"
    fleet.serve_source(APP, "--access-log-file", "access.txt", *FORMAT, workers=1)
    numbered = Numbered(fleet)
    with fleet.keeping_descriptors():
        fleet.send(signal.SIGHUP)
        fleet.wait_line("reloaded: 1 worker serving")
        wait_written(numbered.send(3), file)
        fleet.send(signal.SIGUSR2)
        fleet.wait_line("upgraded to asgi-master")
        fleet.wait_line("reloaded: 1 worker serving generation 3", 2 * PATIENCE)
        fleet.wait_settled(1)
        wait_written(numbered.send(3), file)
    rotate(fleet, signal.SIGUSR1, file, old)
    fleet.send(signal.SIGTTIN)
    fleet.wait_workers(lambda seen: len(seen) == 2, "two workers")
    wait_written(numbered.send(), file)
    fleet.stop()
    assert sorted(lines(file, old)) == sorted(numbered.sent)


def test_a_copied_and_truncated_file_goes_on_at_its_beginning(fleet: Fleet) -> None:
    file = fleet.directory / "access.txt"
    fleet.serve_source(APP, "--access-log-file", "access.txt", *FORMAT)
    numbered = Numbered(fleet)
    wait_written(numbered.send(), file)
    os.truncate(file, 0)
    after = numbered.send()
    wait_written(after, file)
    assert sorted(lines(file)) == sorted(after)
    assert b"\0" not in file.read_bytes()


def test_what_cannot_be_opened_again_leaves_the_file_before(fleet: Fleet) -> None:
    (fleet.directory / "logs").mkdir()
    file, old = fleet.directory / "logs" / "access.txt", fleet.directory / "access.txt.1"
    fleet.serve_source(APP, "--access-log-file", "logs/access.txt", *FORMAT)
    numbered = Numbered(fleet)
    wait_written(numbered.send(3), file)
    file.rename(old)
    file.symlink_to("elsewhere.txt")
    fleet.expect_log("access-log-file: ")
    fleet.send(signal.SIGUSR1)
    fleet.wait_line(
        "logs/access.txt cannot be opened: it is a symbolic link.*; the access log stays in the file before"
    )
    wait_written(numbered.send(), old)
    file.unlink()
    fleet.send(signal.SIGUSR1)
    fleet.wait_line(REOPENED)
    wait_written(numbered.send(), file)
    assert not (fleet.directory / "logs" / "elsewhere.txt").exists()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("no directory", "No such file or directory"),
        ("directory", "Is a directory"),
        ("link", "it is a symbolic link"),
        ("other name", "the file has other names too"),
        ("socket", "No such device or address"),
    ],
)
def test_what_cannot_be_opened_is_a_refused_start(fleet: Fleet, what: str, reason: str) -> None:
    path = fleet.directory / ("nowhere/access.txt" if what == "no directory" else "access.txt")
    with socket.socket(socket.AF_UNIX) as sock:
        match what:
            case "directory":
                path.mkdir()
            case "link":
                path.symlink_to("target.txt")
            case "other name":
                (fleet.directory / "secret").touch()
                path.hardlink_to(fleet.directory / "secret")
            case "socket":
                sock.bind(str(path))
        fleet.start(
            "--access-log-file", str(path), "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "probe:app"
        )
        fleet.expect_log("error: ")
        assert fleet.wait_exit() == ExitCode.USAGE
    told = [line for line in fleet.lines if " INFO " not in line]
    assert len(told) == 1, fleet.log
    assert f"access-log-file: {path} cannot be opened: {reason}" in told[0]
    assert not (fleet.directory / "target.txt").exists()


def test_an_unread_pipe_delays_no_request(fleet: Fleet) -> None:
    path = fleet.directory / "access.pipe"
    os.mkfifo(path)
    long = "x" * 1000
    settings = ("--access-log-file", str(path), "--access-log-format", f"%(U)s {long}", "--lifespan", "off")
    fleet.serve_source(APP, *settings, workers=1)
    fleet.expect_log("were lost")
    with fleet.client() as client:
        for number in range(300):
            assert client.get(f"/{number}").status_code == 200
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fleet.stop()
        fleet.wait_line(r"line\(s\) of the access log were lost: \S+access.pipe could not be written")
        kept = os.read(reader, 1 << 20).decode().splitlines()
    finally:
        os.close(reader)
    assert kept[:2] == [f"/0 {long}", f"/1 {long}"]
    assert len(kept) < 300


def test_standard_output_has_a_name(fleet: Fleet) -> None:
    fleet.serve_source(APP, "--access-log-file", "-", *FORMAT, workers=1)
    Numbered(fleet).send(1)
    fleet.stop()
    assert fleet.output == ["/0"]


def test_a_reload_may_name_another_file(fleet: Fleet) -> None:
    first, second = fleet.directory / "first.txt", fleet.directory / "second.txt"
    fleet.write("asgi-master.toml", 'access-log-file = "first.txt"\n')
    fleet.serve_source(APP, *FORMAT)
    numbered = Numbered(fleet)
    wait_written(numbered.send(3), first)
    fleet.write("asgi-master.toml", 'access-log-file = "second.txt"\n')
    fleet.send(signal.SIGHUP)
    fleet.wait_line("reloaded: 2 workers serving")
    wait_written(numbered.send(), second)
    fleet.expect_log("not reloading")
    fleet.write("asgi-master.toml", 'access-log-file = "nowhere/third.txt"\n')
    fleet.send(signal.SIGHUP)
    fleet.wait_line("SIGHUP: not reloading: access-log-file: nowhere/third.txt cannot be opened")
    wait_written(numbered.send(), second)
    wait_until(
        lambda: (
            not any(
                link.is_symlink() and str(link.readlink()) == str(first)
                for link in Path(f"/proc/{fleet.pid}/fd").iterdir()
            )
        ),
        "the first file closed",
    )


def test_a_log_config_for_the_access_log_and_a_file_are_one_too_many(fleet: Fleet) -> None:
    fleet.write("logging.toml", 'loggers."asgi_master.access".level = "INFO"\n')
    settings = ("--log-config", "logging.toml", "--access-log-file", "access.txt")
    fleet.start(*settings, "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "probe:app")
    fleet.expect_log("error: ")
    assert fleet.wait_exit() == ExitCode.USAGE
    assert "log-config names the logger asgi_master.access" in fleet.log
