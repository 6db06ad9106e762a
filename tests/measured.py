"""A fleet's measurements, on paper."""

from asgi_master.control.metrics import Process, Queue, SlotGauges, Snapshot
from asgi_master.ipc.scoreboard import BUCKET_COUNT, COUNTERS, DURATION_BOUNDS

COUNTS = {field.name.lower(): number for number, field in enumerate(COUNTERS, 100)}
SNAPSHOT = Snapshot(
    version="1.2.3",
    python="3.13.0",
    started_at=1795458113.25,
    uptime=3700.5,
    generation=7,
    workers_wanted=2,
    workers={"booting": 0, "ready": 2, "standby": 1},
    counters={**COUNTS, "response_time_ns": 2_500_000_000},
    bounds=DURATION_BOUNDS,
    buckets=list(range(BUCKET_COUNT)),
    restarts={"crashed": 3, "hung": 0},
    reloads={"committed": 6, "failed": 1},
    slots={
        0: SlotGauges(connections=5, websockets=1, in_flight=2, loop_lag=0.002, heartbeat_age=0.1),
        1: SlotGauges(),
    },
    queues=[Queue("http://127.0.0.1:8000", 3, 2048), Queue('unix:/run/a "b"\\c', 0, 128)],
    processes=[
        Process("master", None, rss=40, pss=30, uss=20),
        Process("worker", 0, rss=50, pss=15, uss=10),
        Process("worker", 1, rss=51, pss=16, uss=11),
    ],
)
