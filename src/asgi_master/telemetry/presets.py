"""JSON as those who collect logs expect it: names and forms of fields, for the log and for the access log.

A form gives the fields of a record, and of a request as a template over the atoms of `telemetry.access_log`.
Those of collectors carry whole tracebacks, on one line as JSON strings are: their error trackers know Python's form.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from asgi_master.telemetry.clock import at
from asgi_master.telemetry.failures import Failure, read
from asgi_master.telemetry.formatters import JsonFormatter, identity, request_of
from asgi_master.telemetry.requests import Asked
from asgi_master.telemetry.tracebacks import text_of

_ECS_VERSION = "8.11.0"
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
        fields = {**self.head(record), **_who(self.prefix, record.process)}
        if (request := request_of(record)) is not None:
            fields.update(self.request(request))
        if (failure := _failure_of(record)) is not None:
            fields.update(self.failure(*failure))
        for name in ("stack_info", "detail"):
            if (said := getattr(record, name, None)) and not (name == "detail" and failure):
                fields[self.prefix + name.removesuffix("_info")] = str(said)
        return json.dumps(fields)

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


def _who(prefix: str, pid: int | None) -> dict[str, Any]:
    told = {
        "role": identity.role,
        "worker": identity.worker,
        "generation": identity.generation,
        "pid": pid,
    }
    return {prefix + name: value for name, value in told.items() if value is not None}


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

    prefix = "labels."

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time, level, logger and message."""
        return {
            "@timestamp": _time(record),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": _ECS_VERSION,
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

_TIME = '"%(json date)s.%(json ms)s%(json offset)s"'
_REQUESTS: Mapping[str, dict[str, Any]] = {
    "json": {
        "ts": _TIME,
        "client": "%(json client)s",
        "method": "%(json method)s",
        "path": "%(json path)s",
        "query": "%(json query)s",
        "protocol": "%(json protocol)s",
        "status": "%(s)s",
        "bytes": "%(B)s",
        "duration": "%(L)s",
        "referer": "%(json referer)s",
        "user_agent": "%(json user_agent)s",
    },
    "gcp": {
        "severity": '"%(json severity)s"',
        "time": _TIME,
        "message": "%(json line)s",
        "httpRequest": {
            "requestMethod": "%(json method)s",
            "requestUrl": "%(json target)s",
            "status": "%(s)s",
            "responseSize": '"%(B)s"',
            "userAgent": "%(json user_agent)s",
            "remoteIp": "%(json client)s",
            "referer": "%(json referer)s",
            "latency": '"%(L)ss"',
            "protocol": "%(json protocol)s",
        },
    },
    "datadog": {
        "timestamp": _TIME,
        "status": '"%(json level)s"',
        "message": "%(json line)s",
        "http": {
            "method": "%(json method)s",
            "url": "%(json target)s",
            "status_code": "%(s)s",
            "referer": "%(json referer)s",
            "useragent": "%(json user_agent)s",
            "version": "%(json version)s",
        },
        "network": {"client": {"ip": "%(json client)s"}, "bytes_written": "%(B)s"},
        "duration": "%(json ns)s",
    },
    "ecs": {
        "@timestamp": _TIME,
        "log.level": '"%(json level)s"',
        "message": "%(json line)s",
        "ecs.version": json.dumps(_ECS_VERSION),
        "event.dataset": '"asgi_master.access"',
        "event.duration": "%(json ns)s",
        "http.request.method": "%(json method)s",
        "http.request.referrer": "%(json referer)s",
        "http.response.status_code": "%(s)s",
        "http.response.body.bytes": "%(B)s",
        "http.version": "%(json version)s",
        "url.path": "%(json path)s",
        "url.query": "%(json query)s",
        "client.address": "%(json client)s",
        "user_agent.original": "%(json user_agent)s",
    },
}


def request_template(form: str, pid: int) -> str:
    """The access log's line in one of the forms that are JSON."""
    prefix = "labels." if form == "ecs" else ""
    constants: dict[str, Any] = {"type": "access"} if form == "json" else {f"{prefix}type": "access"}
    constants |= _who(prefix, pid)
    return _object({**{key: json.dumps(value) for key, value in constants.items()}, **_REQUESTS[form]})


def _object(fields: Mapping[str, Any]) -> str:
    """The JSON of an object whose values are templates, or objects of such."""
    members = (
        f"{json.dumps(key)}: {_object(value) if isinstance(value, dict) else value}"
        for key, value in fields.items()
    )
    return f"{{{', '.join(members)}}}"
