"""Where the servers are installed: a throw-away virtual environment in the cache directory."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent


class Environment:
    """An interpreter with the servers in it."""

    def __init__(self, python: Path, *, is_ours: bool) -> None:
        self.python = python
        self._is_ours = is_ours
        """Whether packages may be installed into it."""

    @classmethod
    def throw_away(cls, python: str) -> "Environment":
        """A virtual environment of this interpreter's version; kept in the cache for the next run."""
        directory = cache_directory() / version_of(python)
        inside = directory / "bin" / "python"
        if not inside.exists():
            _make(python, directory)
        return cls(inside, is_ours=True)

    @classmethod
    def current(cls) -> "Environment":
        """This interpreter, with what it has."""
        return cls(Path(sys.executable), is_ours=False)

    def install(self, packages: Sequence[str]) -> str | None:
        """Install packages; returns why not, in one line, if that fails."""
        if not self._is_ours:
            return None
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
        ]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        return f"does not install: {lines[-1].removeprefix('ERROR: ')}"

    def version(self, package: str) -> str:
        """Of an installed package; a dash if it is not installed."""
        ask = f"from importlib.metadata import version; print(version({package!r}))"
        done = subprocess.run([str(self.python), "-c", ask], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "-"

    def python_version(self) -> str:
        """The whole of it, such as 3.13.0."""
        return version_of(str(self.python))

    def variables(self) -> dict[str, str]:
        """The environment variables of a program that runs in it, ours beside it; nothing else of the caller's."""
        path = [str(HERE)]
        if not self._is_ours and "PYTHONPATH" in os.environ:
            path.append(os.environ["PYTHONPATH"])
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": os.pathsep.join(path),
        }


def _make(python: str, directory: Path) -> None:
    done = subprocess.run([python, "-m", "venv", str(directory)], capture_output=True, check=False)
    if done.returncode != 0:
        # An interpreter without ensurepip (Debian without python3-venv) gets its pip from the one outside.
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([python, "-m", "venv", "--without-pip", str(directory)], check=True)
        pip = [
            python,
            "-m",
            "pip",
            "--python",
            str(directory / "bin" / "python"),
            "install",
            "--quiet",
            "pip",
        ]
        subprocess.run(pip, check=True)


def cache_directory() -> Path:
    """Where the environments are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asgi-master-benchmarks"


def version_of(python: str) -> str:
    """The version of an interpreter."""
    ask = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where to run, and whether to write the page."""
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter to measure on (default: this one)"
    )
    parser.add_argument(
        "--here",
        action="store_true",
        help="use this interpreter with the packages it has, and install nothing",
    )
    parser.add_argument(
        "--no-write", dest="write", action="store_false", help="leave docs/benchmarks.md as it is"
    )


def chosen(arguments: argparse.Namespace) -> Environment:
    """The environment that those options ask for."""
    return Environment.current() if arguments.here else Environment.throw_away(arguments.python)


def chooser(choices):
    """An argparse type: the choices whose names are given, separated by commas."""
    by_name = {choice.name: choice for choice in choices}

    def choose(text: str):
        unknown = [name for name in text.split(",") if name not in by_name]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r}; there are {', '.join(by_name)}")
        return tuple(by_name[name] for name in text.split(","))

    return choose
