"""The access log as records of the logger `asgi_master.access`, if logging is configured for it.

A record has the fields of `access_format.FIELDS`, `status`, `bytes` and `duration`, and the formatted line as its
message. It is created before the application's coroutine ends, so filters see its context variables.
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
    Sent,
    chosen_in,
    compile_fields,
    compile_format,
)
from asgi_master.telemetry.access_json import LOGGER
from asgi_master.telemetry.access_log import Address, Second, exclusion_filter, refused_scope

log = logging.getLogger("asgi_master")


def is_configured() -> bool:
    """Whether the logger exists: a `log_config` names it, or the application has asked for it."""
    # `getLogger` would create it.
    return isinstance(logging.Logger.manager.loggerDict.get(LOGGER), logging.Logger)


class AccessLogger:
    """Creates a record for each request at once. One per process."""

    is_timed = True

    def __init__(
        self,
        format: str,  # noqa: A002 -- the name of the setting
        *,
        exclude: Sequence[str] = (),
        chosen: AccessHeaders = NO_HEADERS,
    ) -> None:
        """As for `AccessLog`. Raises `ValueError` for an unknown atom."""
        template = SHORTHANDS.get(format, format)
        self._logger = logging.getLogger(LOGGER)
        self._chosen = chosen
        self._format = compile_format(template, chosen)
        self._refused = compile_format(template, chosen, REFUSED_LINE)
        self._fields, wanted = compile_fields(chosen)
        self._wanted = self._format.wanted | wanted
        self._is_excluded = exclusion_filter(compile_exclusions(exclude)) if exclude else None
        if exclude:
            self._wanted |= {b"user-agent"}

    def of_connection(self) -> "AccessLogger":
        return self

    def record(
        self,
        request: object,  # noqa: ARG002 -- see `of_connection`
        scope: Mapping[str, Any],
        status: int,
        body_bytes: int,
        duration: float,
        sent: Sent = (),
    ) -> None:
        self._log(self._format, scope, (status, body_bytes, duration, sent))

    def refused(self, client: Address | None, line: bytes, status: int, body_bytes: int) -> None:
        self._log(self._refused, refused_scope(client, line), (status, body_bytes, 0.0, ()))

    def flush(self) -> None: ...

    def renew(self, fd: int) -> None:
        os.close(fd)

    def _log(self, form: Format, scope: Mapping[str, Any], response: tuple[int, int, float, Sent]) -> None:
        level = logging.ERROR if response[0] >= 500 else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        try:
            fields = {name: value for name, value in scope["headers"] if name in self._wanted}
            if form is self._refused or self._is_excluded is None or not self._is_excluded(scope, fields):
                self._logger.handle(self._record(level, form, scope, fields, response))
        except Exception:
            # The application may have changed the scope, and filters are its code.
            log.exception("a request could not be written to the access log")

    def _record(
        self,
        level: int,
        form: Format,
        scope: Mapping[str, Any],
        fields: Headers,
        response: tuple[int, int, float, Sent],
    ) -> logging.LogRecord:
        status, size, duration, sent = response
        now = time()
        (line,) = form.render(
            [(form.describe(scope, fields), status, size, duration, now, sent)], Second(now)
        )
        attributes = {
            **self._fields(scope, fields),
            "status": status,
            "bytes": size,
            "duration": round(duration, 6),
        }
        if self._chosen.response:
            attributes[RESPONSE_HEADERS] = chosen_in(sent, self._chosen.response)
        record = self._logger.makeRecord(LOGGER, level, __file__, 0, line.removesuffix("\n"), (), None)
        # Not by `extra`: that raises if a record factory of the application has set the same attribute, such as a
        # request id. Its value is kept if the request has none.
        for name, value in attributes.items():
            if value is not None or name not in record.__dict__:
                record.__dict__[name] = value
        return record
