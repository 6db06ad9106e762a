"""The log: one line per record on standard error, for people, machines or the journal.

Our records come from the logger `asgi_master`. The application's loggers reach the same place until the
application configures logging itself: then its configuration holds for its records, and ours go on as
before. What a record may carry, and how it looks, is in `telemetry.formatters`.
"""

import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asgi_master.errors import SettingsError
from asgi_master.telemetry import access_records
from asgi_master.telemetry.access_forms import LOGGER
from asgi_master.telemetry.clock import LOCAL, set_zone
from asgi_master.telemetry.formatters import JsonFormatter as JsonFormatter  # noqa: PLC0414 -- named so in files of operators
from asgi_master.telemetry.formatters import TextFormatter, identity, preferences
from asgi_master.telemetry.presets import FORMATTERS
from asgi_master.telemetry.requests import numbering
from asgi_master.telemetry.strays import listen
from asgi_master.telemetry.streams import Stream
from asgi_master.telemetry.text import one_line

_OURS = "asgi_master"
_STDERR = 2
_LAST_PATIENCE = 1.0
"""Seconds that the last line of a process, about those that were lost, may wait."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""The journal's (syslog's) numbers; what is less than all of these is 7, debug."""


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
) -> None:
    """Send this process' log to standard error, or wherever the operator's `log_config` says.

    `format` is `auto`, `text` or one of `telemetry.presets`; `log_config` the path of a `.json`, `.yaml`, `.toml`
    (`dictConfig`) or `.ini` (`fileConfig`) file, or empty; `traceback` is `app` or `full`; `request_ids` are the
    headers that number requests. Called again, as in each forked worker, it replaces what the last call set up unless
    that would come to the same. Raises `SettingsError` if `log_config` cannot be applied.
    """
    previous = identity.role
    identity.role, identity.worker, identity.generation = role, worker, generation
    preferences.full_tracebacks = traceback == "full"
    _set_zone(zone)
    if request_ids:
        numbering.headers = tuple(name.lower().encode() for name in request_ids)
    number = _level_number(level)
    ours = logging.getLogger(_OURS)
    ours.__class__ = _Undisabled
    if _was_taken_over(log_config):
        # By the application, at its import. Where workers import for themselves they find it as it left it too.
        if log_config:
            _forget_buffered()
            _attend_handlers()
        return
    if not _is_in_place(format, ours):
        _put_in_place(_StderrHandler(format), ours)
    listen(to_warnings=format in FORMATTERS)
    if previous == "-":
        # Once: afterwards the level may be what the application chose.
        logging.getLogger().setLevel(number)
    if log_config:
        # The operator's handlers get our records from the root, unless the file names our logger.
        ours.handlers.clear()
        ours.propagate = True
        ours.setLevel(logging.NOTSET)
        logging.getLogger().setLevel(number)
        _forget_buffered()
        _apply(Path(log_config))
        if access_records.is_configured():
            # Nor may what the application configures later silence this one.
            logging.getLogger(LOGGER).__class__ = _Undisabled
        _attend_handlers()
    elif ours.level != number:
        # To set it again makes every logger forget what it remembered, and each worker copy those of the zygote.
        ours.setLevel(number)
    _arranged.clear()
    _arranged.update(_arrangement())


_Arrangement = dict[str, tuple[tuple[logging.Handler, ...], int, bool]]

_arranged: _Arrangement = {}
"""What `configure` left; empty before it was called."""


def _arrangement() -> _Arrangement:
    """Handlers, level and propagation of each logger that has any of its own."""
    return {
        logger.name: (tuple(logger.handlers), logger.level, logger.propagate)
        for logger in _loggers()
        if logger.handlers or logger.level or not logger.propagate
    }


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):  # the rest are place holders
            yield logger


def _was_taken_over(log_config: str) -> bool:
    """Whether somebody else has set up our logger, or with a `log_config` any that this speaks for, since then."""
    if not _arranged:
        return False
    now = _arrangement()
    return now != _arranged if log_config else now.get(_OURS) != _arranged.get(_OURS)


def _forget_buffered() -> None:
    """What a `MemoryHandler` held at the fork is for the process that was forked to tell."""
    for logger in _loggers():
        for handler in logger.handlers:
            if isinstance(buffer := getattr(handler, "buffer", None), list) and identity.role == "worker":
                buffer.clear()


