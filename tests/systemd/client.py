"""Asks a server again and again until its own input ends, each time on a new connection, and tells how that went.

Usage: client.py HOST:PORT|PATH. Runs in the box, with the standard library alone.
"""

import json
import select
import socket
import sys
import threading
from collections import Counter

ADDRESS = sys.argv[1]
REQUEST = b"GET / HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n"
PATIENCE = 20.0

answers: Counter[str] = Counter()
failures: list[str] = []
ended = threading.Event()


def connect() -> socket.socket:
    if ADDRESS.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(ADDRESS)
        return sock
    host, _, port = ADDRESS.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def ask() -> str:
    with connect() as sock:
        sock.sendall(REQUEST)
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received
    return str(json.loads(body)["master"])


def keep_asking() -> None:
    while not ended.is_set():
        try:
            answers[ask()] += 1
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is counted
            failures.append(repr(error))
            ended.wait(0.05)


threads = [threading.Thread(target=keep_asking) for _ in range(3)]
for thread in threads:
    thread.start()
select.select([sys.stdin], [], [])
ended.set()
for thread in threads:
    thread.join(PATIENCE)
print(json.dumps({"answers": answers, "failures": failures}))
