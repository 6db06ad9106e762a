"""The log: one line per record on standard error, as text, as JSON, or with the journal's priorities.

The server logs to the logger `asgi_master`. The application's records go to the same handler until the application
configures logging itself: then its configuration applies to its records, and the server's records stay as they are.
`telemetry.formatters` describes the attributes of a record and its forms.
"""

import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asgi_master.errors import SettingsError
from asgi_master.telemetry import access_logger
from asgi_master.telemetry.access_json import LOGGER
from asgi_master.telemetry.clock import LOCAL, set_zone
from asgi_master.telemetry.formatters import JsonFormatter as JsonFormatter  # noqa: PLC0414 -- named so in files of operators
from asgi_master.telemetry.formatters import TextFormatter, identity, preferences
from asgi_master.telemetry.interpreter_output import capture
from asgi_master.telemetry.presets import FORMATTERS
from asgi_master.telemetry.request_info import request_id_headers
from asgi_master.telemetry.streams import Stream
from asgi_master.telemetry.text import one_line

_OURS = "asgi_master"
_STDERR = 2
_LAST_WRITE_TIMEOUT = 1.0
"""Seconds that the last line of a process, which counts the lost lines, may wait for the reader."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""The journal's (syslog's) priorities; lower levels are 7, debug."""


def configure(
    role: str,
    *,
    level: str,
    format: str,  # noqa: A002 -- the name of the setting
    log_config: str,
    traceback: str = "app",
    zone: str = LOCAL,
    request_ids: Sequence[str] = (),
    worker: int | None = None,
    generation: int | None = None,
    service: str | None = None,
) -> None:
    """Send the log of this process to standard error, or where `log_config` says.

    `format` is `auto`, `text` or one of `telemetry.presets`; `log_config` the path of a `.json`, `.yaml`, `.toml`
    (`dictConfig`) or `.ini` (`fileConfig`) file, or empty; `traceback` is `app` or `full`; `request_ids` are the
    headers that number requests. A further call, as in each forked worker, replaces the configuration unless it is
    unchanged. Raises `SettingsError` if `log_config` cannot be applied.
    """
    previous = identity.role
    identity.role, identity.worker, identity.generation = role, worker, generation
    identity.service = service
    preferences.full_tracebacks = traceback == "full"
    _set_zone(zone)
    if request_ids:
        request_id_headers.headers = tuple(name.lower().encode() for name in request_ids)
    number = _level_number(level)
    ours = logging.getLogger(_OURS)
    ours.__class__ = _Undisabled
    if _was_taken_over(log_config):
        # Changed by the application at its import. Workers that import for themselves find the same state.
        if log_config:
            _forget_buffered()
            _attend_handlers()
        return
    if not _is_in_place(format, ours):
        _put_in_place(_StderrHandler(format), ours)
    capture(to_warnings=format in FORMATTERS)
    if previous == "-":
        # Only once: the application may have changed the level since.
        logging.getLogger().setLevel(number)
    if log_config:
        # The root's handlers get the server's records, unless the file configures the server's logger itself.
        ours.handlers.clear()
        ours.propagate = True
        ours.setLevel(logging.NOTSET)
        logging.getLogger().setLevel(number)
        _forget_buffered()
        _apply(Path(log_config))
        if access_logger.is_configured():
            # A later configuration by the application must not silence the server's logger either.
            logging.getLogger(LOGGER).__class__ = _Undisabled
        _attend_handlers()
    elif ours.level != number:
        # Setting the level again would clear the cache of every logger, and each worker would copy the zygote's pages.
        ours.setLevel(number)
    _arranged.clear()
    _arranged.update(_arrangement())


_Arrangement = dict[str, tuple[tuple[logging.Handler, ...], int, bool]]

_arranged: _Arrangement = {}
"""The state after `configure`; empty before the first call."""


