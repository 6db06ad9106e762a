"""What each program may not import: that is what its start takes, without a clock.

A module that comes back here costs every start of that program. Memory too: the master and the zygote keep what they
import.
"""

import subprocess
import sys

import pytest

_COMMAND_LINE = ("typer", "click", "rich", "pydantic")
_SLOW = (
    "asyncio",
    "uvloop",
    "http.client",
    "email",
    "importlib.metadata",
    "tempfile",
    "psutil",
    "multiprocessing",
)


def _imported(source: str, unwanted: tuple[str, ...]) -> list[str]:
    """Which of these modules are there after the source has run."""
    source += f"; import sys; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found: list[str] = eval(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("source", "unwanted"),
    [
        pytest.param(
            "import asgi_master.cli.app, asgi_master.master.early_zygote",
            (
                *_COMMAND_LINE,
                *_SLOW,
                "dataclasses",
                "inspect",
                "json",
                "logging",
                "pathlib",
                "asgi_master.settings",
            ),
            id="before the first zygote is started",
        ),
        pytest.param(
            "from asgi_master.cli.fast_parser import parse_fast; import asgi_master.cli.app, asgi_master.master.main;"
            "parse_fast(['--workers', '2', 'main:app']) or exit(1)",
            (*_COMMAND_LINE, *_SLOW, "ssl", "asgi_master.worker"),
            id="master",
        ),
        pytest.param(
            "import asgi_master.worker.zygote",
            (
                *_COMMAND_LINE,
                *("http.client", "importlib.metadata", "tempfile", "psutil", "multiprocessing"),
                *(
                    "h11",
                    "wsproto",
                    "websockets",
                    "asgi_master.master",
                    "asgi_master.supervision",
                    "asgi_master.control",
                ),
            ),
            id="zygote",
        ),
        pytest.param(
            "from asgi_master.cli.app import main; main(['--help'])",
            (*_COMMAND_LINE, *_SLOW, "asgi_master.master", "logging"),
            id="asgi-master --help",
        ),
        pytest.param(
            "from asgi_master.cli.app import main; main(['--version'])",
            (*_COMMAND_LINE, *_SLOW, "asgi_master.settings", "dataclasses", "logging"),
            id="asgi-master --version",
        ),
        pytest.param(
            "from asgi_master.cli.app import main; main(['--check-config', 'main:app'])",
            (
                *_COMMAND_LINE,
                *_SLOW,
                "asgi_master.master.main",
                "asgi_master.supervision",
                "asgi_master.control.server",
            ),
            id="asgi-master --check-config",
        ),
        pytest.param(
            "from asgi_master.cli.masterctl import main; main(['list', '--json'])",
            (*_COMMAND_LINE, *_SLOW, "ssl", "logging", "asgi_master.settings"),
            id="asgi-masterctl list",
        ),
        pytest.param(
            "from asgi_master.cli.masterctl import main; main(['status', '--json', '--socket', '/nonexistent'])",
            (*_COMMAND_LINE, *_SLOW, "ssl", "logging", "asgi_master.settings"),
            id="asgi-masterctl status",
        ),
    ],
)
def test_a_program_does_not_import(source: str, unwanted: tuple[str, ...]) -> None:
    assert _imported(source, unwanted) == []
