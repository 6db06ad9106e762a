"""The access log as records of a logger, and the headers that both forms of it show."""

import json
import logging

import pytest

from asgi_master.settings.access_headers import AccessHeaders, parse_access_header, sort_access_headers
from asgi_master.telemetry import access_logger
from asgi_master.telemetry.access_format import FIELDS
from asgi_master.telemetry.access_log import AccessLog
from asgi_master.telemetry.access_logger import LOGGER, AccessLogger
from asgi_master.telemetry.presets import FORMATTERS

CHOSEN = AccessHeaders(("x-tenant", "x-none"), ("x-cache", "x-none"))
HEAD = ((b"X-Cache", b"HIT"), (b"x-other", b"1"), (b"x-cache", b"\tB"))


def scope(**changes):
    return {
        "type": "http",
        "scheme": "https",
        "http_version": "1.1",
        "method": "GET",
        "raw_path": b"/items/4%202",
        "query_string": b"q=\xe9",
        "client": ("127.0.0.1", 53412),
        "headers": [
            (b"host", b"shop.test"),
            (b"user-agent", b'cu"rl'),
            (b"x-request-id", b"r" * 300),
            (b"x-tenant", b"acme\x1b"),
            (b"cookie", b"secret=1"),
        ],
        **changes,
    }


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """What reaches the logger; it is forgotten at the end, as it was before."""
    logger = logging.getLogger(LOGGER)
    handler = Kept()
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    yield handler
    logger.handlers, logger.filters = [], []
    del logging.Logger.manager.loggerDict[LOGGER]


def test_a_record_has_every_field(kept):
    AccessLogger("common", chosen=CHOSEN).record(object(), scope(), 200, 12, 0.25, HEAD)
    (record,) = kept.records
    told = {name: getattr(record, name) for name in (*FIELDS, "status", "bytes", "duration")}
    assert told == {
        "client": "127.0.0.1",
        "scheme": "https",
        "host": "shop.test",
        "method": "GET",
        "path": "/items/4%202",
        "query": "q=\xe9",
        "protocol": "HTTP/1.1",
        "referer": None,
        "user_agent": 'cu"rl',
        "request_id": "r" * 200,
        "status": 200,
        "bytes": 12,
        "duration": 0.25,
    }
    assert record.request_headers == {"x-tenant": "acme\x1b", "x-none": None}
    assert record.response_headers == {"x-cache": "HIT, B", "x-none": None}
    assert record.getMessage().startswith("127.0.0.1 - - [")
    assert record.getMessage().endswith('] "GET /items/4%202?q=\\xe9 HTTP/1.1" 200 12')


@pytest.mark.parametrize("form", FORMATTERS)
@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("chosen", [CHOSEN, AccessHeaders()])
def test_our_formatters_make_of_a_record_what_the_access_log_writes(kept, monkeypatch, form, status, chosen):
    for module in ("access_log", "access_logger"):
        monkeypatch.setattr(f"asgi_master.telemetry.{module}.time", lambda: 1_700_000_000.25)
    # Of which records are made, by the version of Python.
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_250_000_000)
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.25)
    log = AccessLog("combined", form=form, chosen=chosen)
    for request in (scope(), scope(client=None, headers=[]), scope(query_string=b"", raw_path=b"/" * 2000)):
        log.of_connection().record(object(), request, status, 12, 0.25, HEAD)
        AccessLogger("combined", chosen=chosen).record(object(), request, status, 12, 0.25, HEAD)
    log.refused(("::1", 5), b"\x16\x03 strange", 400, 7)
    AccessLogger("combined", chosen=chosen).refused(("::1", 5), b"\x16\x03 strange", 400, 7)
    lines = log._lines(log.pending)
    log.pending.clear()
    assert [json.loads(FORMATTERS[form]().format(record)) for record in kept.records] == [
        json.loads(line) for line in lines
    ]


