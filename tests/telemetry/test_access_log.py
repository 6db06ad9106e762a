import json
import os
import re
from select import PIPE_BUF

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_master.telemetry.access_format import check_format
from asgi_master.telemetry.access_log import AccessLog, _pieces

QUOTED = r'"((?:[^"\\]|\\.)*)"'


def scope(**changes):
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "raw_path": b"/items/4%202",
        "path": "/items/4 2",
        "query_string": b"q=1",
        "client": ("127.0.0.1", 53412),
        "headers": [
            (b"host", b"localhost"),
            (b"user-agent", b"curl/8.5"),
            (b"referer", b"http://a/b"),
            (b"authorization", b"Basic am9lOnNlY3JldA=="),  # joe:secret
        ],
        **changes,
    }


def taken(log):
    """The lines that wait for the flush; they then do no more."""
    lines = log._lines(log.pending)
    log.pending.clear()
    return lines


@pytest.fixture
def show(capfdbinary):
    """The line for a request."""

    def show(template, *, json=False, form="", status=200, size=1234, duration=1.0123456, **changes):
        log = AccessLog(template, form=form or ("json" if json else "text"))
        log.of_connection().record(object(), scope(**changes), status, size, duration)
        log.flush()
        written = capfdbinary.readouterr()
        assert written.err == b""
        assert written.out.endswith(b"\n")
        return written.out[:-1].decode()

    return show


def logs(exclude, **changes):
    log = AccessLog("%(U)s", exclude=exclude)
    log.of_connection().record(object(), scope(**changes), 200, 1, 0.1)
    return bool(taken(log))


@pytest.mark.parametrize(
    ("pattern", "path", "is_logged"),
    [
        ("/healthz", b"/healthz", False),
        ("/healthz", b"/healthz/", True),
        ("/healthz", b"/Healthz", True),
        ("/healthz", b"/a/healthz", True),
        ("/health%7A", b"/health%7A", False),
        ("/healthz", b"/health%7A", True),
        ("/static/*", b"/static/css/a.css", False),
        ("/static/*", b"/static", True),
        ("*.css", b"/static/css/a.css", False),
        ("/v?/ping", b"/v2/ping", False),
        ("/[ab]", b"/b", False),
        ("*", b"/", False),
        ("/a.c", b"/abc", True),
        ("/(", b"/(", False),
        ("/[", b"/[", False),
    ],
)
def test_a_path_can_be_left_out(pattern, path, is_logged):
    assert logs([pattern], raw_path=path) is is_logged
    assert logs(["/other", pattern, "user-agent:nobody"], raw_path=path) is is_logged


def test_a_path_is_left_out_with_or_without_where_it_is_mounted():
    mounted = {"raw_path": b"/api/healthz", "root_path": "/api"}
    assert not logs(["/healthz"], **mounted)
    assert not logs(["/api/healthz"], **mounted)
    assert logs(["/ealthz"], **mounted)


@pytest.mark.parametrize(
    ("pattern", "agent", "is_logged"),
    [
        ("user-agent:kube-probe/*", b"kube-probe/1.30", False),
        ("user-agent:Kube-Probe/*", b"kube-probe/1.30", False),
        ("User-Agent:kube-probe/*", b"kube-probe/1.30", False),
        ("user-agent: kube-probe/*", b"kube-probe/1.30", False),
        ("user-agent:kube-probe", b"kube-probe/1.30", True),
        ("user-agent:*bot*", b"Mozilla/5.0 (compatible; Googlebot/2.1)", False),
        ("user-agent:", None, True),
        ("user-agent:*", None, True),
    ],
)
def test_a_client_can_be_left_out(pattern, agent, is_logged):
    if pattern == "user-agent:":
        with pytest.raises(ValueError, match="names no client"):
            AccessLog("common", exclude=[pattern])
        return
    headers = [(b"host", b"a"), *([(b"user-agent", agent)] if agent is not None else [])]
    assert logs([pattern], headers=headers) is is_logged