def _attend_handlers() -> None:
    from asgi_master.telemetry.queues import serve_queues  # noqa: PLC0415 -- few have handlers of their own

    _tell_handlers_who_we_are()
    handlers = {handler: None for logger in _loggers() for handler in logger.handlers}
    serve_queues(handlers, in_threads=identity.role == "worker")


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
    """A logger that `dictConfig` and `fileConfig` cannot turn off.

    They disable every logger they do not name unless told otherwise, so the application's own logging
    set-up would silence the server. Ours can still be set to any level by naming it.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Not obeyed."""


def _is_in_place(style: str, ours: logging.Logger) -> bool:
    """Whether `_put_in_place` has put a handler of this style there, and standard error is the same as then."""
    handler = logging.lastResort
    return (
        isinstance(handler, _StderrHandler)
        and handler.target == _target(style)
        and ours.handlers == [handler]
        and not ours.propagate
    )


def _put_in_place(handler: "_StderrHandler", ours: logging.Logger) -> None:
    """Make this the handler of our logger, and of every record that no other handler takes."""
    before = logging.lastResort
    ours.handlers = [handler]
    ours.propagate = False
    # Not a handler of the root: with one there, `basicConfig` in the application would do nothing, and
    # loggers that have handlers of their own would say everything twice.
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
        # The file may name any class and pass it anything; what went wrong there is the cause.
        reason = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
        raise SettingsError(
            [f"log-config: {path}: {one_line(reason or repr(error))}{_hint(error)}"]
        ) from error


def _hint(error: BaseException | None) -> str:
    """What to do where a module is not found: each process applies the file, and the master runs no application."""
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
    # Nothing in it may make objects: the classes that a configuration names are for `dictConfig` to find.
    config = yaml.safe_load(text)
    if not isinstance(config, dict):
        raise ValueError("it holds no mapping")  # noqa: TRY004 -- one kind for whatever is wrong with the file
    return config


def _apply_dict(config: dict[str, Any]) -> None:
    import logging.config  # noqa: PLC0415 -- as above

    # A worker applies the file after the application was imported. To disable existing loggers, which is
    # the default where the file says nothing, would then silence the application's.
    logging.config.dictConfig({"version": 1, **config, "disable_existing_loggers": False})


def _tell_handlers_who_we_are() -> None:
    """Give formats in a `log_config` the words `%(role)s`, `%(worker)s` and `%(generation)s`.

    Not with a record factory: `extra={"worker": …}` in the application would then raise.
    """
    for logger in _loggers():
        for handler in logger.handlers:
            handler.addFilter(_add_identity)


def _add_identity(record: logging.LogRecord) -> bool:
    fields = record.__dict__
    fields.setdefault("role", identity.role)
    fields.setdefault("worker", "-" if identity.worker is None else identity.worker)
    fields.setdefault("generation", "-" if identity.generation is None else identity.generation)
    if not record.exc_info and not record.exc_text:
        # So that formatters that know nothing of ours show it too.
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
        """Write the record; what cannot be formatted is named instead."""
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 -- a bad log call must not hurt its caller
            text = self.format(_unformattable(record, error))
        if self._pid != os.getpid():
            self._pid, self._lost = os.getpid(), 0
        if not self._stream.write(self._encode(text, record.levelno)):
            self._lost += 1
        elif self._lost:
            self._tell_loss()

    def flush(self) -> None:
        """Tell what was lost: nothing may follow that would. Called at the end of the process."""
        if self._lost and self._pid == os.getpid():
            self._tell_loss(_LAST_PATIENCE)

    def _tell_loss(self, *patience: float) -> None:
        record = _own_record(
            logging.WARNING, f"{self._lost} log record(s) were lost: nobody read standard error"
        )
        if self._stream.write(self._encode(self.format(record), record.levelno), *patience):
            self._lost = 0

    def _encode(self, text: str, level: int) -> bytes:
        if self._journal:
            priority = next((number for least, number in _PRIORITIES if level >= least), 7)
            text = "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
        return f"{text}\n".encode(errors="backslashreplace")

    def close(self) -> None:
        """Close what was opened for writing, unless in use: `dictConfig` closes every handler it knows."""
        if logging.lastResort is not self:
            self._stream.close()
            super().close()


def _target(style: str) -> tuple[str, int, int]:
    """A style, and the device and inode of standard error."""
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
    """Whether this is what systemd connected to the journal (systemd.exec(5), `$JOURNAL_STREAM`)."""
    return os.environ.get("JOURNAL_STREAM") == f"{device}:{inode}"


def _shows_colour(fd: int) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return os.isatty(fd)
