"""The forms of an access line that are JSON: templates over the atoms of `telemetry.access_format`.

A line is made of a template that is compiled, or, where the access log has records, of a record: they are the same.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from asgi_master.settings.access_headers import AccessHeaders
from asgi_master.telemetry.access_format import ATOM, FIELDS, LONGEST_FIELD, REQUEST_HEADERS, RESPONSE_HEADERS
from asgi_master.telemetry.clock import at

LOGGER = "asgi_master.access"
"""Who configures it has the access log as its records."""
ECS_VERSION = "8.11.0"

Who = Callable[[str, int | None], dict[str, Any]]
"""Role, worker, generation and this pid, with a prefix before their names."""

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
"""Their names."""


def template_of(form: str, who: Who, chosen: AccessHeaders) -> str:
    """The line of a form in this process, as a template."""
    shown = [REQUEST_HEADERS] * bool(chosen.request) + [RESPONSE_HEADERS] * bool(chosen.response)
    return _template(form, who(_prefix(form), os.getpid()), shown)


def is_access(record: logging.LogRecord) -> bool:
    """Whether it is one of the access log."""
    return record.name == LOGGER and isinstance(getattr(record, "status", None), int)


def line_of(form: str, who: Who, record: logging.LogRecord) -> str:
    """What the access log would write itself."""
    said = record.__dict__
    chosen = [name for name in (REQUEST_HEADERS, RESPONSE_HEADERS) if name in said]
    template = _template(form, who(_prefix(form), record.process), chosen)
    values = _values(said, record)
    return ATOM.sub(lambda match: values[match[1]], template)


def _values(said: Mapping[str, Any], record: logging.LogRecord) -> dict[str, str]:
    """What each atom of the templates stands for."""
    path, query, protocol = said.get("path") or "", said.get("query") or "", said.get("protocol") or ""
    target = f"{path}?{query}"[:LONGEST_FIELD] if query else path
    duration = float(said.get("duration") or 0)
    date, _dot, rest = at(record.created).isoformat(timespec="milliseconds").partition(".")
    in_json = {
        **{name: said.get(name) for name in (*FIELDS, REQUEST_HEADERS, RESPONSE_HEADERS)},
        "target": target,
        "line": f"{said.get('method') or ''} {target}".lstrip(),
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
        "s": str(said["status"]),
        "B": str(said.get("bytes", 0)),
        "L": f"{duration:.6f}",
    }


def _prefix(form: str) -> str:
    """Before the names of fields that are ours alone."""
    return "labels." if form == "ecs" else ""


def _template(form: str, who: Mapping[str, Any], chosen: list[str]) -> str:
    prefix = _prefix(form)
    constants = {f"{prefix}type": "access", **who}
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
