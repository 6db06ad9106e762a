"""A fleet's measurements, on paper."""

from asgi_master.control.metrics import Process, Queue, ServiceCounts, SlotGauges, Snapshot
from asgi_master.ipc.counters import BUCKET_COUNT, Stats

STATS = Stats(
    accepted=100,
    requests=101,
    responses=[0, 102, 103, 104, 105, 106],
    application_errors=107,
    late_errors=108,
    tls_failures=109,
    short_responses=0,
    long_responses=list(range(BUCKET_COUNT)),
    response_time=2.5,
    streams=110,
    stream_time=111.5,
    websockets_ended=112,
    websocket_time=113.5,
)
SNAPSHOT = Snapshot(
    version="1.2.3",
    python="3.13.0",
    started_at=1795458113.25,
    uptime=3700.5,
    generation=7,
    workers_wanted=2,
    workers={"booting": 0, "ready": 2, "standby": 1},
    stats=STATS,
    restarts={"crashed": 3, "hung": 0},
    reloads={"committed": 6, "failed": 1},
    slots={
        0: SlotGauges(
            connections=5,
            websockets=1,
            in_flight=2,
            wsgi_threads=8,
            wsgi_busy=3,
            wsgi_stuck=1,
            wsgi_queued=4,
            loop_lag=0.002,
            heartbeat_age=0.1,
        ),
        1: SlotGauges(),
    },
    queues=[Queue("http://127.0.0.1:8000", 3, 2048), Queue('unix:/run/a "b"\\c', 0, 128)],
    processes=[
        Process("master", None, rss=40, pss=30, uss=20),
        Process("worker", 0, rss=50, pss=15, uss=10),
        Process("worker", 1, rss=51, pss=16, uss=11),
        Process("service", None, rss=60, pss=17, uss=12, service="beat"),
    ],
    services={"beat": ServiceCounts(running=1, is_completed=False, restarts={"crashed": 4})},
)
