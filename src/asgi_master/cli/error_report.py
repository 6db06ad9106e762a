"""Reports the errors of a failed start, in the format chosen for the log."""

import itertools
import logging
import sys
from collections.abc import Mapping, Sequence

from asgi_master.telemetry.text import one_line

_FLAG = "--log-format"
_VARIABLE = "ASGI_MASTER_LOG_FORMAT"


def report_errors(
    program: str, lines: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Write a line for each error to standard error."""
    form = _log_format(arguments, environ)
    for line in lines:
        formatted = "" if form in ("", "auto", "text") else _in_form(line, form)
        print(formatted or f"{program}: error: {one_line(line)}", file=sys.stderr)  # noqa: T201 -- before there is a log


def _log_format(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """The log format from the flag, the environment or the file, as far as these can be read."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{_FLAG}="):
            return argument.partition("=")[2]
        if argument == _FLAG:
            return arguments[index + 1] if index + 1 < len(arguments) else ""
    return environ.get(_VARIABLE) or _form_in_file(arguments, environ)


def _form_in_file(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    from asgi_master.errors import SettingsError  # noqa: PLC0415 -- only where something is wrong
    from asgi_master.settings.directory import working_directory  # noqa: PLC0415 -- as above
    from asgi_master.settings.sources import config_file, from_file  # noqa: PLC0415 -- as above

    named = next((a.partition("=")[2] for a in arguments if a.startswith("--config=")), None)
    for flag, value in itertools.pairwise(arguments):
        named = value if flag in ("-c", "--config") else named
    try:
        given = from_file(working_directory(environ), config_file(named, environ)).values
    except (SettingsError, OSError, ValueError):
        return ""
    return str(given["log_format"].raw) if "log_format" in given else ""


def _in_form(line: str, form: str) -> str:
    from asgi_master.telemetry.formatters import identity  # noqa: PLC0415 -- only where something is wrong
    from asgi_master.telemetry.presets import FORMATTERS  # noqa: PLC0415 -- as above

    kind = FORMATTERS.get(form)
    if kind is None:
        return ""  # the format itself may be the error
    identity.role = "master" if identity.role == "-" else identity.role
    record = logging.LogRecord("asgi_master", logging.CRITICAL, "", 0, "%s", (line,), None)
    return kind().format(record)
