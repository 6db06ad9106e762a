"""The metrics page, as an independent parser of the format reads it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from asgi_master.control.metrics import FAMILIES, Process, Queue, render
from asgi_master.control.metrics_page import with_table
from asgi_master.ipc.counters import BUCKET_COUNT, DURATION_BOUNDS
from metrics_samples import SNAPSHOT, STATS


def families(snapshot):
    return {family.name: family for family in text_string_to_metric_families(render(snapshot))}


def values(snapshot, name):
    """Each sample's value, by its label values."""
    samples = [sample for family in families(snapshot).values() for sample in family.samples]
    return {tuple(s.labels.values()): s.value for s in samples if s.name == f"asgi_master_{name}"}


def test_each_family_says_what_it_is():
    for family in families(SNAPSHOT).values():
        assert family.name.startswith("asgi_master_")
        assert family.documentation.endswith(".") or ";" in family.documentation
        assert family.type in {"counter", "gauge", "histogram", "summary"}
        assert family.samples


def test_no_series_appears_twice():
    samples = [sample for family in families(SNAPSHOT).values() for sample in family.samples]
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    assert len(keys) == len(set(keys))


def test_only_counters_are_called_total():
    for line in render(SNAPSHOT).splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert name.endswith("_total") == (kind == "counter"), line


def test_the_master():
    assert values(SNAPSHOT, "build_info") == {("1.2.3", "3.13.0"): 1}
    assert values(SNAPSHOT, "start_time_seconds") == {(): 1795458113.25}
    assert values(SNAPSHOT, "uptime_seconds") == {(): 3700.5}
    assert values(SNAPSHOT, "generation") == {(): 7}
    assert values(SNAPSHOT, "workers_wanted") == {(): 2}
    assert values(SNAPSHOT, "workers") == {("booting",): 0, ("ready",): 2, ("standby",): 1}
    assert values(SNAPSHOT, "worker_restarts_total") == {("crashed",): 3, ("hung",): 0}
    assert values(SNAPSHOT, "reloads_total") == {("committed",): 6, ("failed",): 1}


def test_the_traffic():
    assert values(SNAPSHOT, "http_requests_total") == {(): 101}
    assert values(SNAPSHOT, "http_responses_total") == {
        (f"{digit}xx",): STATS.responses[digit] for digit in range(1, 6)
    }
    assert values(SNAPSHOT, "application_errors_total") == {(): 107}
    assert values(SNAPSHOT, "connections_accepted_total") == {(): 100}
    assert values(SNAPSHOT, "tls_handshake_failures_total") == {(): 109}
    assert values(SNAPSHOT, "http_stream_duration_seconds_count") == {(): 110}
    assert values(SNAPSHOT, "http_stream_duration_seconds_sum") == {(): 111.5}
    assert values(SNAPSHOT, "websocket_duration_seconds_count") == {(): 112}
    assert values(SNAPSHOT, "websocket_duration_seconds_sum") == {(): 113.5}


def test_the_histogram_is_cumulative():
    buckets = values(SNAPSHOT, "http_request_duration_seconds_bucket")
    bounds = [float(bound) for (bound,) in buckets]
    assert bounds == [*DURATION_BOUNDS, math.inf]
    assert list(buckets.values()) == [sum(range(n + 1)) for n in range(BUCKET_COUNT)]
    assert values(SNAPSHOT, "http_request_duration_seconds_count") == {(): sum(range(BUCKET_COUNT))}
    assert values(SNAPSHOT, "http_request_duration_seconds_sum") == {(): 2.5}


def test_each_worker():
    assert values(SNAPSHOT, "connections") == {("0",): 5, ("1",): 0}
    assert values(SNAPSHOT, "websockets") == {("0",): 1, ("1",): 0}
    assert values(SNAPSHOT, "http_requests_in_flight") == {("0",): 2, ("1",): 0}
    assert values(SNAPSHOT, "worker_loop_lag_seconds") == {("0",): 0.002, ("1",): 0}
    assert values(SNAPSHOT, "worker_heartbeat_age_seconds") == {("0",): 0.1}


def test_the_queues():
    assert values(SNAPSHOT, "listener_queue_length") == {
        ("http://127.0.0.1:8000",): 3,
        ('unix:/run/a "b"\\c',): 0,
    }
    assert set(values(SNAPSHOT, "listener_queue_limit").values()) == {2048, 128}


def test_the_memory():
    assert values(SNAPSHOT, "process_rss_bytes") == {
        ("master",): 40,
        ("worker", "0"): 50,
        ("worker", "1"): 51,
        ("service", "beat"): 60,
    }
    assert sum(values(SNAPSHOT, "process_pss_bytes").values()) == 78
    assert values(SNAPSHOT, "process_uss_bytes")["worker", "1"] == 11


def test_memory_of_which_only_a_part_can_be_read():
    snapshot = replace(SNAPSHOT, processes=[Process("worker", 0, rss=50, pss=None, uss=None)])
    assert values(snapshot, "process_rss_bytes") == {("worker", "0"): 50}
    assert "process_pss" not in render(snapshot)
    assert "process_uss" not in render(snapshot)


def test_what_is_not_known_is_left_out():
    bare = replace(SNAPSHOT, slots={}, queues=[], processes=[])
    assert "listener_queue" not in render(bare)
    assert "process_pss" not in render(bare)


@settings(deadline=None, max_examples=50)
@given(
    st.text(
        st.characters(
            exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0"
        )
    )
)
def test_any_label_value_comes_through(text):
    snapshot = replace(SNAPSHOT, queues=[Queue(text, 1, 2)])
    assert values(snapshot, "listener_queue_length") == {(text,): 1}


@pytest.mark.parametrize("value", [0, 7, 2**53, 0.1, 1e-9, 1.5e12])
def test_numbers_come_through(value):
    assert values(replace(SNAPSHOT, uptime=value), "uptime_seconds") == {(): value}


def test_the_reference_page_is_fresh():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert with_table(page) == page, "run: make docs"


def test_each_family_names_its_labels():
    for family in FAMILIES:
        assert {label for _, labels, _ in family.samples(SNAPSHOT) for label in labels} == set(family.labels)


def test_threads_of_wsgi_are_shown_where_there_are_some():
    assert [
        values(SNAPSHOT, f"wsgi_{name}")
        for name in ("threads", "threads_busy", "threads_stuck", "queue_length")
    ] == [{("0",): 8}, {("0",): 3}, {("0",): 1}, {("0",): 4}]
