"""Who is left below us at the end: processes of the application that outlive it, and hold an address of ours open.

They were orphaned and became our children; they are nobody's to end but the application's. Who starts us again should
know why an address is in use.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

log = logging.getLogger("asgi_master")


def name_holders(urls: Mapping[int, str]) -> None:
    """Say which processes below this one still have any of these sockets open; their addresses are told by inode."""
    for pid in _descendants(os.getpid()):
        if held := sorted(set(_held(pid, urls))):
            log.warning(
                "a process that the application started is left, and keeps %s in use: %s [%d]",
                ", ".join(held),
                _command(pid),
                pid,
            )


def _descendants(pid: int) -> Iterator[int]:
    """See proc_tid_children(5)."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _held(pid: int, urls: Mapping[int, str]) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it left meanwhile, or is not ours to look into
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError, ValueError):
                kind, _, inode = os.readlink(entry).partition(":")  # noqa: PTH115 -- it is no path
                if kind == "socket" and (url := urls.get(int(inode.strip("[]")))):
                    yield url


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return " ".join(words.split())[:100]
    return "?"
