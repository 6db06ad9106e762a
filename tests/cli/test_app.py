import os
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_master import __version__
from asgi_master.cli.app import main
from asgi_master.errors import BindError, ExitCode

_SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("ASGI_MASTER_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("arguments", [["--version"], ["--workers", "x", "--version"]])
def test_version(capsys, arguments):
    assert main(arguments) == ExitCode.OK
    assert capsys.readouterr().out == f"asgi-master {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["main:app", "--help"], ["--help-all"]])
def test_help_ends_well(capsys, arguments):
    assert main(arguments) == ExitCode.OK
    assert "Usage: asgi-master" in capsys.readouterr().out


def test_there_are_two_lengths_of_help(capsys):
    main(["--help"])
    short = capsys.readouterr().out
    main(["--help-all"])
    assert "--ws-close-timeout" not in short
    assert "--ws-close-timeout" in capsys.readouterr().out


def test_an_option_of_another_server_is_answered_in_one_line(capsys):
    assert main(["--ssl-keyfile", "key.pem", "main:app"]) == ExitCode.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "asgi-master: error: unknown option --ssl-keyfile; use --keyfile PATH, and --bind https://HOST:PORT\n"
    )


def test_the_settings_can_be_checked_without_serving(capsys):
    assert main(["--check-config", "main:app"]) == ExitCode.OK
    assert capsys.readouterr().out == "Configuration OK.\n"


def test_every_error_is_a_line(capsys):
    Path("asgi-master.toml").write_text("workers = 'x'\n")
    assert main(["--check-config", "--loop", "trio"]) == ExitCode.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        'asgi-master: error: workers: "x" is not a number (asgi-master.toml, line 1)',
        'asgi-master: error: loop: "trio" is not one of uvloop, asyncio (--loop)',
        "asgi-master: error: app: missing: give the application to serve, such as main:app",
    ]


def test_settings_are_printed_with_their_origins(capsys, monkeypatch):
    monkeypatch.setenv("ASGI_MASTER_BACKLOG", "7")
    Path("other.toml").write_text("root-path = '/api'\n")
    assert main(["--print-config", "--config", "other.toml", "main:app", "--no-date-header"]) == ExitCode.OK
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert 'app = "main:app" # APP' in lines
    assert "backlog = 7 # ASGI_MASTER_BACKLOG" in lines
    assert 'root-path = "/api" # other.toml, line 1' in lines
    assert "date-header = false # --no-date-header" in lines
    assert "workers = 1 # default" in lines


def test_a_wrong_option_is_a_usage_error(capsys):
    assert main(["--worker", "3", "main:app"]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("asgi-master: error: No such option: --worker")


def _serve_with(monkeypatch, run):
    # The master itself has tests of its own, as a real process.
    import asgi_master.master.main

    monkeypatch.setattr(asgi_master.master.main, "run", run)


def test_the_master_gets_the_settings_and_a_way_to_read_them_again(monkeypatch):
    seen = []

    def run(read, _early_zygote):
        seen.append(read())
        Path("asgi-master.toml").write_text("workers = 3\nbacklog = 9\n")
        seen.append(read())
        return ExitCode.OK

    _serve_with(monkeypatch, run)
    assert main(["--workers", "2", "main:app"]) == ExitCode.OK
    before, after = seen
    assert (before.process.workers, before.sockets.backlog) == (2, 4096)
    assert (after.process.workers, after.sockets.backlog) == (2, 9)


def test_the_exit_status_is_the_masters(monkeypatch, capsys):
    _serve_with(monkeypatch, lambda _read, _early_zygote: ExitCode.BOOT_FAILED)
    assert main(["main:app"]) == ExitCode.BOOT_FAILED

    def run(_read, _early_zygote):
        raise BindError("cannot bind 127.0.0.1:80: permission denied")

    _serve_with(monkeypatch, run)
    assert main(["main:app"]) == ExitCode.BIND_FAILED
    assert capsys.readouterr().err == "asgi-master: error: cannot bind 127.0.0.1:80: permission denied\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(24, "Too many open files"), "Too many open files"),
        (MemoryError(), "no memory is left"),
    ],
)
def test_what_the_system_lacks_is_one_line(monkeypatch, capsys, error, line):
    def run(_read, _early_zygote):
        raise error

    _serve_with(monkeypatch, run)
    assert main(["main:app"]) == ExitCode.FAILURE
    assert capsys.readouterr().err == f"asgi-master: error: the operating system reports: {line}\n"


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_SOURCE)}
    return subprocess.run(
        [sys.executable, *arguments], env=environ, capture_output=True, text=True, timeout=30
    )


def test_the_package_is_a_program():
    done = _python("-m", "asgi_master", "--workers", "none", "main:app")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr == 'asgi-master: error: workers: "none" is not a number (--workers)\n'


def test_the_version_comes_without_reading_options():
    done = _python(
        "-c",
        "import sys, asgi_master.cli.app as app; app.main(['--version']); print(*sorted({'typer', 'rich', 'asyncio'} & set(sys.modules)))",
    )
    assert (done.returncode, done.stdout) == (0, f"asgi-master {__version__}\n\n")


def test_reading_options_brings_neither_a_loop_nor_threads_nor_rich():
    done = _python(
        "-c",
        "import sys, asgi_master.cli.app as app; app.main(['--check-config', 'main:app']);"
        "print(*sorted({'rich', 'asyncio', 'uvloop', 'concurrent.futures'} & set(sys.modules)))",
    )
    assert (done.returncode, done.stdout) == (0, "Configuration OK.\n\n")
