"""TLS from end to end: real clients, renewed certificates, reloads and stops under keep-alive load."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from certificates import Authority, put
from fleet import APPS, PATIENCE, Fleet, wait_until
from http_client import Client, Response
from shared_interpreter import program_for_anybody
from traffic import Traffic

AUTHORITY = Authority()
SECURE = "https://127.0.0.1:0"
PAIR = ("--certfile", "site.pem", "--keyfile", "site.key")


def serve(fleet: Fleet, *arguments: str, **start) -> Fleet:
    AUTHORITY.write(fleet.directory, "site")
    put(fleet.directory / "ca.pem", AUTHORITY.pem)
    return fleet.serve("probe:app", *PAIR, "--watch-time", "0", *arguments, **{"bind": SECURE, **start})


def connected(fleet: Fleet, context: ssl.SSLContext | None = None, port: int = 0) -> ssl.SSLSocket:
    """A client's connection after its handshake, with the first address unless a port is given."""
    raw = socket.create_connection(("127.0.0.1", port or fleet.port), PATIENCE)
    return (context or AUTHORITY.client()).wrap_socket(
        raw, server_hostname="localhost", suppress_ragged_eofs=False
    )


def websocket(fleet: Fleet) -> connect_websocket:
    """Not the client with threads: two of them on one `SSLSocket` lose what they wait for now and then."""
    return connect_websocket(f"wss://localhost:{fleet.port}/", ssl=AUTHORITY.client(), proxy=None)


def serial_served(fleet: Fleet) -> str:
    """What tells the certificate apart that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connected(fleet, context) as sock:
        return ssl.DER_cert_to_PEM_cert(sock.getpeercert(True) or b"")


def ends_with(response: Response) -> bool:
    """Whether the connection ends with this response, which is an old worker's."""
    assert response.status == 200
    assert json.loads(response.body)["generation"] == "1"
    return response.headers.get("connection") == "close"


