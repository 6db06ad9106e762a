"""Opens a page in the browser once something listens there: `python -m asgi_master.cli.open_browser URL`."""

import socket
import subprocess
import sys
import time
import webbrowser
from urllib.parse import urlsplit

_WITHIN = 60.0
"""Seconds; applications with large imports take long at their first start."""
_PAUSE = 0.1


def open_when_served(url: str) -> None:
    """Have another process do it: this one goes on to serve."""
    subprocess.Popen(  # noqa: S603 -- our own program
        [sys.executable, "-m", "asgi_master.cli.open_browser", url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(url: str) -> int:
    """Wait for a listener, and open the page; 1 if none came."""
    parts = urlsplit(url)
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        try:
            socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1).close()
        except OSError:
            time.sleep(_PAUSE)
            continue
        return 0 if webbrowser.open(url) else 1
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