@given(
    paths=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=8), min_size=1)
)
def test_what_no_pattern_names_is_logged(paths):
    literal = [f"/x{path}".translate({ord(char): "-" for char in "*?[]"}) for path in paths]
    assert all(not logs(literal, raw_path=path.encode()) for path in literal)
    assert logs(literal, raw_path=b"/y")


def test_a_connection_tells_what_is_not_left_out():
    log = AccessLog("%(U)s", exclude=["/healthz"])
    connection = log.of_connection()
    probe, other = object(), object()
    for request, path in ((probe, b"/healthz"), (other, b"/"), (probe, b"/healthz"), (probe, b"/healthz")):
        connection.record(request, scope(raw_path=path), 200, 1, 0.1)
    assert taken(log) == ["/\n"]


def test_a_cached_description_is_written_again(capfdbinary):
    log = AccessLog('%(h)s "%(r)s" %(s)s %(B)s %(a)s')
    connection = log.of_connection()
    same, other = object(), object()
    for request, status, size in ((same, 200, 1), (same, 304, 0), (other, 201, 2)):
        connection.record(request, scope(method="POST") if request is other else scope(), status, size, 0.1)
    log.flush()
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        '127.0.0.1 "GET /items/4%202?q=1 HTTP/1.1" 200 1 curl/8.5',
        '127.0.0.1 "GET /items/4%202?q=1 HTTP/1.1" 304 0 curl/8.5',
        '127.0.0.1 "POST /items/4%202?q=1 HTTP/1.1" 201 2 curl/8.5',
    ]


TIME = r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


def test_common(show):
    line = show("common")
    assert re.fullmatch(rf'127\.0\.0\.1 - joe {TIME} "GET /items/4%202\?q=1 HTTP/1\.1" 200 1234', line)


def test_combined(show):
    assert show("combined").removeprefix(show("common")[:20]).endswith(' 200 1234 "http://a/b" "curl/8.5"')


def test_combined_of_a_client_that_says_nothing(show):
    line = show("combined", size=0, headers=[], query_string=b"", client=None)
    assert re.fullmatch(rf'- - - {TIME} "GET /items/4%202 HTTP/1\.1" 200 - "-" "-"', line)


@pytest.mark.parametrize(
    ("atom", "shown"),
    [
        ("%(h)s", "127.0.0.1"),
        ("%(l)s", "-"),
        ("%(u)s", "joe"),
        ("%(r)s", "GET /items/4%202?q=1 HTTP/1.1"),
        ("%(m)s", "GET"),
        ("%(U)s", "/items/4%202"),
        ("%(q)s", "q=1"),
        ("%(H)s", "HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(b)s", "1234"),
        ("%(B)s", "1234"),
        ("%(f)s", "http://a/b"),
        ("%(a)s", "curl/8.5"),
        ("%(T)s", "1"),
        ("%(M)s", "1012"),
        ("%(D)s", "1012345"),
        ("%(L)s", "1.012346"),
        ("%({User-Agent}i)s", "curl/8.5"),
        ("%({x-nothing}i)s", "-"),
        ("%({ACCESS_TEST}e)s", 'a \\"b\\"'),
        ("%({NO_SUCH_VARIABLE}e)s", "-"),
        ("100%%(r)s", "100%(r)s"),
        ("100%% {x} 'y' \"z\" \\ é", "100% {x} 'y' \"z\" \\ é"),
    ],
)
def test_atoms(show, monkeypatch, atom, shown):
    monkeypatch.setenv("ACCESS_TEST", 'a "b"')
    assert show(f"<{atom}>") == f"<{shown}>"


def test_the_process_is_an_atom(show):
    assert show("%(p)s") == f"<{os.getpid()}>"


def test_no_body_is_a_dash_or_a_zero(show):
    assert show("%(b)s %(B)s", size=0) == "- 0"