@pytest.mark.parametrize(("status", "level"), [(200, "INFO"), (404, "INFO"), (499, "INFO"), (500, "ERROR")])
def test_the_level_is_that_of_an_error_from_500_on(kept, status, level):
    AccessLogger("combined").record(object(), scope(), status, 0, 0.0)
    assert [record.levelname for record in kept.records] == [level]


def test_levels_filters_and_exclusions_are_obeyed(kept):
    logger = logging.getLogger(LOGGER)
    records = AccessLogger("%(U)s", exclude=["/quiet"])
    records.of_connection().record(object(), scope(raw_path=b"/quiet"), 200, 0, 0.0)
    logger.addFilter(lambda record: record.path != "/healthz")
    records.of_connection().record(object(), scope(raw_path=b"/healthz"), 200, 0, 0.0)
    logger.setLevel(logging.ERROR)
    records.of_connection().record(object(), scope(), 200, 0, 0.0)
    records.of_connection().record(object(), scope(raw_path=b"/told"), 500, 0, 0.0)
    assert [record.getMessage() for record in kept.records] == ["/told"]


def test_a_filter_that_raises_costs_its_record_and_no_request(kept, caplog):
    logging.getLogger(LOGGER).addFilter(lambda record: 1 // 0)
    AccessLogger("combined").record(object(), scope(), 200, 0, 0.0)
    AccessLogger("combined").refused(None, b"", 400, 0)
    assert kept.records == []
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


def test_a_record_factory_may_set_the_same_names(kept):
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.request_id, record.path = "of the application", "of the application"
        return record

    logging.setLogRecordFactory(factory)
    try:
        AccessLogger("combined").record(object(), scope(headers=[]), 200, 0, 0.0)
    finally:
        logging.setLogRecordFactory(before)
    (record,) = kept.records
    assert (record.request_id, record.path) == ("of the application", "/items/4%202")


def test_a_spoilt_scope_is_logged_and_raises_nothing(kept, caplog):
    AccessLogger("combined").record(object(), scope(raw_path=None), 200, 0, 0.0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_only_who_asks_for_the_logger_configures_it():
    assert not access_logger.is_configured()
    logging.getLogger(f"{LOGGER}.below")
    try:
        assert not access_logger.is_configured()
        logging.getLogger(LOGGER)
        assert access_logger.is_configured()
    finally:
        del logging.Logger.manager.loggerDict[LOGGER]
        del logging.Logger.manager.loggerDict[f"{LOGGER}.below"]


def test_response_headers_are_in_text_lines():
    log = AccessLog("%({X-Cache}o)s|%({x-none}o)s|%({x-bad}o)s")
    log.of_connection().record(object(), scope(), 200, 0, 0.0, (*HEAD, (b"x-bad", b'a"\x80')))
    assert log._lines(log.pending) == ['HIT, B|-|a\\"\\x80\n']
    log.pending.clear()


def test_a_long_header_is_cut():
    log = AccessLog("combined", form="json", chosen=CHOSEN)
    log.of_connection().record(
        object(), scope(headers=[(b"x-tenant", b"t" * 5000)]), 200, 0, 0.0, ((b"x-cache", b"c" * 5000),)
    )
    (line,) = log._lines(log.pending)
    log.pending.clear()
    told = json.loads(line)
    assert told["request_headers"]["x-tenant"] == "t" * 1024
    assert told["response_headers"]["x-cache"] == "c" * 1024


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Cookie", "carries credentials"),
        ("authorization", "carries credentials"),
        ("response:Set-Cookie", "carries credentials"),
        ("response:", "names no header"),
        ("a b", "names no header"),
        ("", "names no header"),
    ],
)
def test_a_header_that_cannot_be_shown_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_access_header(text)


def test_headers_are_sorted_out():
    names = ["X-Tenant", "Response: X-Cache", "x-tenant", "response:etag"]
    assert sort_access_headers(names) == AccessHeaders(("x-tenant",), ("x-cache", "etag"))
