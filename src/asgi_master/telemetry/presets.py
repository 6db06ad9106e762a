"""JSON with the field names of log collectors. For the access log: `telemetry.access_json`.

Tracebacks are one JSON string, in Python's form: the collectors' error trackers parse it.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from asgi_master.telemetry.access_json import ECS_VERSION, is_access, line_of
from asgi_master.telemetry.clock import at
from asgi_master.telemetry.failures import Failure, read
from asgi_master.telemetry.formatters import JsonFormatter, identity_fields, request_of
from asgi_master.telemetry.request_info import RequestInfo
from asgi_master.telemetry.tracebacks import text_of

_GCP_SEVERITIES = {
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
    "CRITICAL": "CRITICAL",
}


class _CollectedFormatter(JsonFormatter):
    """Base of the collectors' formatters."""

    def format(self, record: logging.LogRecord) -> str:
        if is_access(record):
            return line_of(self.form, identity_fields, record)
        fields = {**self.head(record), **identity_fields(self.prefix, record.process)}
        if (request := request_of(record)) is not None:
            fields.update(self.request(request))
        if (failure := _failure_of(record)) is not None:
            fields.update(self.failure(*failure))
        for name in ("stack_info", "detail"):
            if (said := getattr(record, name, None)) and not (name == "detail" and failure):
                fields[self.prefix + name.removesuffix("_info")] = str(said)
        return json.dumps(fields)

    form = ""
    """Key in `FORMATTERS`."""
    prefix = ""
    """Prefix of the names of fields that no collector defines."""

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time, level, logger and message."""
        raise NotImplementedError

    def request(self, request: RequestInfo) -> dict[str, Any]:
        """Fields of the request that the record is about."""
        raise NotImplementedError

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        """Fields of an exception."""
        raise NotImplementedError


def _failure_of(record: logging.LogRecord) -> tuple[str, str, str] | None:
    """Type, message and traceback of an exception of this or, as reported, of another process."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        failure: Failure = read(error, full=True)
        return failure.type, failure.message, text_of(failure, full=True)
    fields = getattr(record, "failure", None)
    if isinstance(fields, Mapping) and fields:
        return str(fields.get("type")), str(fields.get("message")), str(fields.get("text"))
    return None


def _time(record: logging.LogRecord) -> str:
    return at(record.created).isoformat(timespec="milliseconds")


class GcpFormatter(_CollectedFormatter):
    """Google Cloud's structured logging: `severity`, `time`, `httpRequest`, `stack_trace`."""

    form = "gcp"

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            "severity": _GCP_SEVERITIES.get(record.levelname, "DEFAULT"),
            "time": _time(record),
            "message": record.getMessage(),
            "logger": record.name,
        }

    def request(self, request: RequestInfo) -> dict[str, Any]:
        fields = {"requestMethod": request["method"], "requestUrl": request["target"]}
        if "client" in request:
            fields["remoteIp"] = request.address
        return {"httpRequest": fields} | ({"request_id": request["id"]} if "id" in request else {})

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        return {"stack_trace": traceback, "error": {"type": kind, "message": message}}


class DatadogFormatter(_CollectedFormatter):
    """Datadog's standard attributes: `timestamp`, `status`, `http.*`, `error.*`."""

    form = "datadog"

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            "timestamp": _time(record),
            "status": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": {"name": record.name, "thread_name": record.threadName},
        }

    def request(self, request: RequestInfo) -> dict[str, Any]:
        http = {"method": request["method"], "url": request["target"]}
        if "id" in request:
            http["request_id"] = request["id"]
        client = {"network": {"client": {"ip": request.address}}} if "client" in request else {}
        return {"http": http, **client}

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        return {"error": {"kind": kind, "message": message, "stack": traceback}}


class EcsFormatter(_CollectedFormatter):
    """The Elastic Common Schema: `@timestamp`, `log.level`, `http.*`, `error.*`."""

    form = "ecs"
    prefix = "labels."

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            "@timestamp": _time(record),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": ECS_VERSION,
            "log.logger": record.name,
            "process.pid": record.process,
            "process.thread.name": record.threadName,
        }

    def request(self, request: RequestInfo) -> dict[str, Any]:
        fields = {"http.request.method": request["method"], "url.original": request["target"]}
        if "client" in request:
            fields["client.address"] = request.address
        if "id" in request:
            fields["http.request.id"] = request["id"]
        return dict(fields)

    def failure(self, kind: str, message: str, traceback: str) -> dict[str, Any]:
        return {"error.type": kind, "error.message": message, "error.stack_trace": traceback}


FORMATTERS: Mapping[str, type[JsonFormatter]] = {
    "json": JsonFormatter,
    "gcp": GcpFormatter,
    "datadog": DatadogFormatter,
    "ecs": EcsFormatter,
}
"""JSON formatters by format name."""
