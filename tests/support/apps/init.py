"""For a first process of a container: leaves orphans behind, tells what it sees, and keeps memory."""

import json
import os
import time
from pathlib import Path

kept = []


def leave_orphans(count):
    """Processes whose parent is gone at once: their end is for process 1 to notice."""
    for _ in range(count):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                time.sleep(0.05)
            os._exit(0)
        os.waitpid(child, 0)


def writable(path):
    try:
        (Path(path) / "written").touch()
    except OSError:
        return False
    return True


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only http")
    if scope["path"] == "/orphans":
        leave_orphans(5)
    if scope["path"] == "/grow":
        kept.append(os.urandom(16 << 20))
    told = {
        "pid": os.getpid(),
        "master": os.getppid(),
        "uid": os.getuid(),
        "home": os.environ.get("HOME"),
        "writable": [path for path in ("/", "/tmp", "/run", "/var/tmp", "/dev", ".") if writable(path)],
        "shm": os.path.exists("/dev/shm"),  # noqa: ASYNC240, PTH110 -- at once
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
