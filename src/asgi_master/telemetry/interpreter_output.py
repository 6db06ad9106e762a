"""Output of the interpreter itself (warnings, unhandled exceptions) as log records of this process."""

import logging
import sys
import warnings
from types import TracebackType
from typing import Any, TextIO

from asgi_master import unraisable
from asgi_master.telemetry.failures import describe

log = logging.getLogger("asgi_master")

_MAX_LENGTH = 500


def capture(*, to_warnings: bool) -> None:
    """Log the exception that ends this process, exceptions that Python cannot raise and, if requested, warnings."""
    sys.excepthook = _ended
    unraisable.set_default_handler(_unraisable)
    if to_warnings:
        warnings.showwarning = _warned


def _ended(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    log.critical("this process ends: %s", describe(error), exc_info=(kind, error, frames))


def _unraisable(found: Any) -> None:
    where = found.err_msg or "exception ignored in"
    try:
        what = "" if found.object is None else f" {found.object!r}"[:_MAX_LENGTH]
    except Exception:  # noqa: BLE001 -- the application's `__repr__` may do anything
        what = f" a {type(found.object).__name__}"
    error = found.exc_value
    description = found.exc_type.__name__ if error is None else describe(error)
    raised = None if error is None else (found.exc_type, error, found.exc_traceback)
    log.error("%s%s: %s", where, what, description, exc_info=raised)


def _warned(  # the signature of `warnings.showwarning`
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is None:
        logging.getLogger("py.warnings").warning(
            "%s: %s (%s:%d)", category.__name__, message, filename, lineno
        )
    else:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
