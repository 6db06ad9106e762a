"""HTTP/2 from end to end: clients of other makes, reloads, metrics."""

import json
import shutil
import signal
import subprocess

import httpx
import pytest

from certificates import Authority, put
from fleet import PATIENCE, Fleet, wait_until

AUTHORITY = Authority()
BOTH = ("--bind", "https://127.0.0.1:0", "--certfile", "site.pem", "--keyfile", "site.key")


def serve(fleet: Fleet, *arguments: str, workers: int = 1) -> tuple[str, str]:
    """The addresses with TLS and without."""
    AUTHORITY.write(fleet.directory, "site")
    put(fleet.directory / "ca.pem", AUTHORITY.pem)
    fleet.serve("probe:app", *BOTH, *arguments, workers=workers)
    plain, secure = fleet.urls[:2]
    return secure.replace("127.0.0.1", "localhost"), plain


def run(fleet: Fleet, *command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        command,
        cwd=fleet.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_clients_of_other_makes(fleet: Fleet, loop: str) -> None:
    secure, plain = serve(fleet, "--loop", loop)
    curl = ("curl", "-sS", "--cacert", "ca.pem", "-w", "%{http_version}\n", "-o", "/dev/null")
    assert run(fleet, *curl, f"{secure}/who") == "2\n"
    assert run(fleet, *curl, "--http2-prior-knowledge", f"{plain}/who") == "2\n"
    assert run(fleet, *curl, "--http2", f"{plain}/who") == "1.1\n", "there is no upgrade"
    assert run(fleet, *curl, "--http1.1", f"{secure}/who") == "1.1\n"
    posted = run(
        fleet, "curl", "-sS", "--http2-prior-knowledge", "--data-binary", "@ca.pem", f"{plain}/upload"
    )
    assert json.loads(posted)["bytes"] == len(AUTHORITY.pem)
    assert run(fleet, "nghttp", f"{plain}/") == "hello\n"
    assert run(fleet, "nghttp", f"{secure}/") == "hello\n"
    with httpx.Client(http1=False, http2=True, verify=AUTHORITY.client(), trust_env=False) as client:
        responses = [client.get(f"{url}/who") for url in (secure, plain) for _ in range(3)]
        assert {(response.status_code, response.http_version) for response in responses} == {(200, "HTTP/2")}


@pytest.mark.parametrize("place", [0, 1], ids=["TLS", "plain"])
def test_many_streams(fleet: Fleet, place: int) -> None:
    url = serve(fleet, workers=2)[place]
    output = run(fleet, "h2load", "-n", "2000", "-c", "8", "-m", "32", f"{url}/")
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in output


def test_not_if_it_is_switched_off(fleet: Fleet) -> None:
    secure, plain = serve(fleet, "--no-http2")
    curl = ("curl", "-sS", "--cacert", "ca.pem", "-w", "%{http_version}\n", "-o", "/dev/null")
    assert run(fleet, *curl, f"{secure}/who") == "1.1\n"
    refused = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", f"{plain}/who"], capture_output=True, check=False
    )
    assert refused.returncode != 0


def test_the_reference_engine(fleet: Fleet) -> None:
    secure, _plain = serve(fleet, "--http2-engine", "h2")
    with httpx.Client(http1=False, http2=True, verify=AUTHORITY.client(), trust_env=False) as client:
        assert client.get(f"{secure}/who").http_version == "HTTP/2"


def test_the_log_and_the_metrics(fleet: Fleet) -> None:
    _secure, plain = serve(fleet, "--access-log", "--admin-bind", "127.0.0.1:0")
    admin = fleet.wait_line(r"health and metrics on (\S+)")[1]
    run(fleet, "curl", "-sS", "--http2-prior-knowledge", f"{plain}/who")
    wait_until(lambda: any("GET /who HTTP/2" in line for line in fleet.output), "a line in the access log")
    metrics = dict(
        line.rsplit(" ", 1)
        for line in httpx.get(f"{admin}/metrics", trust_env=False).text.splitlines()
        if "http2" in line and not line.startswith("#")
    )
    assert metrics["asgi_master_http2_connections_total"] == "1"
    assert metrics["asgi_master_http2_streams_total"] == "1"
    assert metrics['asgi_master_http2_goaways_total{code="protocol_error"}'] == "0"


def test_a_client_goes_on_after_a_reload(fleet: Fleet) -> None:
    secure, plain = serve(fleet)
    with httpx.Client(http1=False, http2=True, verify=AUTHORITY.client(), trust_env=False) as client:
        for url in (secure, plain):
            assert client.get(f"{url}/who").json()["generation"] == "1"
        fleet.send(signal.SIGHUP)
        fleet.wait_line(r"reloaded: 1 worker serving generation 2\b")
        for url in (secure, plain):
            assert client.get(f"{url}/who").status_code == 200