def _arrangement() -> _Arrangement:
    """Handlers, level and propagation of each logger that has any."""
    return {
        logger.name: (tuple(logger.handlers), logger.level, logger.propagate)
        for logger in _loggers()
        if logger.handlers or logger.level or not logger.propagate
    }


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):  # the others are placeholders
            yield logger


def _was_taken_over(log_config: str) -> bool:
    """Whether other code has changed the configured loggers since `configure`."""
    if not _arranged:
        return False
    now = _arrangement()
    return now != _arranged if log_config else now.get(_OURS) != _arranged.get(_OURS)


def _forget_buffered() -> None:
    """Drop the records that a `MemoryHandler` held at the fork: the parent process emits them."""
    for logger in _loggers():
        for handler in logger.handlers:
            if isinstance(buffer := getattr(handler, "buffer", None), list) and identity.runs_application:
                buffer.clear()


def _attend_handlers() -> None:
    from asgi_master.telemetry.queue_handlers import serve_queues  # noqa: PLC0415 -- few have handlers of their own

    _add_identity_to_handlers()
    handlers = {handler: None for logger in _loggers() for handler in logger.handlers}
    serve_queues(handlers, in_threads=identity.runs_application)


def _set_zone(name: str) -> None:
    try:
        set_zone(name)
    except ValueError as error:
        raise SettingsError([f"log_timezone: {error}"]) from None