def test_a_websocket_handshake_is_a_get(show):
    websocket = scope(type="websocket")
    del websocket["method"]
    log = AccessLog("%(r)s")
    log.of_connection().record(object(), websocket, 101, 0, 0.0)
    assert taken(log) == ["GET /items/4%202?q=1 HTTP/1.1\n"]


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        (b"basic am9lOg==", "joe"),
        (b"Bearer am9lOg==", "-"),
        (b"Basic", "-"),
        (b"Basic !!!", "-"),
        (b"Basic am9l", "-"),
        (b"Basic OnNlY3JldA==", "-"),
        (b"Basic YSAiYgo6", '"a\\x20\\"b\\n"'.strip('"')),
    ],
)
def test_the_user_is_that_of_basic_authorization(show, authorization, user):
    assert show("%(u)s", headers=[(b"authorization", authorization)]) == user


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("%(x)s", "unknown access-log field %(x)s"),
        ("%(json path)", "written %(h)s"),
        ("%h %l", "written %(h)s"),
        ("50%", "written %(h)s"),
        ("%()s", "unknown access-log field %()s"),
        ("%({a'b}i)s", "unknown access-log field"),
    ],
)
def test_a_wrong_format_is_refused_at_once(template, complaint):
    for refuse in (AccessLog, check_format):
        with pytest.raises(ValueError, match=re.escape(complaint)):
            refuse(template)


@pytest.mark.parametrize("template", ["combined", "common", "%(h)s %({x}i)s %%(r)s", ""])
def test_a_right_format_is_not(template):
    check_format(template)


def test_json(show):
    shown = json.loads(show("combined", json=True))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", shown.pop("ts"))
    assert isinstance(shown.pop("role"), str)
    assert shown == {
        "type": "access",
        "pid": os.getpid(),
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/items/4%202",
        "query": "q=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "duration": 1.012346,
        "referer": "http://a/b",
        "user_agent": "curl/8.5",
        "level": "info",
        "host": "localhost",
        "scheme": None,
        "request_id": None,
    }


def test_json_without_client_and_headers(show):
    shown = json.loads(show("combined", json=True, client=None, headers=[]))
    assert (shown["client"], shown["referer"], shown["user_agent"]) == (None, None, None)


def test_time_is_local(run):
    done = run(
        """
        from asgi_master.telemetry.access_log import AccessLog
        scope = {"http_version": "1.1", "raw_path": b"/", "query_string": b"", "client": None, "headers": []}
        for log in (AccessLog("%(t)s"), AccessLog("common", form="json")):
            log.of_connection().record(object(), scope, 200, 0, 0.0)
            log.flush()
        """,
        env={"TZ": "Asia/Kolkata"},
    )
    bracketed, in_json = done.stdout.splitlines()
    assert bracketed.endswith(" +0530]")
    assert json.loads(in_json)["ts"].endswith("+05:30")


@pytest.mark.parametrize(
    ("template", "is_timed"),
    [("combined", False), ("%(s)s %(U)s", False), ("%(D)s", True), ("%(L)s %(h)s", True)],
)
def test_the_clock_is_asked_only_for_who_tells(template, is_timed):
    assert AccessLog(template).is_timed is is_timed
    assert AccessLog(template, form="json").is_timed


def test_time_follows_the_clock_forwards_and_back(monkeypatch):
    log = AccessLog("%(t)s")
    for now in (1e9, 1e9 + 0.9, 1e9 + 1, 1e9 - 5):
        monkeypatch.setattr("asgi_master.telemetry.access_log.time", lambda now=now: now)
        log.of_connection().record(object(), scope(), 200, 0, 0.0)
    seconds = [line.split(":")[3][:2] for line in taken(log)]
    assert seconds == ["40", "40", "41", "35"]


hostile = st.binary(max_size=40) | st.sampled_from(
    [b'" 200 0 "', b"\\", b"\r\n", b"\x1b[2J", b"{}%(h)s", "é\u2028".encode()]
)


