"""The benchmarks run, with tiny sizes and this interpreter's packages: what they measure is not judged here."""

import json
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_guard_measures_requests():
    """One round proves that requests are answered; how dear they are is judged by `make guard`."""
    source = """
import asyncio, json, guard, uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print(json.dumps(runner.run(guard.ratios(1))))
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=BENCHMARKS,
        env={"PYTHONPATH": f"{BENCHMARKS}:{SOURCE}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"tiny", "browser", "POST of 1 KB"}
    assert all(ratio > 0 for ratio in found.values())


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
