"""The access log as records of the logger `asgi_master.access`, for those who configured that.

Each has the fields of `access_format.FIELDS`, `status`, `bytes` and `duration`, and as its message the line of the
access log's format. It is made while the application still answers, so filters see its context variables.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from asgi_master.settings.access_headers import NO_HEADERS, AccessHeaders
from asgi_master.settings.exclusions import compile_exclusions
from asgi_master.telemetry.access_format import (
    REFUSED_LINE,
    RESPONSE_HEADERS,
    SHORTHANDS,
    Format,
    Headers,
    chosen_in,
    compile_fields,
    compile_format,
)
from asgi_master.telemetry.access_forms import LOGGER
from asgi_master.telemetry.access_log import Address, Second, left_out, refused_scope

log = logging.getLogger("asgi_master")


def is_configured() -> bool:
    """Whether somebody asked for the logger: a `log_config` that names it, or the application."""
    # To ask `logging` for it would make it.
    return isinstance(logging.Logger.manager.loggerDict.get(LOGGER), logging.Logger)


class AccessRecords:
    """Makes a record of each request at once. One per process."""

    is_timed = True

    def __init__(
        self,
        format: str,  # noqa: A002 -- the name of the setting
        *,
        exclude: Sequence[str] = (),
        chosen: AccessHeaders = NO_HEADERS,
    ) -> None:
        """As for `AccessLog`. Raises `ValueError` for an atom that does not exist."""
        template = SHORTHANDS.get(format, format)
        self._logger = logging.getLogger(LOGGER)
        self._chosen = chosen
        self._format = compile_format(template, chosen)
        self._refused = compile_format(template, chosen, REFUSED_LINE)
        self._fields, wanted = compile_fields(chosen)
        self._wanted = self._format.wanted | wanted
        self._is_left_out = left_out(compile_exclusions(exclude)) if exclude else None
        if exclude:
            self._wanted |= {b"user-agent"}

    def of_connection(self) -> "AccessRecords":
        """Where the requests of one connection are told: here, as each is described anew."""
        return self

    def record(
        self,
        request: object,  # noqa: ARG002 -- see `of_connection`
        scope: Mapping[str, Any],
        status: int,
        body_bytes: int,
        duration: float,
        block: bytes = b"",
    ) -> None:
        """One request; see `ConnectionLog.record`."""
        self._tell(self._format, scope, (status, body_bytes, duration, block))

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        """See `AccessLog.refused`."""
        self._tell(self._refused, refused_scope(client, line), (status, body_bytes, 0.0, b""))

    def flush(self) -> None:
        """Nothing waits."""

    def renew(self, fd: int) -> None:
        """There is no file: it is closed."""
        os.close(fd)

    def _tell(self, form: Format, scope: Mapping[str, Any], response: tuple[int, int, float, bytes]) -> None:
        level = logging.ERROR if response[0] >= 500 else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        try:
            fields = {name: value for name, value in scope["headers"] if name in self._wanted}
            if form is self._refused or self._is_left_out is None or not self._is_left_out(scope, fields):
                self._logger.handle(self._record(level, form, scope, fields, response))
        except Exception:
            # The application may have put anything into its scope, and filters are those of others.
            log.exception("a request could not be written to the access log")

    def _record(
        self,
        level: int,
        form: Format,
        scope: Mapping[str, Any],
        fields: Headers,
        response: tuple[int, int, float, bytes],
    ) -> logging.LogRecord:
        status, size, duration, block = response
        now = time()
        (line,) = form.render(
            [(form.describe(scope, fields), status, size, duration, now, block)], Second(now)
        )
        told = {
            **self._fields(scope, fields),
            "status": status,
            "bytes": size,
            "duration": round(duration, 6),
        }
        if self._chosen.response:
            told[RESPONSE_HEADERS] = chosen_in(block, self._chosen.response)
        record = self._logger.makeRecord(LOGGER, level, __file__, 0, line.removesuffix("\n"), (), None)
        # Not as `extra`: that raises where a record factory of the application has set one of these, such as the
        # request's number, which then is the better one if the request has none.
        for name, value in told.items():
            if value is not None or name not in record.__dict__:
                record.__dict__[name] = value
        return record
