"""Access log lines in JSON: templates over the atoms of `telemetry.access_format`.

A line is rendered by a compiled template, or, if the access log goes to `logging`, from a record: both give the same
line.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from asgi_master.settings.access_headers import AccessHeaders
from asgi_master.telemetry.access_format import (
    ATOM,
    FIELDS,
    MAX_FIELD_BYTES,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
)
from asgi_master.telemetry.clock import at

LOGGER = "asgi_master.access"
"""Logger of the access log's records; if logging is configured for it, the access log goes there."""
ECS_VERSION = "8.11.0"

IdentityFields = Callable[[str, int | None], dict[str, Any]]
"""Role, worker, generation and pid as JSON fields, given a prefix for their names and the pid."""

_TIME = '"%(json date)s.%(json ms)s%(json offset)s"'
_REQUESTS: Mapping[str, dict[str, Any]] = {
    "json": {
        "ts": _TIME,
        "level": '"%(json level)s"',
        **{name: f"%(json {name})s" for name in FIELDS},
        "status": "%(s)s",
        "bytes": "%(B)s",
        "duration": "%(L)s",
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
        "request_id": "%(json request_id)s",
        "host": "%(json host)s",
        "scheme": "%(json scheme)s",
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
            "request_id": "%(json request_id)s",
            "url_details": {"host": "%(json host)s", "scheme": "%(json scheme)s"},
        },
        "network": {"client": {"ip": "%(json client)s"}, "bytes_written": "%(B)s"},
        "duration": "%(json ns)s",
    },
    "ecs": {
        "@timestamp": _TIME,
        "log.level": '"%(json level)s"',
        "message": "%(json line)s",
        "ecs.version": json.dumps(ECS_VERSION),
        "event.dataset": '"asgi_master.access"',
        "event.duration": "%(json ns)s",
        "http.request.method": "%(json method)s",
        "http.request.referrer": "%(json referer)s",
        "http.response.status_code": "%(s)s",
        "http.response.body.bytes": "%(B)s",
        "http.version": "%(json version)s",
        "http.request.id": "%(json request_id)s",
        "url.path": "%(json path)s",
        "url.query": "%(json query)s",
        "url.scheme": "%(json scheme)s",
        "url.domain": "%(json host)s",
        "client.address": "%(json client)s",
        "user_agent.original": "%(json user_agent)s",
    },
}

FORMS = frozenset(_REQUESTS)
"""Names of the JSON formats."""


def template_of(form: str, identity_fields: IdentityFields, chosen: AccessHeaders) -> str:
    """The template of a JSON format for this process."""
    shown = [REQUEST_HEADERS] * bool(chosen.request) + [RESPONSE_HEADERS] * bool(chosen.response)
    return _template(form, identity_fields(_prefix(form), os.getpid()), shown)


def is_access(record: logging.LogRecord) -> bool:
    """Whether the record belongs to the access log."""
    return record.name == LOGGER and isinstance(getattr(record, "status", None), int)


def line_of(form: str, identity_fields: IdentityFields, record: logging.LogRecord) -> str:
    """The line for a record, equal to the one that `AccessLog` would write."""
    fields = record.__dict__
    chosen = [name for name in (REQUEST_HEADERS, RESPONSE_HEADERS) if name in fields]
    template = _template(form, identity_fields(_prefix(form), record.process), chosen)
    values = _values(fields, record)
    return ATOM.sub(lambda match: values[match[1]], template)


def _values(fields: Mapping[str, Any], record: logging.LogRecord) -> dict[str, str]:
    """The value of each atom."""
    path, query, protocol = fields.get("path") or "", fields.get("query") or "", fields.get("protocol") or ""
    target = f"{path}?{query}"[:MAX_FIELD_BYTES] if query else path
    duration = float(fields.get("duration") or 0)
    date, _dot, rest = at(record.created).isoformat(timespec="milliseconds").partition(".")
    in_json = {
        **{name: fields.get(name) for name in (*FIELDS, REQUEST_HEADERS, RESPONSE_HEADERS)},
        "target": target,
        "line": f"{fields.get('method') or ''} {target}".lstrip(),
        "version": protocol.removeprefix("HTTP/") or None,
    }
    return {
        **{f"json {name}": json.dumps(value, default=str) for name, value in in_json.items()},
        "json date": date,
        "json ms": rest[:3],
        "json offset": rest[3:],
        "json ns": str(int(duration * 1e9)),
        "json severity": record.levelname,
        "json level": record.levelname.lower(),
        "s": str(fields["status"]),
        "B": str(fields.get("bytes", 0)),
        "L": f"{duration:.6f}",
    }


def _prefix(form: str) -> str:
    """Prefix of the names of fields that the format does not define."""
    return "labels." if form == "ecs" else ""


def _template(form: str, identity_fields: Mapping[str, Any], chosen: list[str]) -> str:
    prefix = _prefix(form)
    constants = {f"{prefix}type": "access", **identity_fields}
    return _object(
        {
            **{key: json.dumps(value) for key, value in constants.items()},
            **_REQUESTS[form],
            **{prefix + name: f"%(json {name})s" for name in chosen},
        }
    )


def _object(fields: Mapping[str, Any]) -> str:
    """The JSON of an object whose values are templates, or objects of such."""
    members = (
        f"{json.dumps(key)}: {_object(value) if isinstance(value, dict) else value}"
        for key, value in fields.items()
    )
    return f"{{{', '.join(members)}}}"
