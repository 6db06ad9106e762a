"""An application with services and hooks. Each writes what happens to it to a journal, and finds out if it runs twice."""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import holding

Message = dict[str, Any]


def note(event: str) -> None:
    who = os.environ.get("ASGI_MASTER_SERVICE_NAME") or f"worker-{os.environ.get('ASGI_MASTER_WORKER')}"
    with Path("journal").open("a") as journal:
        journal.write(f"{who} {os.getpid()} {os.environ['ASGI_MASTER_GENERATION']} {event}\n")


@contextmanager
def alone() -> Iterator[None]:
    """Note the begin and the end, and a process of the same service that has not ended."""
    # It is held until this process ends.
    lock = os.open(f"{os.environ['ASGI_MASTER_SERVICE_NAME']}.lock", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("twice")
    note("begins")
    try:
        yield
    finally:
        note("ends")


def fail_as_asked() -> None:
    if Path("fault").exists():
        raise LookupError("as asked")


async def consume() -> None:
    """Work on what requests put into the queue; in the end, on what is left."""
    with alone():
        try:
            while True:
                consume_all()
                await asyncio.sleep(0.01)
        finally:
            consume_all()


def enqueue(job: str) -> None:
    Path("queue", job).touch()


def consume_all() -> None:
    for job in Path("queue").iterdir():
        note(f"did {job.name}")
        job.unlink()


def beat() -> None:
    fail_as_asked()
    with alone():
        while True:
            fail_as_asked()
            time.sleep(0.01)


def warm() -> None:
    """Return at once."""
    note("warmed")


def worker_starts(worker: dict[str, int]) -> None:
    note(f"starts {worker['worker']}")


def worker_exits() -> None:
    note("exits")


async def app(scope: Message, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    job = scope["path"].strip("/")
    if scope["query_string"] == b"held":
        await holding.hold(job)
    enqueue(job)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        note(message["type"])
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
