"""JSON as those who collect logs expect it: names and forms of fields. For the access log: `telemetry.access_forms`.

The forms of collectors carry whole tracebacks, on one line as JSON strings are: their error trackers know
Python's form.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from asgi_master.telemetry.access_forms import ECS_VERSION, is_access, line_of
from asgi_master.telemetry.clock import at
from asgi_master.telemetry.failures import Failure, read
from asgi_master.telemetry.formatters import JsonFormatter, request_of, who
from asgi_master.telemetry.requests import Asked
from asgi_master.telemetry.tracebacks import text_of

_GCP_SEVERITIES = {
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
    "CRITICAL": "CRITICAL",
}


class _CollectedFormatter(JsonFormatter):
    """What the forms of collectors have in common."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, on one line, in ASCII."""
        if is_access(record):
            return line_of(self.form, who, record)
        fields = {**self.head(record), **who(self.prefix, record.process)}
        if (request := request_of(record)) is not None:
            fields.update(self.request(request))
        if (failure := _failure_of(record)) is not None:
            fields.update(self.failure(*failure))
        for name in ("stack_info", "detail"):
            if (said := getattr(record, name, None)) and not (name == "detail" and failure):
                fields[self.prefix + name.removesuffix("_info")] = str(said)
        return json.dumps(fields)

    form = ""
    """Its name among `FORMATTERS`."""
    prefix = ""
    """Before the names of fields that are ours alone."""

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time, level, logger and message."""
        raise NotImplementedError

    def request(self, request: Asked) -> dict[str, Any]:
        """The request that it is about."""
        raise NotImplementedError

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        """What was raised."""
        raise NotImplementedError


def _failure_of(record: logging.LogRecord) -> tuple[str, str, str] | None:
    """Type, message and traceback of what was raised, here or, as it told, in another process."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        failure: Failure = read(error, full=True)
        return failure.type, failure.message, text_of(failure, full=True)
    told = getattr(record, "failure", None)
    if isinstance(told, Mapping) and told:
        return str(told.get("type")), str(told.get("message")), str(told.get("text"))
    return None


def _time(record: logging.LogRecord) -> str:
    return at(record.created).isoformat(timespec="milliseconds")


class GcpFormatter(_CollectedFormatter):
    """Google Cloud's structured logging: `severity`, `time`, `httpRequest`, `stack_trace`."""

    form = "gcp"

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time, level, logger and message."""
        return {
            "severity": _GCP_SEVERITIES.get(record.levelname, "DEFAULT"),
            "time": _time(record),
            "message": record.getMessage(),
            "logger": record.name,
        }

    def request(self, request: Asked) -> dict[str, Any]:
        """The request that it is about."""
        told = {"requestMethod": request["method"], "requestUrl": request["target"]}
        if "client" in request:
            told["remoteIp"] = request.address
        return {"httpRequest": told} | ({"request_id": request["id"]} if "id" in request else {})

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        """What was raised."""
        return {"stack_trace": traceback, "error": {"type": kind, "message": message}}


class DatadogFormatter(_CollectedFormatter):
    """Datadog's standard attributes: `timestamp`, `status`, `http.*`, `error.*`."""

    form = "datadog"

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time, level, logger and message."""
        return {
            "timestamp": _time(record),
            "status": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": {"name": record.name, "thread_name": record.threadName},
        }

    def request(self, request: Asked) -> dict[str, Any]:
        """The request that it is about."""
        http = {"method": request["method"], "url": request["target"]}
        if "id" in request:
            http["request_id"] = request["id"]
        client = {"network": {"client": {"ip": request.address}}} if "client" in request else {}
        return {"http": http, **client}

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        """What was raised."""
        return {"error": {"kind": kind, "message": message, "stack": traceback}}


class EcsFormatter(_CollectedFormatter):
    """The Elastic Common Schema: `@timestamp`, `log.level`, `http.*`, `error.*`."""

    form = "ecs"
    prefix = "labels."

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time, level, logger and message."""
        return {
            "@timestamp": _time(record),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": ECS_VERSION,
            "log.logger": record.name,
            "process.pid": record.process,
            "process.thread.name": record.threadName,
        }

    def request(self, request: Asked) -> dict[str, Any]:
        """The request that it is about."""
        told = {"http.request.method": request["method"], "url.original": request["target"]}
        if "client" in request:
            told["client.address"] = request.address
        if "id" in request:
            told["http.request.id"] = request["id"]
        return dict(told)

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        """What was raised."""
        return {"error.type": kind, "error.message": message, "error.stack_trace": traceback}


FORMATTERS: Mapping[str, type[JsonFormatter]] = {
    "json": JsonFormatter,
    "gcp": GcpFormatter,
    "datadog": DatadogFormatter,
    "ecs": EcsFormatter,
}
"""The forms that are JSON, and what makes a line of a record."""
