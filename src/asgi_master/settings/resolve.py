"""Merges all sources into checked settings, and reports every error at once.

Precedence: defaults < sockets that systemd passed < file < environment < flags.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asgi_master import codec
from asgi_master.errors import SettingsError
from asgi_master.records import record
from asgi_master.settings.checks import DEFAULT, check
from asgi_master.settings.cpus import available_cpus
from asgi_master.settings.descriptors import available_descriptors, connection_limit
from asgi_master.settings.model import SETTINGS, Settings
from asgi_master.settings.sources import (
    RawValue,
    chdir_given,
    config_file,
    from_environment,
    from_file,
    from_flags,
    from_socket_activation,
)
from asgi_master.settings.values import AUTO, AUTO_CONNECTIONS, Raw, show

_DEVELOPMENT_DRAIN = 2.0


@record
class Resolved:
    """Checked settings, and the origin of each by name: `default`, or a `RawValue.origin`."""

    settings: Settings
    origins: Mapping[str, str]


def resolve(
    flags: Mapping[str, Raw],
    environ: Mapping[str, str],
    directory: Path,
    *,
    config: str | None = None,
    cpus: Callable[[], int] = available_cpus,
    descriptors: Callable[[], int] = available_descriptors,
) -> Resolved:
    """Resolve the settings from all sources.

    `flags` are the values of the command line by setting name. `directory` is the working directory: `chdir` and
    `config`, the argument of `--config`, are relative to it; the settings file is searched, and other paths are
    relative, in the directory that `chdir` names. Raises `SettingsError` with every error.
    """
    errors: list[str] = []
    given: dict[str, RawValue] = {}
    named = config_file(config, environ)
    for source in (
        from_socket_activation(environ),
        from_file(directory if named else directory / chdir_given(flags, environ), named),
        from_environment(environ),
        from_flags(flags),
    ):
        errors += source.errors
        given |= source.values
    values, invalid = _read(given, errors)
    if values["workers"] == AUTO:
        values["workers"] = cpus()
    if values["reload"] and "drain_timeout" not in given:
        # The developer waits: a browser's open stream must not delay each reload and Ctrl-C.
        values["drain_timeout"] = _DEVELOPMENT_DRAIN
    if values["max_connections"] == AUTO_CONNECTIONS:
        values["max_connections"] = connection_limit(descriptors())
    if "shutdown_timeout" not in given:
        # An operator who shortens the drain need not know that a part of it is reserved.
        values["shutdown_timeout"] = min(values["shutdown_timeout"], values["drain_timeout"] / 2)
    if "uds_owner" not in given and values["user"]:
        # As for the application's other files; the master, which creates the sockets, stays root.
        values["uds_owner"] = f"{values['user']}:{values['group']}"
    origins = {
        setting.name: given[setting.name].origin if setting.name in given else DEFAULT for setting in SETTINGS
    }
    settings = _tree(values)
    errors += check(settings, origins, directory / settings.application.chdir, invalid)
    if errors:
        raise SettingsError(errors)
    return Resolved(settings, origins)


def _read(given: Mapping[str, RawValue], errors: list[str]) -> tuple[dict[str, Any], set[str]]:
    """The value of each setting, and the names of those that cannot be read and keep their default."""
    values: dict[str, Any] = {}
    invalid: set[str] = set()
    for setting in SETTINGS:
        values[setting.name] = setting.option.default
        if setting.name not in given:
            continue
        raw, origin = given[setting.name].raw, given[setting.name].origin
        try:
            values[setting.name] = setting.option.read(raw)
        except ValueError as error:
            value = "its value" if setting.option.value_type.is_secret else show(raw)
            errors.append(f"{setting.key}: {value} {error} ({origin})")
            invalid.add(setting.name)
    return values, invalid


def _tree(values: Mapping[str, Any]) -> Settings:
    groups: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        groups.setdefault(setting.group, {})[setting.name] = values[setting.name]
    return codec.load(Settings, groups)


def to_toml(resolved: Resolved) -> str:
    """All settings as a settings file, each with its origin in a comment."""
    lines: list[str] = []
    title = ""
    for setting in SETTINGS:
        if setting.title != title:
            title = setting.title
            lines.append(f"{'' if not lines else chr(10)}# {title}")
        value = setting.option.value_type.write(setting.value_in(resolved.settings))
        assignment = f"{setting.key} = {value}"
        lines.append(f"{assignment:<40} # {resolved.origins[setting.name]}")
    return "\n".join(lines) + "\n"
