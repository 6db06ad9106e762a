"""`asgi-masterctl health`: a health check for containers without `curl`.

It runs every few seconds for as long as the container lives, so it does not load Typer.
"""

import http.client
import os
import socket
import sys
from pathlib import Path

from asgi_master.cli.ctl_exit import Exit
from asgi_master.records import record
from asgi_master.settings.bind import TcpAddress, UnixAddress, parse_bind

ADMIN_VARIABLE = "ASGI_MASTER_ADMIN_BIND"
READY, LIVE = "readyz", "livez"
TIMEOUT = 3.0
"""Seconds; a container's own limit is often no longer."""

_MAX_BYTES = 64 * 1024
_ANY = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 -- nothing is bound


@record
class Health:
    """The result: whether the check passed, and the reasons if not."""

    is_well: bool
    text: str


def ask_admin(address: str, question: str, timeout: float) -> Health:
    """Ask the address of `--admin-bind`. Raises `OSError` if there is no response, `ValueError` if it is no address."""
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    with _connect(address, timeout) as sock:
        connection.sock = sock
        try:
            connection.request("GET", f"/{question}")
            response = connection.getresponse()
            text = response.read(_MAX_BYTES).decode(errors="replace").strip()
        except http.client.HTTPException as error:
            raise OSError(None, f"invalid response: {error!r}") from None
    return Health(response.status == http.client.OK, text)


def _connect(address: str, timeout: float) -> socket.socket:
    match parse_bind(address):
        case TcpAddress(host=host, port=port):
            return socket.create_connection((_ANY.get(host, host), port), timeout)
        case UnixAddress(path=path):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(os.fspath(Path(path)))
            except OSError:
                sock.close()
                raise
            return sock
        case _:
            raise ValueError("is not an address: use HOST:PORT or unix:PATH")


def check_admin(address: str, question: str, timeout: float) -> Exit:
    """Run the check, print why it failed, and return the exit status."""
    try:
        return report(ask_admin(address, question, timeout))
    except TimeoutError:
        return _fail(f"{address}: no answer within {timeout:g} s", Exit.TIMED_OUT)
    except OSError as error:
        return _fail(f"{address}: {error.strerror or error}", Exit.NO_MASTER)
    except ValueError as error:
        return _fail(f"{address} {error}", Exit.USAGE)


def report(health: Health) -> Exit:
    """Print the result and return the exit status."""
    if not health.is_well:
        return _fail(health.text, Exit.FAILED)
    print(health.text)  # noqa: T201 -- the output of the command
    return Exit.OK


def _fail(text: str, status: Exit) -> Exit:
    for line in text.splitlines() or ["not well"]:
        print(f"asgi-masterctl: {line}", file=sys.stderr)  # noqa: T201 -- its way to speak
    return status