def run(fleet: Fleet, *command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        command,
        cwd=fleet.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_clients_of_other_makes(fleet: Fleet, loop: str) -> None:
    serve(fleet, "--loop", loop, "--bind", "127.0.0.1:0", workers=1)
    assert [url.partition("://")[0] for url in fleet.urls] == ["https", "http"]
    url = f"https://localhost:{fleet.port}"
    curl = run(
        fleet,
        "curl",
        "-sS",
        "--cacert",
        "ca.pem",
        f"{url}/who",
        f"{url}/who",
        "-w",
        "%{num_connects} %{http_version}\n",
    )
    assert curl.returncode == 0, curl.stderr
    assert curl.stdout.count("2\n") == 2
    assert "0 2" in curl.stdout, "the second request uses the connection of the first"
    openssl = run(
        fleet, "openssl", "s_client", "-connect", f"127.0.0.1:{fleet.port}", "-CAfile", "ca.pem", "-verify_return_error",
        "-servername", "localhost", "-alpn", "http/1.1", "-brief",
    )  # fmt: skip
    assert openssl.returncode == 0, openssl.stderr
    assert "Verification: OK" in openssl.stderr
    refused = run(fleet, "curl", "-sS", "--cacert", "ca.pem", "--tls-max", "1.1", f"{url}/who")
    assert refused.returncode == 35
    with fleet.client(verify=AUTHORITY.client()) as client:
        assert client.get("/who").json()["generation"] == "1"

    async def ask() -> str | bytes:
        async with websocket(fleet) as connection:
            await connection.send("who")
            return await connection.recv()

    assert asyncio.run(asyncio.wait_for(ask(), PATIENCE)) == str(fleet.workers()[0].pid)
    plain = run(fleet, "curl", "-sS", fleet.urls[1] + "/who")
    assert plain.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--certfile", "no.pem", "--keyfile", "site.key"), 'certfile: "no.pem" cannot be read'),
        (("--certfile", "site.pem", "--keyfile", "other.key"), 'keyfile: "other.key" does not belong to'),
        (("--certfile", "site.pem", "--keyfile", "secret.key"), 'keyfile: "secret.key" is encrypted'),
        (
            ("--certfile", "site.pem", "--keyfile", "secret.key", "--keyfile-password", "wrong"),
            'keyfile-password: it does not open "secret.key"',
        ),
        ((), "needs a certificate: give certfile and keyfile"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(fleet: Fleet, arguments: tuple[str, ...], line: str) -> None:
    AUTHORITY.write(fleet.directory, "site")
    AUTHORITY.write(fleet.directory, "other")
    AUTHORITY.write(fleet.directory, "secret", password="correct horse")
    fleet.start("--bind", SECURE, *arguments, "probe:app")
    assert fleet.wait_exit() == 2
    assert len(fleet.lines) == 1
    assert line in fleet.lines[0]


def test_a_password_shows_nowhere(fleet: Fleet) -> None:
    AUTHORITY.write(fleet.directory, "site", password="correct horse")
    (fleet.directory / "password").write_text("correct horse\n")
    arguments = ("--certfile", "site.pem", "--keyfile", "site.key")
    fleet.serve("probe:app", *arguments, "--keyfile-password-file", "password", bind=SECURE, workers=1)
    assert serial_served(fleet) == (fleet.directory / "site.pem").read_text()
    assert "correct horse" not in fleet.log


def test_renewed_certificates_serve_without_a_failed_request(fleet: Fleet) -> None:
    serve(fleet)
    old = serial_served(fleet)
    with Traffic(fleet, tls=AUTHORITY.client()) as traffic, fleet.keeping_descriptors():
        kept = connected(fleet)
        for _ in range(2):
            AUTHORITY.write(fleet.directory, "site")
            new = (fleet.directory / "site.pem").read_text()
            wait_until(lambda new=new: serial_served(fleet) == new, "the new certificate is served")
            assert {serial_served(fleet) for _ in range(10)} == {new}, "by all workers, once one serves it"
            traffic.wait_for_more(50)
        assert new != old
        assert Client(kept).get("/who").status == 200, "what was open goes on"
        kept.close()
    assert traffic.failures == []
    assert set(traffic.answers) == {"1"}, "nothing was reloaded"
    assert len(fleet.workers()) == 2


def test_a_bad_certificate_is_refused_and_a_reload_with_it_too(fleet: Fleet) -> None:
    serve(fleet, workers=1)
    old = serial_served(fleet)
    fleet.expect_log(r"TLS: the changed certificates are refused", r"not reloading: certfile:")
    put(fleet.directory / "site.pem", "broken\n")
    fleet.send(signal.SIGHUP)
    fleet.wait_line(r'not reloading: certfile: "site.pem" holds no certificate')
    fleet.wait_line(r"TLS: the changed certificates are refused, the old ones stay in use")
    assert serial_served(fleet) == old
    # SIGHUP does not wait for the next look at the files.
    AUTHORITY.write(fleet.directory, "site")
    fleet.send(signal.SIGHUP)
    fleet.wait_line("certificates renewed")
    fleet.wait_settled(1)
    assert serial_served(fleet) == (fleet.directory / "site.pem").read_text()


def test_a_reload_without_a_failed_request(fleet: Fleet) -> None:
    serve(fleet, "--drain-timeout", "10")
    idle = [connected(fleet) for _ in range(6)]
    for sock in idle:
        assert Client(sock).get("/who").status == 200
    with Traffic(fleet, tls=AUTHORITY.client()) as traffic, fleet.keeping_descriptors():
        fleet.send(signal.SIGHUP)
        fleet.wait_workers(lambda seen: [w.generation for w in seen].count(2) == 2, "two new workers")
        traffic.wait_for_more(50)
        # Those that were idle ask again, within the time that the old workers stay for them, and are notified of the end.
        for sock in idle:
            wait_until(lambda sock=sock: ends_with(Client(sock).get("/who")), "the old workers leave")
            assert sock.recv(1) == b"", "an end of TLS"
            sock.close()
        fleet.wait_settled(2)
        traffic.wait_for_more(50)
    assert traffic.failures == []
    assert set(traffic.answers) == {"1", "2"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_resumes_at_every_worker_of_a_generation(fleet: Fleet, version: ssl.TLSVersion) -> None:
    serve(fleet, workers=3)
    context = AUTHORITY.client()
    context.minimum_version = context.maximum_version = version
    with connected(fleet, context) as first:
        Client(first).get("/who")
        session = first.session
    served = set()
    for _ in range(60):
        raw = socket.create_connection(("127.0.0.1", fleet.port), PATIENCE)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
            served.add(json.loads(Client(sock).get("/who").body)["pid"])
            assert sock.session_reused
    assert len(served) == 3


def test_who_never_asks_again_does_not_hold_up_a_reload_for_ever(fleet: Fleet) -> None:
    serve(fleet, "--drain-timeout", "6", "--shutdown-timeout", "1", workers=1)
    sock = connected(fleet)
    assert Client(sock).get("/who").status == 200
    fleet.send(signal.SIGHUP)
    assert sock.recv(1) == b"", "an end of TLS, in the second half of the drain"
    fleet.wait_settled(1)
    sock.close()


def test_a_stop_ends_idle_connections_at_once(fleet: Fleet) -> None:
    serve(fleet)
    idle = [connected(fleet) for _ in range(4)]
    for sock in idle:
        assert Client(sock).get("/who").status == 200
    silent = socket.create_connection(("127.0.0.1", fleet.port), PATIENCE)

    async def stop_and_wait() -> int | None:
        async with websocket(fleet) as connection:
            await connection.send("who")
            await connection.recv()
            fleet.send(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            return closed.value.rcvd and closed.value.rcvd.code

    began = time.monotonic()
    assert asyncio.run(asyncio.wait_for(stop_and_wait(), PATIENCE)) == 1012
    for sock in idle:
        assert sock.recv(1) == b""
        sock.close()
    assert fleet.wait_exit() == 0
    assert time.monotonic() - began < 25, "long before the drain's time is over"
    silent.close()


def test_a_live_upgrade_keeps_the_certificates(fleet: Fleet) -> None:
    serve(fleet)
    old = serial_served(fleet)
    with Traffic(fleet, tls=AUTHORITY.client()) as traffic:
        fleet.send(signal.SIGUSR2)
        fleet.wait_line("upgraded to")
        fleet.wait_workers(
            lambda seen: {w.generation for w in seen} == {2} and len(seen) == 2, "a new generation"
        )
        assert serial_served(fleet) == old
        AUTHORITY.write(fleet.directory, "site")
        new = (fleet.directory / "site.pem").read_text()
        wait_until(lambda: serial_served(fleet) == new, "the new certificate is served")
        traffic.wait_for_more(20)
    assert traffic.failures == []


def test_an_address_does_not_change_to_tls_under_its_clients(fleet: Fleet, free_port: int) -> None:
    AUTHORITY.write(fleet.directory, "site")
    fleet.write("asgi-master.toml", f'bind = ["127.0.0.1:{free_port}"]\n')
    fleet.start("--app-dir", str(APPS), "probe:app").wait_ready(1)
    fleet.expect_log("not reloading")
    pair = 'certfile = ["site.pem"]\nkeyfile = ["site.key"]\n'
    fleet.write("asgi-master.toml", f'bind = ["https://127.0.0.1:{free_port}"]\n{pair}')
    fleet.send(signal.SIGHUP)
    fleet.wait_line("not reloading: cannot bind .* whether TLS is spoken there changes with a restart")
    # TLS on another address beside it is no trouble.
    fleet.write("asgi-master.toml", f'bind = ["127.0.0.1:{free_port}", "{SECURE}"]\n{pair}')
    fleet.send(signal.SIGHUP)
    fleet.wait_line(r"listening on https://127.0.0.1:(\d+)")
    fleet.wait_workers(lambda seen: [w.generation for w in seen] == [2], "the new worker, alone")
    with fleet.client() as client:
        assert client.get("/who").json()["generation"] == "2"
    with connected(fleet, port=int(fleet.urls[1].rpartition(":")[2])) as sock:
        assert Client(sock).get("/who").status == 200


def test_a_key_that_only_root_may_read_serves_and_is_renewed() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can run the application as another user")
    program = program_for_anybody()
    if isinstance(program, str):
        pytest.skip(program)
    directory = Path(tempfile.mkdtemp(prefix="asgi-master-tls-"))
    directory.chmod(0o755)
    fleet = Fleet(directory)
    try:
        AUTHORITY.write(directory, "site")
        (directory / "site.key").chmod(0o600)
        fleet.serve(
            "probe:app", *PAIR, "--user", "nobody", bind=SECURE, program=(*program, "-m", "asgi_master")
        )
        assert serial_served(fleet) == (directory / "site.pem").read_text()
        AUTHORITY.write(directory, "site")
        (directory / "site.key").chmod(0o600)
        new = (directory / "site.pem").read_text()
        wait_until(lambda: serial_served(fleet) == new, "the new certificate is served")
        fleet.close()
    finally:
        shutil.rmtree(directory)
