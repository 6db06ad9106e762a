"""The shipped units under a real systemd: ready, reload, watchdog, sockets, stop, and what people see of it."""

import contextlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from systemd_container import UNITS, Box, Service

APP = """
import asyncio, json, os, time

GREETING = "hello"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await asyncio.sleep(float(os.environ.get("SLOW_START", "0")))
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        await asyncio.sleep(4)
    if scope["path"] == "/block":
        open(os.environ["RUNTIME_DIRECTORY"] + "/blocked", "w").close()
        time.sleep(60)
    answer = {"greeting": GREETING, "master": os.getppid(), "environ": sorted(os.environ)}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""
CLIENT = (Path(__file__).parent / "client.py").read_text()
NEVER_STOPPED_BY_US = {"hang_timeout": 0, "stall_warn": 0}


def socket_of(service: Service) -> str:
    return f"/run/asgi-master/{service.name}/http.sock"


def activated(service: Service) -> str:
    """Where the socket unit listens."""
    return f"/run/asgi-master/{service.name}-http.sock"


def deploy(service: Service, source: str = APP, **settings: Any) -> Service:
    return service.deploy(
        source, **{"workers": 2, "watch_time": 0, "bind": [f"unix:{socket_of(service)}"]} | settings
    )


def ask(service: Service, path: str = "/", *, at: str | None = None) -> dict[str, Any]:
    uds = service.box.path(at or socket_of(service))
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(uds)), base_url="http://box", timeout=20
    ) as client:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@contextlib.contextmanager
def clients(service: Service, address: str) -> Iterator[dict[str, Any]]:
    """Clients that keep asking meanwhile; what they saw is in the dictionary afterwards."""
    service.box.write("/opt/box/client.py", CLIENT)
    process = subprocess.Popen(
        service.box.inside("/opt/box/venv/bin/python", "/opt/box/client.py", address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: dict[str, Any] = {}
    try:
        yield seen
    finally:
        output, _ = process.communicate("", timeout=60)
        seen.update(json.loads(output))


def processes(service: Service) -> list[int]:
    """All of the unit's, in the box's numbers, the master first."""
    listed = service.box.run("systemctl", "status", service.unit, "--no-pager", "-n0", "--full")
    pids = [int(number) for number in re.findall(r"[├└]─\s*(\d+) ", listed)]
    return sorted(pids, key=lambda pid: pid != service.pid)


# --- started


def test_started_means_that_every_worker_serves(service: Service) -> None:
    # A slow start asks for more time than the unit gives.
    deploy(service).drop_in("slow", "[Service]\nEnvironment=SLOW_START=6\nTimeoutStartSec=5\n")
    service.start()
    assert re.match(r"2/2 workers ready, generation 1\b", service.status)
    assert service.journal().count("is ready") == 2
    # With nothing of what systemd tells the master alone.
    names = ask(service)["environ"]
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS"} & set(names)
    assert {"STATE_DIRECTORY", "RUNTIME_DIRECTORY"} <= set(names)

    def told(service: Service) -> bool:
        ask(service)
        found = re.search(r"([\d.]+) req/s$", service.status)
        return found is not None and float(found[1]) > 0

    service.wait(told, "the status tells the load")


def test_wrong_settings_are_not_tried_again(service: Service) -> None:
    deploy(service, wrokers=3)
    assert service.attempt("start").returncode != 0
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("2", "0")
    assert "wrokers: unknown setting; did you mean workers? (asgi-master.toml, line 5)" in service.journal()


def test_the_status_names_an_application_that_does_not_start(service: Service) -> None:
    deploy(service, "raise ImportError('no such thing')").drop_in("once", "[Service]\nRestart=no\n")
    assert service.attempt("start").returncode != 0
    assert service.show("ExecMainStatus") == "3"
    assert service.status.startswith(
        "generation 1 did not start: importing app failed: ImportError: no such thing; giving up"
    )


def test_the_status_shows_a_second_bind(service: Service) -> None:
    taken = service.box.path("/run/taken.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(taken))
        other.listen()
        deploy(service, bind=["unix:/run/taken.sock"]).drop_in("once", "[Service]\nRestart=no\n")
        assert service.attempt("start").returncode != 0
    taken.unlink()
    assert service.show("ExecMainStatus") == "4"
    assert "another process listens there" in service.status


# --- reload


def test_reload_is_over_when_systemctl_returns(service: Service) -> None:
    """Also where a deploy switches a symbolic link."""
    deploy(service)
    here = f"cd /srv && now={service.name}"
    service.box.run("sh", "-c", f"{here} && mv $now $now.1 && ln -s $now.1 $now && cp -a $now.1 $now.2")
    service.start()
    master = service.pid
    changes = "sed -i 's/hello/good day/; s/workers = 2/workers = 3/' $now.2/app.py $now.2/asgi-master.toml"
    service.box.run("sh", "-c", f"{here} && {changes} && ln -sfn $now.2 $now")
    service.do("reload")
    assert {ask(service)["greeting"] for _ in range(6)} == {"good day"}
    assert service.status.startswith("3/3 workers ready, generation 2")
    assert service.pid == master


def test_a_failed_reload_is_reported_and_changes_nothing(service: Service) -> None:
    deploy(service).start()
    deploy(service, workers="many")
    reload_in_vain(service, "workers: .many. is not a number .*asgi-master.toml, line 2.*")
    deploy(service, "raise ImportError('half a deploy')")
    reload_in_vain(
        service, "generation 2: importing app failed: ImportError: half a deploy; staying with generation 1"
    )
    # Lines in the journal have their priority.
    errors = service.journal("-p", "err")
    assert re.search(r"^ERROR +master \[\d+\]  reload failed: generation 2", errors, re.MULTILINE), errors
    assert "INFO" not in errors
    assert re.search(r"^INFO +master \[\d+\]  ready: 2 workers", service.journal("-p", "6..6"), re.MULTILINE)
    # Made good, it is forgotten.
    deploy(service)
    service.do("reload")
    assert service.status.startswith("2/2 workers ready, generation"), service.status


def reload_in_vain(service: Service, reason: str) -> None:
    done = service.attempt("reload")
    # With Type=notify-reload, systemd has no word for a reload that failed; the drop-in's command has.
    assert (done.returncode == 0) == (service.box.version >= 253)
    assert service.show("ActiveState") == "active"
    told = re.match(f"reload failed: {reason}; 2/2 workers ready, generation 1", service.status)
    assert told, service.status
    assert ask(service)["greeting"] == "hello"


def test_a_live_upgrade_is_the_same_service(service: Service) -> None:
    deploy(service, bind=["127.0.0.1:8000"]).start()
    master = service.pid
    service.signal_master(signal.SIGUSR2)
    service.wait(
        lambda service: "generation 2" in service.status and "reloading" not in service.status, "upgraded"
    )
    assert (service.pid, service.show("NFileDescriptorStore"), service.show("NRestarts")) == (
        master,
        "1",
        "0",
    )
    service.do("restart")
    assert service.show("NFileDescriptorStore") == "1"


def test_a_live_upgrade_where_a_socket_unit_gives_the_only_address(service: Service) -> None:
    """The check must know it too: the default address would be the one of the admin server."""
    service.deploy(APP, workers=1, watch_time=0, admin_bind="127.0.0.1:8000")
    service.box.run("systemctl", "start", f"asgi-master@{service.name}.socket")
    service.start()
    service.signal_master(signal.SIGUSR2)
    service.wait(
        lambda service: "upgrade refused" in service.journal() or "generation 2" in service.status, "answered"
    )
    assert "upgrade refused" not in service.journal()
    assert ask(service, at=activated(service))["greeting"] == "hello"


# --- watchdog


@pytest.mark.parametrize("who", ["master", "workers"])
def test_the_watchdog_restarts_what_does_not_serve(service: Service, who: str) -> None:
    deploy(service, **NEVER_STOPPED_BY_US).drop_in("watchdog", "[Service]\nWatchdogSec=3\nRestartSec=100ms\n")
    service.start()
    master = service.pid
    if who == "master":
        service.signal_master(signal.SIGSTOP)
    else:
        others = [str(pid) for pid in processes(service) if pid != master]
        service.box.run("sh", "-c", f"kill -STOP {' '.join(others)}")
    service.wait(_was_restarted, "it was restarted")
    assert "Watchdog timeout" in service.journal()
    assert ask(service)["master"] != master


# --- sockets


def test_a_socket_unit_starts_it_on_demand(service: Service) -> None:
    service.deploy(APP, workers=1)
    unit, path = f"asgi-master@{service.name}.socket", f"/run/asgi-master/{service.name}-http.sock"
    service.box.run("systemctl", "start", unit)
    assert service.show("ActiveState") == "inactive"
    assert ask(service, at=path)["greeting"] == "hello"
    assert "listening on unix:" in service.journal()
    # The default address is for those who have no socket, also after a reload.
    service.do("reload")
    assert "127.0.0.1:8000" not in service.journal()
    first = service.pid
    service.do("stop")
    assert ask(service, at=path)["master"] != first


def test_an_unserved_socket_is_logged(service: Service) -> None:
    deploy(service, workers=1)
    service.box.run("systemctl", "start", f"asgi-master@{service.name}.socket")
    service.start()
    assert "systemd passed the socket http, which is not served: add --bind systemd:http" in service.journal()
    deploy(service, workers=1, bind=[f"unix:{socket_of(service)}", "systemd:http"])
    for verb in ("reload", "restart"):
        service.do(verb)
        assert ask(service, at=activated(service))["greeting"] == "hello"
        assert ask(service)["greeting"] == "hello"


def test_a_rollback_serves_the_socket_that_a_reload_took_away(service: Service) -> None:
    """Also after a live upgrade."""
    both = [f"unix:{socket_of(service)}", "systemd:http"]
    deploy(service, workers=1, bind=both)
    service.box.run("systemctl", "start", f"asgi-master@{service.name}.socket")
    service.start()
    service.signal_master(signal.SIGUSR2)
    service.wait(
        lambda service: "generation 2" in service.status and "reloading" not in service.status, "upgraded"
    )
    deploy(service, workers=1, bind=both[:1])
    service.do("reload")
    assert f"no longer listening on unix:{activated(service)}, which was passed to us" in service.journal()
    service.box.run("/opt/box/venv/bin/asgi-masterctl", "rollback", "--wait", "--pid", str(service.pid))
    assert ask(service, at=activated(service))["greeting"] == "hello"


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "/run/asgi-master/{name}/http.sock"])
def test_a_restart_loses_no_connection(service: Service, address: str) -> None:
    address = address.format(name=service.name)
    deploy(service, bind=[f"unix:{address}" if address.startswith("/") else address]).start()
    with clients(service, address) as seen:
        service.do("restart")
    assert seen["failures"] == []
    assert str(service.pid) in seen["answers"]
    assert service.show("NFileDescriptorStore") == "1"


def test_a_start_that_fails_loses_no_connection(service: Service) -> None:
    """They wait in the socket that systemd keeps, for the start that works."""
    deploy(service).start()
    taken = service.box.path(f"/run/{service.name}-taken.sock")
    deploy(service, bind=[f"unix:{socket_of(service)}", f"unix:/run/{service.name}-taken.sock"])
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(taken))
        other.listen()
        assert service.attempt("restart").returncode != 0
        client.settimeout(20)
        client.connect(str(service.box.path(socket_of(service))))
        client.sendall(b"GET / HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
        deploy(service)
        assert client.recv(100).startswith(b"HTTP/1.1 200"), "it is started again after a second"
    taken.unlink()


def test_the_store_follows_the_addresses_of_a_host(box: Box, service: Service) -> None:
    hosts = box.path("/etc/hosts").read_text()
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 8000))"
    for address, other in (("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")):
        box.write("/etc/hosts", f"{hosts}\n{address} {service.name}.box\n")
        deploy(service, workers=1, bind=[f"{service.name}.box:8000"])
        service.do("restart")
        service.wait(lambda service: service.show("NFileDescriptorStore") == "1", "one is kept")
        box.run("/opt/box/venv/bin/python", "-c", connect, address)
        refused = box.attempt("/opt/box/venv/bin/python", "-c", connect, other)
        assert "ConnectionRefusedError" in refused.stderr
    box.write("/etc/hosts", hosts)


def test_a_bind_is_widened_by_a_restart(box: Box, service: Service) -> None:
    """What systemd still keeps for the old one must not be in the way."""
    for bind in ("127.0.0.1:8000", "0.0.0.0:8000", "127.0.0.2:8000"):
        deploy(service, workers=1, bind=[bind])
        service.do("restart")
        service.wait(lambda service: service.show("NFileDescriptorStore") == "1", "one is kept")
        assert f"listening on http://{bind}" in service.journal()
    assert service.show("NRestarts") == "0"


def test_a_family_that_the_unit_does_not_allow_is_passed_over(box: Box, service: Service) -> None:
    hosts = box.path("/etc/hosts").read_text()
    box.write("/etc/hosts", f"{hosts}\n127.0.0.1 {service.name}.box\n::1 {service.name}.box\n")
    restrict = "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_UNIX\n"
    deploy(service, workers=1, bind=[f"{service.name}.box:8000"]).drop_in("inet", restrict)
    service.start()
    assert re.findall(r"listening on (\S+)", service.journal()) == ["http://127.0.0.1:8000"]
    box.write("/etc/hosts", hosts)


def test_a_killed_master_refuses_no_connection(service: Service) -> None:
    deploy(service, bind=["127.0.0.1:8000"]).drop_in("soon", "[Service]\nRestartSec=100ms\n")
    service.start()
    with clients(service, "127.0.0.1:8000") as seen:
        service.signal_master(signal.SIGKILL)
        service.wait(_was_restarted, "it was restarted")
    # What a worker had accepted dies with it: one request of each client at most.
    assert len(seen["failures"]) <= 3, seen["failures"]
    assert not any("Refused" in failure for failure in seen["failures"])
    assert str(service.pid) in seen["answers"]


def _was_restarted(service: Service) -> bool:
    return service.show("NRestarts") != "0" and service.show("ActiveState") == "active"


def test_what_is_no_longer_bound_is_no_longer_kept(service: Service) -> None:
    deploy(service, bind=["127.0.0.1:8000", "127.0.0.1:8001"]).start()
    assert service.show("NFileDescriptorStore") == "2"
    deploy(service, bind=["127.0.0.1:8000"])
    service.do("restart")
    service.wait(lambda service: service.show("NFileDescriptorStore") == "1", "the other is dropped")
    deploy(service, bind=["127.0.0.1:8002"])
    service.do("reload")
    service.wait(lambda service: service.show("NFileDescriptorStore") == "1", "the first is dropped")
    service.box.run(
        "/opt/box/venv/bin/python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8002))"
    )


# --- stop


def test_a_stop_waits_for_requests_beyond_the_unit_s_timeout(service: Service) -> None:
    """As long as the drain timeout allows."""
    deploy(service, workers=1).drop_in("short", "[Service]\nTimeoutStopSec=3\n")
    service.start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(service.box.path(socket_of(service))))
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
        service.do("stop")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    assert service.show("Result") == "success"


def test_a_stop_that_is_not_heard_is_forced(service: Service) -> None:
    deploy(service, workers=1, drain_timeout=0.5, kill_grace=0.5, **NEVER_STOPPED_BY_US).start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(service.box.path(socket_of(service))))
        sock.sendall(b"GET /block HTTP/1.1\r\nHost: box\r\n\r\n")
        blocked = service.box.path(f"/run/asgi-master/{service.name}/blocked")
        service.wait(lambda _: blocked.exists(), "the request is being served")
        service.do("stop")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("exit-code", "6")
    assert service.show("NRestarts") == "0"


# --- the files


def test_systemd_finds_nothing_wrong_with_the_units(box: Box, service: Service) -> None:
    deploy(service)
    units = [f"asgi-master@{service.name}.{kind}" for kind in ("service", "socket")]
    complaints = box.attempt("systemd-analyze", "verify", "--man=no", *units).stderr.splitlines()
    unknown_here = "notify-reload" if box.version < 253 else "\n"
    assert [line for line in complaints if "asgi-master" in line and unknown_here not in line] == []


def test_the_unit_is_as_tight_as_it_says(box: Box) -> None:
    """The number in the unit's comment is the one that systemd gives, in tenths; newer versions rate more things."""
    stated = re.search(r"rates this ([\d.]+) \(OK\)", (UNITS / "asgi-master@.service").read_text())
    assert stated is not None
    threshold = round(float(stated[1]) * 10)
    unit = "/etc/systemd/system/asgi-master@.service"
    box.run("systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}", "--no-pager", unit)


def test_what_the_drop_ins_say_is_understood(service: Service) -> None:
    for example in sorted((UNITS / "drop-ins").glob("*.conf")):
        text = (
            example.read_text().replace("#Memory", "Memory").replace("#CPU", "CPU").replace("#Tasks", "Tasks")
        )
        text = text.replace("#Limit", "Limit").replace("#OOM", "OOM")
        if example.stem != "own-user":
            service.drop_in(example.stem, text)
    deploy(service, workers=1, bind=["127.0.0.1:81"]).start()
    assert service.show("Type") == "notify"
    assert service.show("MemoryHigh") == str(1 << 30)
    assert service.show("TasksMax") == "512"
    warnings = service.box.run("journalctl", "-o", "cat", "-p", "warning", "--no-pager", "_PID=1")
    assert [line for line in warnings.splitlines() if ".d/" in line] == []
