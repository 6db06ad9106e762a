"""What must be true of settings beyond the form and the bounds of each: between them, and on this machine."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asgi_master.settings.bind import InheritedFd, TcpAddress, parse_bind
from asgi_master.settings.env_file import parse_env_file
from asgi_master.settings.headers import parse_header
from asgi_master.settings.model import Settings
from asgi_master.settings.target import parse_target
from asgi_master.settings.values import SECONDS, show

DEFAULT = "default"
"""The origin of a value that nobody gave."""

_OWNER = re.compile(
    r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\$?(:[A-Za-z0-9_.][A-Za-z0-9_.-]*\$?)?|:[A-Za-z0-9_.][A-Za-z0-9_.-]*",
    re.ASCII,
)


def check(settings: Settings, origins: Mapping[str, str], directory: Path, wrong: set[str]) -> list[str]:
    """A line for each error. Settings in `wrong` could not be read and are not judged."""
    lines = []
    for finding in _Checks(settings, origins, directory).findings():
        if finding.name in wrong or wrong.intersection(finding.depends_on):
            continue
        origin = origins[finding.name]
        lines.append(
            f"{finding.name.replace('_', '-')}: {finding.text}"
            + (f" ({origin})" if origin != DEFAULT else "")
        )
    return lines


@dataclass(frozen=True, slots=True)
class _Finding:
    name: str
    text: str
    depends_on: tuple[str, ...] = ()
    """Other settings whose values the finding rests on."""


class _Checks:
    def __init__(self, settings: Settings, origins: Mapping[str, str], directory: Path) -> None:
        self._settings = settings
        self._origins = origins
        self._directory = directory

    def findings(self) -> Iterator[_Finding]:
        yield from self._application()
        yield from self._processes()
        yield from self._addresses()
        yield from self._http()
        yield from self._files()

    def _application(self) -> Iterator[_Finding]:
        app = self._settings.application.app
        if not app:
            yield _Finding("app", "missing: say which application to serve, such as main:app")
            return
        yield from _each("app", (app,), parse_target)

    def _processes(self) -> Iterator[_Finding]:
        process = self._settings.process
        if process.shutdown_timeout and process.shutdown_timeout >= process.drain_timeout:
            yield _Finding(
                "shutdown_timeout",
                f"{SECONDS.write(process.shutdown_timeout)} is not less than the whole: "
                f"{self._named('drain_timeout', SECONDS.write(process.drain_timeout))}",
                ("drain_timeout",),
            )
        if process.max_surge == 0 and process.max_unavailable == 0:
            name, other = ("max_surge", "max_unavailable")
            if self._origins[name] == DEFAULT:
                name, other = other, name
            yield _Finding(
                name,
                f"0 leaves a reload no room while {self._named(other, '0')}: one of them must be at least 1",
                (other,),
            )
        if "/" in process.name or not process.name.isprintable():
            yield _Finding("name", f"{show(process.name)} is not a plain name")

    def _addresses(self) -> Iterator[_Finding]:
        sockets = self._settings.sockets
        if not sockets.bind:
            yield _Finding("bind", "is empty: give at least one address")
        yield from _each("bind", sockets.bind, parse_bind)
        seen: set[object] = set()
        for text in sockets.bind:
            try:
                address = parse_bind(text)
            except ValueError:
                continue
            if address in seen and not (isinstance(address, TcpAddress) and address.port == 0):
                yield _Finding("bind", f"{show(text)} is given twice")
            if isinstance(address, InheritedFd) and address.fd <= 2:
                yield _Finding("bind", f"{show(text)} is a standard stream, not a socket")
            seen.add(address)
        if sockets.uds_owner and not _OWNER.fullmatch(sockets.uds_owner):
            yield _Finding("uds_owner", f"{show(sockets.uds_owner)} is not USER, USER:GROUP or :GROUP")

    def _http(self) -> Iterator[_Finding]:
        http = self._settings.http
        yield from _each("header", http.header, parse_header)
        if http.root_path and (not http.root_path.startswith("/") or http.root_path.endswith("/")):
            yield _Finding("root_path", f"{show(http.root_path)} must begin with / and not end with it")

    def _files(self) -> Iterator[_Finding]:
        application = self._settings.application
        if not _is(self._directory / application.app_dir, Path.is_dir):
            yield _Finding("app_dir", f"{show(application.app_dir)} is not a directory")
        for name in self._settings.development.reload_dir:
            if not _is(self._directory / name, Path.is_dir):
                yield _Finding("reload_dir", f"{show(name)} is not a directory")
        if application.env_file:
            yield from self._env_file(application.env_file)
        log_config = self._settings.logging.log_config
        if log_config and not _is(self._directory / log_config, Path.is_file):
            yield _Finding("log_config", f"{show(log_config)} is not a file")

    def _env_file(self, name: str) -> Iterator[_Finding]:
        try:
            _variables, errors = parse_env_file((self._directory / name).read_text(encoding="utf-8"))
        except OSError as error:
            yield _Finding("env_file", f"{show(name)} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            yield _Finding("env_file", f"{show(name)} is not UTF-8")
        else:
            for line, reason in errors:
                yield _Finding("env_file", f"{show(name)}, line {line}: {reason}")

    def _named(self, name: str, value: str) -> str:
        """Another setting's value, and where it came from."""
        return f"{name.replace('_', '-')} is {value} ({self._origins[name]})"


def _is(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except OSError:
        # No permission to look, or no possible name.
        return False


def _each(name: str, texts: Iterable[str], parse: Callable[[str], Any]) -> Iterator[_Finding]:
    for text in texts:
        try:
            parse(text)
        except ValueError as error:
            yield _Finding(name, f"{show(text)} {error}")