def _level_number(level: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise SettingsError([f"log_level: {level!r} is not a level"])
    return number


class _Undisabled(logging.Logger):
    """A logger that `dictConfig` and `fileConfig` cannot disable.

    By default they disable every logger that they do not name, so the application's logging configuration would silence
    the server. The level of this logger can still be set by name.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Ignored."""


def _is_in_place(style: str, ours: logging.Logger) -> bool:
    """Whether `_put_in_place` has added a handler of this style and standard error has not changed since."""
    handler = logging.lastResort
    return (
        isinstance(handler, _StderrHandler)
        and handler.target == _target(style)
        and ours.handlers == [handler]
        and not ours.propagate
    )


def _put_in_place(handler: "_StderrHandler", ours: logging.Logger) -> None:
    """Add the handler to the server's logger, and as the handler of last resort."""
    before = logging.lastResort
    ours.handlers = [handler]
    ours.propagate = False
    # Not as a handler of the root: `basicConfig` in the application would then do nothing, and loggers with handlers of
    # their own would log everything twice.
    logging.lastResort = handler
    if isinstance(before, _StderrHandler):
        before.close()


def _apply(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        match path.suffix:
            case ".json":
                _apply_dict(json.loads(text))
            case ".toml":
                import tomllib  # noqa: PLC0415 -- few have such a file

                _apply_dict(tomllib.loads(text))
            case ".yaml" | ".yml":
                _apply_dict(_read_yaml(text))
            case ".ini" | ".conf" | ".cfg":
                import logging.config  # noqa: PLC0415 -- as above

                logging.config.fileConfig(io.StringIO(text), disable_existing_loggers=False)
            case _:
                raise ValueError("the name must end in .json, .yaml, .toml or .ini")
    except OSError as error:
        raise SettingsError([f"log-config: {path}: {error.strerror or error}"]) from error
    except Exception as error:
        # The file may name any class and pass it anything; the cause states what failed there.
        reason = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
        raise SettingsError(
            [f"log-config: {path}: {one_line(reason or repr(error))}{_hint(error)}"]
        ) from error


def _hint(error: BaseException | None) -> str:
    """A hint if a module is not found: each process applies the file, also the master, which imports no application."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return "; the master imports it too, and not from --app-dir: install it, or put its directory on PYTHONPATH"
        error = error.__cause__
    return ""


def _read_yaml(text: str) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415 -- an extra
    except ImportError:
        raise ValueError('PyYAML is not installed; `pip install "asgi-master[yaml]"` brings it') from None
    # No object may be created here: the classes of a configuration are resolved by `dictConfig`.
    config = yaml.safe_load(text)
    if not isinstance(config, dict):
        raise ValueError("it is not a mapping")  # noqa: TRY004 -- one kind for whatever is wrong with the file
    return config


def _apply_dict(config: dict[str, Any]) -> None:
    import logging.config  # noqa: PLC0415 -- as above

    # A worker applies the file after the application was imported. Disabling existing loggers, the default, would then
    # silence the application's loggers.
    logging.config.dictConfig({"version": 1, **config, "disable_existing_loggers": False})


def _add_identity_to_handlers() -> None:
    """Provide `%(role)s`, `%(worker)s`, `%(service)s` and `%(generation)s` for formats in a `log_config`.

    Not by a record factory: `extra={"worker": …}` in the application would then raise.
    """
    for logger in _loggers():
        for handler in logger.handlers:
            handler.addFilter(_add_identity)


def _add_identity(record: logging.LogRecord) -> bool:
    fields = record.__dict__
    fields.setdefault("role", identity.role)
    fields.setdefault("worker", "-" if identity.worker is None else identity.worker)
    fields.setdefault("service", "-" if identity.service is None else identity.service)
    fields.setdefault("generation", "-" if identity.generation is None else identity.generation)
    if not record.exc_info and not record.exc_text:
        # So that other formatters show it too.
        record.exc_text = fields.get("detail")
    return True


class _StderrHandler(logging.Handler):
    """Writes each record with one call; never raises and never waits long (see `telemetry.streams`)."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.target = _target(style)
        self._stream = Stream(_STDERR)
        self._journal = _is_the_journal(*self.target[1:])
        self._lost = 0
        self._pid = os.getpid()
        if style in FORMATTERS:
            self.setFormatter(FORMATTERS[style]())
        else:
            self.setFormatter(TextFormatter(timestamp=not self._journal, colour=_shows_colour(_STDERR)))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; for a record that cannot be formatted, write a line that says so."""
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 -- a bad log call must not hurt its caller
            text = self.format(_unformattable(record, error))
        if self._pid != os.getpid():
            self._pid, self._lost = os.getpid(), 0
        if not self._stream.write(self._encode(text, record.levelno)):
            self._lost += 1
        elif self._lost:
            self._log_loss()

    def flush(self) -> None:
        """Log the number of lost records, at the end of the process."""
        if self._lost and self._pid == os.getpid():
            self._log_loss(_LAST_WRITE_TIMEOUT)

    def _log_loss(self, *timeout: float) -> None:
        record = _own_record(
            logging.WARNING, f"{self._lost} log record(s) were lost: no process read standard error"
        )
        if self._stream.write(self._encode(self.format(record), record.levelno), *timeout):
            self._lost = 0

    def _encode(self, text: str, level: int) -> bytes:
        if self._journal:
            priority = next((number for least, number in _PRIORITIES if level >= least), 7)
            text = "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
        return f"{text}\n".encode(errors="backslashreplace")

    def close(self) -> None:
        """Close the stream unless it is in use: `dictConfig` closes every handler it knows."""
        if logging.lastResort is not self:
            self._stream.close()
            super().close()


def _target(style: str) -> tuple[str, int, int]:
    """The style, and the device and inode of standard error."""
    try:
        status = os.fstat(_STDERR)
    except OSError:
        return style, -1, -1
    return style, status.st_dev, status.st_ino


def _unformattable(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    place = f"{record.pathname}:{record.lineno}"
    return _own_record(record.levelno, f"a log record of {place} cannot be shown: {type(error).__name__}")


def _own_record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(_OURS, level, __file__, 0, message, None, None)


def _is_the_journal(device: int, inode: int) -> bool:
    """Whether this file is the journal's socket (systemd.exec(5), `$JOURNAL_STREAM`)."""
    return os.environ.get("JOURNAL_STREAM") == f"{device}:{inode}"


def _shows_colour(fd: int) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return os.isatty(fd)
