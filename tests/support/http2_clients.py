"""Clients that others wrote, which speak HTTP/2, as kinds of `MixedClients`: httpx in this process, curl and nghttp.

clients = MixedClients(port, more=http2_kinds(plain_url, secure_url, certificate_file))
"""

import asyncio
import shutil
import ssl
from pathlib import Path

import httpx

from mixed_clients import Kind, MixedClients

_SIDE_BY_SIDE = 5
_PAUSE = 0.05
"""Seconds between two programs: each is a process."""


def http2_kinds(plain: str, secure: str, authority: Path) -> list[tuple[Kind, int]]:
    """The kinds whose programs are installed; `authority` is the certificate that the server of `secure` is trusted by."""

    async def httpx_in_a_row(clients: MixedClients) -> None:
        # Side by side, requests of httpx can fail at any GOAWAY, by its own doing (ADR 27).
        trust = ssl.create_default_context(cafile=str(authority))
        async with httpx.AsyncClient(http1=False, http2=True, verify=trust, timeout=15.0) as client:
            while not clients.is_stopped:
                response = await client.get(secure)
                assert response.status_code == 200, response.status_code
                clients.answers["httpx"] += 1
                await asyncio.sleep(0.01)  # leave the machine to the others

    async def curl(clients: MixedClients) -> None:
        urls = [secure] * _SIDE_BY_SIDE
        output = await _run("curl", "-sS", "--cacert", str(authority), "-w", "\n%{http_version}\n", *urls)
        assert output.split(b"\n").count(b"2") == _SIDE_BY_SIDE, output
        clients.answers["curl"] += _SIDE_BY_SIDE

    async def nghttp(clients: MixedClients) -> None:
        urls = [f"{plain}?{number}" for number in range(_SIDE_BY_SIDE)]
        output = await _run("nghttp", *urls)
        assert output == b"hello\n" * _SIDE_BY_SIDE, output
        clients.answers["nghttp"] += _SIDE_BY_SIDE

    programs = [kind for kind in (curl, nghttp) if shutil.which(kind.__name__)]
    return [(kind, 1) for kind in (httpx_in_a_row, *programs)]


async def _run(*command: str) -> bytes:
    await asyncio.sleep(_PAUSE)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    output, errors = await process.communicate()
    assert process.returncode == 0, (command[0], errors)
    return output
