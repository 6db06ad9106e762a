"""Sources of values: file, environment, flags. Each value has its origin; nothing is checked here."""

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from asgi_master.records import mutable_record, record
from asgi_master.settings.bind import KEPT_PREFIX, UNNAMED_FD
from asgi_master.settings.fields import ENVIRONMENT_PREFIX, key_of, variable_of
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.spelling import nearest
from asgi_master.settings.values import Raw

FILE_NAME = "asgi-master.toml"
CONFIG_FLAG = "--config"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"

_PROJECT_FILE = "pyproject.toml"
_PROJECT_TABLE = ("tool", "asgi-master")

_OURS = {
    f"{ENVIRONMENT_PREFIX}{name}" for name in ("CONFIG", "WORKER", "GENERATION", "SERVICE_NAME", "FAULT")
}
# Kubernetes sets these in every container of a namespace with a Service named asgi-master.
_KUBERNETES = re.compile(
    f"{ENVIRONMENT_PREFIX}(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


@record
class RawValue:
    """A value as written in its source."""

    raw: Raw
    origin: str
    """For example `--workers`, `ASGI_MASTER_WORKERS` or `asgi-master.toml, line 4`."""


@mutable_record
class Source:
    """The values of one source, by the setting's name, and the errors of the source itself."""

    values: dict[str, RawValue] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def from_flags(flags: Mapping[str, Raw]) -> Source:
    """Values from the command line, by name; `None` means not given."""
    source = Source()
    for setting in SETTINGS:
        raw = flags.get(setting.name)
        if raw is None or (setting.option.value_type.is_list and not raw):
            continue
        origin = setting.off_flag if raw is False else setting.flag
        source.values[setting.name] = RawValue(raw, origin)
    return source


def from_environment(environ: Mapping[str, str]) -> Source:
    """Values of `ASGI_MASTER_*` variables. An empty variable counts as not given."""
    source = Source()
    by_variable = {variable_of(name): setting.name for setting in SETTINGS for name in setting.names}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if variable in by_variable:
            if text:
                source.values[by_variable[variable]] = RawValue(text, variable)
        elif variable not in _OURS and not _KUBERNETES.fullmatch(variable):
            close = nearest(variable.removeprefix(ENVIRONMENT_PREFIX).lower(), by_variable.values())
            hint = f"; did you mean {ENVIRONMENT_PREFIX}{close.upper()}?" if close else ""
            source.errors.append(f"{variable}: unknown setting{hint} (environment)")
    return source


def from_socket_activation(environ: Mapping[str, str]) -> Source:
    """The sockets that systemd passed (sd_listen_fds(3)), used if no other source sets `bind`.

    The names suffice here. Whether the sockets were passed to this process is checked when they are opened; falling
    back to the default address would only hide an error.
    """
    count = environ.get("LISTEN_FDS", "0")
    if not (count.isascii() and count.isdecimal() and int(count) > 0):
        return Source()
    names = (environ.get("LISTEN_FDNAMES") or UNNAMED_FD).split(":")
    binds = dict.fromkeys(f"systemd:{name}" for name in names if not name.startswith(KEPT_PREFIX))
    return Source({"bind": RawValue(tuple(binds), "LISTEN_FDNAMES")} if binds else {})


def chdir_given(flags: Mapping[str, Raw], environ: Mapping[str, str]) -> str:
    """The `chdir` given by flag or variable: the settings file is searched there."""
    setting = next(setting for setting in SETTINGS if setting.name == "chdir")
    return str(flags.get(setting.name) or environ.get(setting.variable) or "")


def from_file(directory: Path, config: RawValue | None) -> Source:
    """Values from the file that `config` names, or else from a file in `directory`.

    That is asgi-master.toml or, without one, the table [tool.asgi-master] of pyproject.toml.
    """
    if config is not None:
        return _read_file(directory / config.raw, str(config.raw), f" ({config.origin})")
    for name in (FILE_NAME, _PROJECT_FILE):
        path = directory / name
        try:
            if not path.exists():
                continue
        except OSError as error:  # no permission to look into the directory
            return Source(errors=[f"{path}: cannot be read: {error.strerror}"])
        return _read_file(path, name, "")
    return Source()


def _read_file(path: Path, name: str, given_by: str) -> Source:
    import tomllib  # noqa: PLC0415 -- only needed with a settings file

    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        return Source(errors=[f"{name}: cannot be read: {error.strerror}{given_by}"])
    except UnicodeDecodeError:
        return Source(errors=[f"{name}: is not UTF-8{given_by}"])
    except (ValueError, RecursionError) as error:
        return Source(errors=[f"{name}: is not TOML: {error}{given_by}"])
    table: tuple[str, ...] = ()
    if path.name == _PROJECT_FILE:
        table = _PROJECT_TABLE
        for key in table:
            document = document.get(key, {}) if isinstance(document, dict) else {}
        if not isinstance(document, dict):
            return Source(errors=[f"{name}: [{'.'.join(table)}] is not a table"])
    return _from_document(document, _Lines(text, table), name)


def _from_document(document: Mapping[str, Any], lines: "_Lines", name: str) -> Source:
    source = Source()
    by_key = {key_of(name): setting for setting in SETTINGS for name in setting.names}
    for key, raw in document.items():
        line = lines.find(key)
        origin = f"{name}, line {line}" if line else name
        setting = by_key.get(key)
        is_table = isinstance(raw, dict) and not (setting and setting.option.value_type.is_table)
        if is_table or (isinstance(raw, list) and any(isinstance(item, dict) for item in raw)):
            source.errors.append(f"{key}: settings must be top-level keys, not inside a table ({origin})")
        elif setting is not None:
            source.values[setting.name] = RawValue(raw, origin)
        else:
            close = nearest(key.replace("_", "-"), by_key)
            hint = f"; did you mean {close}?" if close else ""
            source.errors.append(f"{key}: unknown setting{hint} ({origin})")
    return source


class _Lines:
    """Finds the line numbers of keys in a TOML text, which the standard library's parser does not report."""

    _HEADER = re.compile(r"\s*+\[\[?([^\]]*+)\]\]?\s*+(?:#.*)?")
    _KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*[=.]""")

    def __init__(self, text: str, table: tuple[str, ...]) -> None:
        self._lines: dict[str, int] = {}
        current: tuple[str, ...] = ()
        open_string = ""
        for number, line in enumerate(text.split("\n"), 1):
            if open_string:
                if line.count(open_string) % 2:
                    open_string = ""
                continue
            if header := self._HEADER.fullmatch(line.rstrip("\r")):
                current = tuple(part.strip(" \"'") for part in header[1].split("."))
                if current[: len(table)] == table and len(current) > len(table):
                    self._lines.setdefault(current[len(table)], number)
            elif current == table and (key := self._KEY.match(line)):
                self._lines.setdefault(key[1] or key[2] or key[3], number)
            for quotes in ('"""', "'''"):
                if line.count(quotes) % 2:
                    open_string = quotes

    def find(self, key: str) -> int | None:
        """The line number of a key of the table, from 1; `None` if its notation is not supported here."""
        return self._lines.get(key)


def config_file(flag: str | None, environ: Mapping[str, str]) -> RawValue | None:
    """The settings file named by flag or variable."""
    if flag:
        return RawValue(flag, CONFIG_FLAG)
    if text := environ.get(CONFIG_VARIABLE):
        return RawValue(text, CONFIG_VARIABLE)
    return None
