"""`asgi-master dev [TARGET]`: the options of development, with what the project shows, and a line for each of these."""

import errno
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from asgi_master.cli.fast_parser import parse_fast
from asgi_master.cli.find_target import Found, find_target, target_of_file
from asgi_master.errors import SettingsError
from asgi_master.records import mutable_record
from asgi_master.settings.directory import working_directory
from asgi_master.settings.sources import chdir_given, config_file, from_environment, from_file

_HOST = "127.0.0.1"
_FIRST_PORT = 8000
_PORTS = 20
_OPEN = "--open"


@mutable_record
class Development:
    """What a `dev` command line means."""

    words: list[str]
    """The same for `asgi-master` without `dev`."""
    found: list[str]
    """What was found and assumed, a line each."""
    opens: str = ""
    """The URL to open in a browser once it is served; empty for none."""


def expand(words: Sequence[str], environ: Mapping[str, str]) -> Development:
    """The command line after `dev`, completed. Raises `SettingsError` if no application is found."""
    rest = [word for word in words if word != _OPEN]
    development = Development(rest, [])
    parsed = parse_fast(rest)
    if parsed is None or parsed.help or parsed.help_all or parsed.version:
        return Development([*rest, "--reload"] if parsed is None else rest, [])
    named = config_file(parsed.config, environ)
    start = working_directory(environ)
    directory = start / chdir_given(parsed.flags, environ)
    given = {name for name, value in parsed.flags.items() if value is not None}
    given |= from_file(start if named else directory, named).values.keys()
    given |= from_environment(environ).values.keys()
    more: list[str] = ["--reload"]
    if "access_log" not in given and "access_log_file" not in given:
        more.append("--access-log")
    if "env_file" not in given and (directory / ".env").is_file():
        more += ["--env-file", ".env"]
        development.found.append("variables: .env")
    target = parsed.flags.get("app")
    if target is None and "app" not in given:
        more += _application(development, find_target(directory), directory, given)
    elif target is not None and ":" not in target and (directory / target).exists():
        development.words.remove(target)
        more += _application(development, target_of_file(directory, target), directory / target, given)
    port = 0
    if "bind" not in given:
        port = free_port()
        more += ["--bind", f"{_HOST}:{port}"]
        if port != _FIRST_PORT:
            development.found.append(f"port: {port}, as {_FIRST_PORT} is taken")
    if _OPEN in words and port:
        development.opens = f"http://{_HOST}:{port}/"
    development.words = [*more, *development.words]
    return development


def _application(development: Development, found: Found | None, where: Path, given: set[str]) -> list[str]:
    if found is None:
        raise SettingsError(
            [f"no application was found in {where}: name it, as in asgi-master dev package.module:app"]
        )
    factory = " (called, as it is a factory)" if found.is_factory else ""
    development.found.append(f"application: {found.target} in {found.file}{factory}")
    words = [found.target]
    if found.app_dir != "." and "app_dir" not in given:
        words += ["--app-dir", found.app_dir]
    if found.is_factory and "factory" not in given:
        words.append("--factory")
    return words


def free_port(first: int = _FIRST_PORT) -> int:
    """The first port from `first` that nothing listens on; `first` itself if all that are tried are taken."""
    for port in range(first, first + _PORTS):
        with socket.socket() as probe:
            # As the listener: what lingers of closed connections does not take a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
            return port
    return first


def announce(development: Development) -> None:
    """Write what was found to the terminal."""
    for line in development.found:
        print(f"asgi-master dev: {line}", file=sys.stderr)  # noqa: T201 -- before there is a log
