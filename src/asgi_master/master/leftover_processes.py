"""Processes of the application that are left at the end and hold an address of ours open.

They were orphaned and became children of the master. Ending them is up to the application; the log explains why the
address is in use at the next start.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

log = logging.getLogger("asgi_master")


def name_holders(urls: Mapping[int, str]) -> None:
    """Log which descendants of this process have any of these sockets open; `urls` are the addresses by inode."""
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
