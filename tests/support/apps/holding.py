"""Signs that requests and tests leave each other as files, so that any worker, and the test, can see them.

A request that shall be held until the test says so arrives, and waits to be released.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

_LIMIT = 30.0


def arrived(directory: Path, name: str) -> bool:
    return (directory / f"{name}.arrived").exists()


def release(directory: Path, name: str) -> None:
    (directory / f"{name}.released").touch()


def arrive(name: str) -> None:
    (Path.cwd() / f"{name}.arrived").touch()


async def hold(name: str) -> None:
    """Tell that a request is here, and wait until it is released (or too long)."""
    arrive(name)
    mark = Path.cwd() / f"{name}.released"
    async with asyncio.timeout(_LIMIT):
        while not mark.exists():  # noqa: ASYNC110 -- the event comes from another process
            await asyncio.sleep(0.01)


async def idle(name: str) -> AsyncIterator[bytes]:
    """A stream that has something to say once, and tells when it is cleaned up."""
    try:
        yield b"begun"
        await asyncio.Event().wait()
    finally:
        arrive(f"{name}-ended")