@given(path=hostile, query=hostile, agent=hostile, host=st.text(max_size=10))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_peer_sends_stays_in_its_place(path, query, agent, host):
    request = scope(raw_path=path, query_string=query, headers=[(b"user-agent", agent)], client=(host, 1))
    text, in_json = AccessLog('"%(h)s" "%(r)s" %(s)s "%(a)s"'), AccessLog("common", form="json")
    for log in (text, in_json):
        log.of_connection().record(object(), request, 200, 1, 0.5)
    (line,) = taken(text)
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert re.fullmatch(rf"{QUOTED} {QUOTED} 200 {QUOTED}\n", line)
    shown = json.loads(taken(in_json)[0])
    assert shown["path"] == path.decode("latin-1")
    assert shown["user_agent"] == agent.decode("latin-1")
    assert shown["client"] == host


def test_endless_fields_are_cut(show):
    assert len(show("%(a)s", headers=[(b"user-agent", b"a" * 60_000)])) == 1024


def test_a_scope_ruined_by_the_application_is_reported_and_harmless(run):
    done = run("""
        from asgi_master.telemetry.access_log import AccessLog
        configure()
        access = AccessLog("combined")
        access.of_connection().record(object(), {}, 200, 0, 0.0)
        access.flush()
    """)
    assert "a request could not be written to the access log" in done.stderr
    assert done.stdout == ""


def test_lines_wait_for_the_flush_or_until_there_are_many(capfd):
    log = AccessLog("%(U)s")
    log.of_connection().record(object(), scope(), 200, 0, 0.0)
    assert capfd.readouterr().out == ""
    log.flush()
    assert capfd.readouterr().out == "/items/4%202\n"
    log.flush()
    assert capfd.readouterr().out == ""
    for _ in range(6000):
        log.of_connection().record(object(), scope(), 200, 0, 0.0)
    assert len(capfd.readouterr().out) > 60_000
    taken(log)


def test_the_rest_is_written_at_exit_once_and_not_by_the_applications_forks(run):
    done = run("""
        from asgi_master.telemetry.access_log import AccessLog
        access = AccessLog("%(U)s")
        access.of_connection().record(object(), {"raw_path": b"/last", "headers": []}, 200, 0, 0.0)
        if os.fork() == 0:
            sys.exit()
        os.wait()
    """)
    assert done.stdout == "/last\n"


def test_a_stuck_reader_loses_lines_blocks_no_process_and_is_reported(run):
    done = run("""
        from asgi_master.telemetry.access_log import AccessLog
        configure()
        r, w = os.pipe()
        out = os.dup(1)
        os.dup2(w, 1); os.close(w)
        access = AccessLog("%(U)s")
        for number in range(39 * 512):  # flushes of one size: a small last one might fit where others did not
            access.of_connection().record(object(), {"raw_path": b"/%d" % number, "headers": []}, 200, 0, 0.0)
        access.flush()
        read = os.read(r, 1 << 20)
        access.of_connection().record(object(), {"raw_path": b"/again", "headers": []}, 200, 0, 0.0)
        access.flush()
        read += os.read(r, 1 << 20)
        os.dup2(out, 1)
        sys.stdout.buffer.write(read)
    """)
    *kept, last = done.stdout.splitlines()
    assert last == "/again"
    assert kept == [f"/{number}" for number in range(len(kept))]
    lost = 19968 - len(kept)
    assert f"{lost} line(s) of the access log were lost: no process read standard output" in done.stderr


def test_lines_of_several_workers_do_not_mix(run):
    done = run("""
        from asgi_master.telemetry.access_log import AccessLog
        for number in range(4):
            if os.fork() == 0:
                access = AccessLog("%(U)s")
                for _ in range(2000):
                    access.of_connection().record(object(), {"raw_path": str(number).encode() * 300, "headers": []}, 200, 0, 0.0)
                access.flush()
                os._exit(0)
        for number in range(4):
            os.wait()
    """)
    lines = done.stdout.splitlines()
    assert lines
    assert all(re.fullmatch(r"(\d)\1{299}", line) for line in lines)


@given(st.lists(st.integers(0, 3 * PIPE_BUF), max_size=12))
@settings(max_examples=100, deadline=None)
def test_pieces_are_whole_lines_that_a_pipe_takes_at_once(lengths):
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    pieces = list(_pieces(data))
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert all(len(piece) <= PIPE_BUF or piece.count(b"\n") == 1 for piece in pieces)
