"""The benchmarks run, with tiny sizes and this interpreter's packages: what they measure is not judged here."""

import collections
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h11
import pytest

import asgi_master

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SOURCE = Path(asgi_master.__file__).parent.parent


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def _cells(output: str, row: str) -> str:
    found = re.search(rf"^\| {re.escape(row)} +\| (.*?) *\|$", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


def test_memory_boot_and_recovery_are_measured():
    output = _run(
        "memory.py",
        *("--here", "--no-write", "--servers", "asgi-master", "--application", "fleet_app:app"),
        *("--workers", "2", "--requests", "50", "--rounds", "1"),
    )
    assert float(_cells(output, "memory after boot").removesuffix(" MiB")) > 10
    assert _cells(output, "memory after 50 requests a worker").endswith("MiB")
    assert float(_cells(output, "first answer").removesuffix(" s")) > 0
    assert float(_cells(output, "all workers started").removesuffix(" s")) > 0
    assert float(_cells(output, "killed worker replaced").removesuffix(" ms")) > 0


def test_starts_and_commands_are_timed():
    output = _run("start.py", "--here", "--no-write", "--servers", "asgi-master", "--rounds", "1")
    assert float(_cells(output, "plain ASGI")) > 0
    assert float(_cells(output, "FastAPI")) > 0
    for command in ("asgi-master --check-config app:app", "asgi-masterctl status --json --pid PID"):
        assert float(_cells(output, command)) > 0


def test_crowds_stay_through_a_reload_and_a_stop():
    output = _run(
        "scale.py",
        *("--here", "--no-write", "--servers", "asgi-master", "--connections", "50"),
        *("--seconds", "1", "--settle", "0.1", "--drain-timeout", "3"),
    )
    assert _cells(output, "idle: dropped") == "0"
    assert _cells(output, "events: dropped") == "0"
    assert re.search(r"- reload under the idle connections: reloaded.*; 50 answered again, 0 lost", output), (
        output
    )
    assert re.search(r"- stop under the idle connections: [\d.]+ s", output), output
    assert re.search(
        r"- reload under the streams: reloaded.*; 50 streams were ended, 0 broken off", output
    ), output
    assert re.search(r"- stop under the streams: [\d.]+ s", output), output


def test_latency_beside_blocking_requests_and_balance_are_measured():
    output = _run(
        "blocking.py",
        *(
            "--here",
            "--no-write",
            "--servers",
            "asgi-master",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--rate",
            "100",
        ),
    )
    for row in (
        "kept connection, p99",
        "new connection, p99",
        "busiest worker, one-shot",
        "busiest worker, mix",
    ):
        assert float(_cells(output, row)) > 0


def _python(source: str) -> str:
    """The output of a program that imports the modules of the benchmarks."""
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=BENCHMARKS,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{BENCHMARKS}:{SOURCE}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guard_measures_requests():
    """One round proves that requests are answered; how dear they are is judged by `make guard`."""
    source = """
import asyncio, json, guard, uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print(json.dumps(runner.run(guard.ratios(1))))
"""
    found = json.loads(_python(source))
    assert found.keys() == {"tiny", "browser", "POST of 1 KB"}
    assert all(ratio > 0 for ratio in found.values())


@pytest.mark.parametrize(
    ("listener", "kinds"),
    [
        ("tcp", ["mix", "echo-64", "echo-16k"]),
        ("unix", ["tiny"]),
        ("tls", ["full-handshakes", "resumed-handshakes"]),
    ],
)
def test_the_clients_are_answered(listener, kinds):
    """The clients check every answer, and whether a session was resumed."""
    source = f"""
import json, os, pathlib, tempfile, clients, servers
from environment import Environment
with tempfile.TemporaryDirectory() as scratch:
    running = servers.Running(
        servers.ASGI_MASTER, Environment.current(), sorted(os.sched_getaffinity(0)),
        listener=servers.Listener("{listener}"), scratch=pathlib.Path(scratch),
    )
    try:
        running.wait_ready()
        print(json.dumps([clients.KINDS[kind](running.address, 3, 1.0) for kind in {kinds}]))
    finally:
        running.stop()
"""
    assert all(answers > 0 for answers in json.loads(_python(source)))


@pytest.mark.skipif(shutil.which("wrk", path="/usr/bin:/bin") is None, reason="wrk is not installed")
def test_a_workload_of_wrk_is_measured():
    output = _run(
        "run.py",
        *("--here", "--no-write", "--servers", "asgi-master", "--only", "varied"),
        *("--rounds", "1", "--seconds", "1"),
    )
    assert float(_cells(output, "browser-size, no two alike").lstrip("~")) > 0


@pytest.fixture
def varied(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import varied

    yield varied
    for name in ("varied", "app"):
        sys.modules.pop(name, None)


def _head(data: bytes) -> h11.Request:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    request = parser.next_event()
    assert isinstance(request, h11.Request)
    return request


def test_of_varied_requests_no_two_are_alike(varied):
    count = 500
    heads = [_head(request) for request in varied.requests(count)]
    fields = [dict(head.headers) for head in heads]
    paths, queries = zip(*(head.target.split(b"?") for head in heads), strict=True)
    assert len(set(paths)) == len(set(queries)) == count
    for name in (b"cookie", b"x-request-id"):
        assert len({each[name] for each in fields}) == count
    assert len({each[b"user-agent"] for each in fields}) > count * 0.99
    assert all(12 <= len(each) <= 16 for each in fields)


def test_varied_requests_are_the_same_on_each_call(varied):
    assert list(varied.requests(20)) == list(varied.requests(20))
    assert list(varied.mix(40)) == list(varied.mix(40))


def test_the_mix_has_its_shares(varied):
    found = list(varied.mix(400))
    messages = [exchange for exchange in found if exchange.is_message]
    heads = [_head(exchange.sent) for exchange in found if not exchange.is_message]
    kinds = collections.Counter((head.method, head.target.startswith(b"/stream")) for head in heads)
    assert kinds == {(b"GET", False): 280, (b"POST", False): 60, (b"GET", True): 40}
    assert len(messages) == 20
    assert len({head.target for head in heads}) == len(heads)


def test_posts_of_the_mix_carry_1_to_20_kilobytes(varied):
    posts = [exchange for exchange in varied.mix(400) if exchange.sent.startswith(b"POST")]
    sizes = []
    for post in posts:
        _, _, body = post.sent.partition(b"\r\n\r\n")
        assert int(dict(_head(post.sent).headers)[b"content-length"]) == len(body)
        assert post.ends.endswith(str(len(body)).encode())
        sizes.append(len(body))
    assert 1024 <= min(sizes) < 4096
    assert 16 * 1024 < max(sizes) <= 20 * 1024


@pytest.mark.parametrize("size", [1, 125, 126, 16 * 1024])
def test_a_websocket_message_is_masked_and_its_echo_is_not(varied, size):
    payload, mask = bytes(range(256)) * 64, b"\x01\x02\x03\x04"
    exchange = varied.message(payload[:size], mask)
    assert exchange.ends == payload[:size]
    head = len(exchange.begins)
    assert exchange.sent[0] == 0x82
    assert exchange.sent[1] == exchange.begins[1] | 0x80
    assert exchange.sent[2:head] == exchange.begins[2:]
    assert exchange.sent[head : head + 4] == mask
    assert exchange.sent[head + 4] == payload[0] ^ mask[0]
    assert len(exchange.sent) == head + 4 + size


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    yield page
    for name in ("page", "environment"):
        sys.modules.pop(name, None)


def test_a_section_leaves_the_others_alone(page, tmp_path):
    path = tmp_path / "benchmarks.md"
    path.write_text("# An old page\n\nof another form\n")
    page.write_section("scale", "## Scale\n\nfirst", path)
    page.write_section("other", "## Other", path)
    page.write_section("requests", "## Requests", path)
    page.write_section("scale", "## Scale\n\nsecond", path)
    text = path.read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Benchmarks",
        "## Requests",
        "## Scale",
        "## Other",
    ]
    assert "second" in text
    assert "first" not in text
    assert "old page" not in text


def test_the_page_is_of_this_form(page):
    text = page.PAGE.read_text()
    sections = re.findall(r"<!-- begin: (\S+) -->", text)
    assert sections
    assert sections == re.findall(r"<!-- end: (\S+) -->", text)
