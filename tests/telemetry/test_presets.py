"""The names and forms of fields that collectors of logs expect, in every line of every kind."""

import json
import re

import pytest

FORMS = ("json", "gcp", "datadog", "ecs")
TIMES = {"json": "ts", "gcp": "time", "datadog": "timestamp", "ecs": "@timestamp"}
LEVELS = {
    "json": ("level", "error"),
    "gcp": ("severity", "ERROR"),
    "datadog": ("status", "error"),
    "ecs": ("log.level", "error"),
}

RECORDS = r"""
    from asgi_master.telemetry.request_info import RequestInfo
    asked = RequestInfo(method="GET", target="/cart?a=b", client="[::1]:5", id="7f3c")
    configure("worker", format={form!r}, worker=3, generation=7)
    try:
        raise ValueError("bad\nworse")
    except ValueError:
        log.exception("failed", extra={{"request": asked}})
    told = {{"type": "KeyError", "message": "'x'", "text": "Traceback ...\nKeyError: 'x'"}}
    log.error("told", extra={{"detail": told["text"], "failure": told}})
    logging.getLogger("shop").error("plain\nof two lines", extra={{"detail": "more"}})
"""


@pytest.mark.parametrize("form", FORMS)
def test_what_every_record_has(run, form):
    for line in map(json.loads, run(RECORDS.format(form=form)).stderr.splitlines()):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line[TIMES[form]])
        name, level = LEVELS[form]
        assert line[name] == level
        assert line["labels.worker" if form == "ecs" else "worker"] == 3
        assert line["labels.role" if form == "ecs" else "role"] == "worker"


def told(run, form):
    return [json.loads(line) for line in run(RECORDS.format(form=form)).stderr.splitlines()]


def test_google_cloud(run):
    failed, other, plain = told(run, "gcp")
    assert failed["httpRequest"] == {
        "requestMethod": "GET",
        "requestUrl": "/cart?a=b",
        "remoteIp": "::1",
    }
    assert failed["request_id"] == "7f3c"
    assert failed["stack_trace"].startswith("Traceback (most recent call last):\n")
    assert failed["error"] == {"type": "ValueError", "message": "bad\nworse"}
    assert other["stack_trace"].endswith("KeyError: 'x'")
    assert "detail" not in other
    assert (plain["message"], plain["logger"], plain["detail"]) == ("plain\nof two lines", "shop", "more")


def test_datadog(run):
    failed, other, plain = told(run, "datadog")
    assert failed["http"] == {"method": "GET", "url": "/cart?a=b", "request_id": "7f3c"}
    assert failed["network"] == {"client": {"ip": "::1"}}
    assert failed["error"]["kind"] == "ValueError"
    assert failed["error"]["stack"].startswith("Traceback (most recent call last):\n")
    assert other["error"]["kind"] == "KeyError"
    assert plain["logger"]["name"] == "shop"


def test_ecs(run):
    failed, other, plain = told(run, "ecs")
    assert failed["ecs.version"]
    assert failed["http.request.method"] == "GET"
    assert failed["url.original"] == "/cart?a=b"
    assert failed["client.address"] == "::1"
    assert failed["error.type"] == "ValueError"
    assert failed["error.stack_trace"].startswith("Traceback (most recent call last):\n")
    assert other["error.type"] == "KeyError"
    assert plain["log.logger"] == "shop"


ACCESS = """
    from asgi_master.telemetry.access_log import AccessLog
    configure("worker", format={form!r}, worker=3, generation=7)
    access = AccessLog("combined", form={form!r})
    scope = dict(method="GET", http_version="1.1", raw_path=b'/a"\\xff', query_string=b"q=1", client=("10.0.0.9", 5),
        headers=[(b"user-agent", b'fox"'), (b"referer", b"/")])
    access.of_connection().record(object(), scope, 200, 12, 0.25)
    access.of_connection().record(object(), scope | dict(client=None, headers=[]), 503, 0, 1.5)
    access.flush()
"""


@pytest.mark.parametrize("form", FORMS)
def test_the_access_log_is_json_too(run, form):
    good, bad = (json.loads(line) for line in run(ACCESS.format(form=form)).stdout.splitlines())
    assert TIMES[form] in good
    shown = {
        "json": lambda line: (line["status"], line["bytes"], line["duration"], line["client"]),
        "gcp": lambda line: (
            line["httpRequest"]["status"],
            int(line["httpRequest"]["responseSize"]),
            float(line["httpRequest"]["latency"].rstrip("s")),
            line["httpRequest"]["remoteIp"],
        ),
        "datadog": lambda line: (
            line["http"]["status_code"],
            line["network"]["bytes_written"],
            line["duration"] / 1e9,
            line["network"]["client"]["ip"],
        ),
        "ecs": lambda line: (
            line["http.response.status_code"],
            line["http.response.body.bytes"],
            line["event.duration"] / 1e9,
            line["client.address"],
        ),
    }[form]
    assert shown(good) == (200, 12, 0.25, "10.0.0.9")
    assert shown(bad) == (503, 0, 1.5, None)
    if form != "json":
        name, level = LEVELS[form]
        assert (good[name].lower(), bad[name]) == ("info", level)
        assert good["message"].startswith('GET /a"')


STRAYS = """
    import threading, warnings
    from asgi_master.worker import unhandled_errors
    configure("worker", format={form!r}, worker=3, generation=7)
    unhandled_errors.install_thread_hook()
    warnings.warn("old")
    thread = threading.Thread(target=lambda: 1 / 0, name="bg")
    thread.start()
    thread.join()
    class Bad:
        def __del__(self): raise LookupError("in del")
    Bad()
    raise RuntimeError("the end")
"""


@pytest.mark.parametrize("form", FORMS)
def test_what_python_itself_would_say_is_json_too(run, form):
    lines = [json.loads(line) for line in run(STRAYS.format(form=form), check=False).stderr.splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[0].startswith("UserWarning: old (<string>:")
    assert messages[1] == "thread 'bg' ended: ZeroDivisionError: division by zero"
    assert messages[2].endswith("LookupError: in del")
    assert messages[3] == "this process ends: RuntimeError: the end"


@pytest.mark.parametrize(
    ("zone", "offset"), [("utc", "+00:00"), ("Asia/Kolkata", "+05:30"), ("local", "-05:00")]
)
def test_one_zone_for_all_whatever_the_application_sets(run, zone, offset):
    done = run(
        f"""
        from asgi_master.telemetry.access_log import AccessLog
        import time
        configure("worker", format="json", zone={zone!r})
        os.environ["TZ"] = "EST5"  # as Django does
        time.tzset()
        log.info("x")
        access = AccessLog("combined", form="json")
        access.of_connection().record(object(), dict(http_version="1.1", raw_path=b"/", query_string=b"", client=None, headers=[]), 200, 0, 0.0)
        access.flush()
        """,
        env={"TZ": "Europe/Berlin"},
    )
    assert json.loads(done.stderr)["ts"].endswith(offset)
    assert json.loads(done.stdout)["ts"].endswith(offset)
