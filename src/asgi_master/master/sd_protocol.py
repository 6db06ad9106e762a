"""The text protocol between systemd and the master: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

Pure: an environment and values in, text out. Nothing here opens a socket or reads a clock.
"""

from collections.abc import Mapping
from urllib.parse import quote

from asgi_master.settings.bind import KEPT_PREFIX, UNNAMED_FD
from asgi_master.telemetry.text import one_line

_FIRST_FD = 3
_MOST_NAME = 255
"""FDNAME_MAX of systemd."""
_MOST_STATUS = 500
"""Characters of one value, as `systemctl status` shows it; the log has all of it."""


def datagram(words: Mapping[str, str | int]) -> bytes:
    """One notification: a line for each variable, such as `READY=1`."""
    return "\n".join(f"{name}={_value(value)}" for name, value in words.items()).encode(errors="replace")


def _value(value: str | int) -> str:
    text = one_line(str(value))
    return text if len(text) <= _MOST_STATUS else f"{text[: _MOST_STATUS - 1]}…"


def notify_address(environ: Mapping[str, str]) -> str | None:
    """The Unix address for notifications; `None` without a service manager.

    Raises `ValueError` for an address of another kind (`vsock:`, for the manager outside of a virtual machine).
    """
    text = environ.get("NOTIFY_SOCKET", "")
    if not text:
        return None
    if text.startswith("@"):
        return f"\0{text[1:]}"
    if not text.startswith("/"):
        raise ValueError(f"NOTIFY_SOCKET={one_line(text)} is neither a path nor an abstract socket")
    return text


def watchdog_timeout(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which systemd expects `WATCHDOG=1`; `None` if it does not expect it of this process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    # systemd writes no invalid number; ignore it.
    return int(text) / 1e6 if text.isascii() and text.isdecimal() and int(text) > 0 else None


def passed_descriptors(environ: Mapping[str, str], pid: int) -> list[tuple[int, str]]:
    """The descriptors that systemd left open for this process, each with its FDNAME."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdecimal()):
        return []
    names = environ["LISTEN_FDNAMES"].split(":") if environ.get("LISTEN_FDNAMES") else []
    names += [UNNAMED_FD] * (int(count) - len(names))
    return [(_FIRST_FD + index, names[index]) for index in range(int(count))]


def stored_name(bind: str, file: tuple[int, int] | None) -> str:
    """The FDNAME under which systemd stores a listener of this bind.

    `file` is device and inode of a Unix socket's file: if that was replaced, no client can reach the stored
    socket, and the name does not match.
    """
    text = quote(bind.encode(errors="surrogateescape"), safe="/[]@")
    if file is not None:
        text += f"#{file[0]:x}.{file[1]:x}"
    if len(KEPT_PREFIX) + len(text) > _MOST_NAME:
        import hashlib  # noqa: PLC0415 -- OpenSSL, for a name that hardly any bind needs

        text = hashlib.sha256(text.encode()).hexdigest()
    return f"{KEPT_PREFIX}{text}"
