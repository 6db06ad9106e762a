"""Started as root, serving as somebody else: ports and keys are the master's, the application is the user's."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from fleet import APPS, PATIENCE, Fleet, wait_until
from shared_interpreter import program_for_anybody

pytestmark = pytest.mark.newest_python

NOBODY = pwd.getpwnam("nobody")
RAN_AS_ROOT = "the application runs as root"


@pytest.fixture(scope="module")
def program() -> tuple[str, ...]:
    if os.geteuid() != 0:
        pytest.skip("only root can run the application as another user")
    found = program_for_anybody()
    if isinstance(found, str):
        pytest.skip(found)
    return (*found, "-m", "asgi_master")


@pytest.fixture
def dropping() -> Iterator[Fleet]:
    """A fleet in a directory that everybody may enter."""
    directory = Path(tempfile.mkdtemp(prefix="asgi-master-rights-"))
    directory.chmod(0o755)
    fleet = Fleet(directory)
    try:
        yield fleet
        fleet.close()
    finally:
        shutil.rmtree(directory)


def serve(fleet: Fleet, program: tuple[str, ...], *arguments: str, **start) -> Fleet:
    return fleet.serve(
        "rights:app", "--user", "nobody", "--watch-time", "0", *arguments, program=program, **start
    )


def rights(fleet: Fleet) -> dict:
    with fleet.client() as client:
        return client.get("/").json()


def uids(fleet: Fleet) -> set[int]:
    """Of all zygotes and workers."""
    pids = [worker.pid for worker in fleet.workers()] + [zygote.pid for zygote in fleet.zygotes()]
    return {uid for pid in pids for uid in psutil.Process(pid).uids()}


def test_the_application_has_the_rights_of_the_user_and_no_others(
    dropping: Fleet, program: tuple[str, ...]
) -> None:
    secret = dropping.directory / "secret.env"
    secret.write_text("SECRET=of root\n")
    secret.chmod(0o600)
    serve(dropping, program, "--umask", "027", "--env-file", str(secret))
    told = rights(dropping)
    assert told["import"]["uid"] == NOBODY.pw_uid
    assert told["uids"] == [NOBODY.pw_uid] * 3
    assert told["gids"] == [NOBODY.pw_gid] * 3
    assert told["groups"] == sorted(os.getgrouplist("nobody", NOBODY.pw_gid))
    assert told["umask"] == 0o027
    assert {int(bits, 16) for bits in told["capabilities"]} == {0}
    assert int(told["bounding set"], 16) == 0
    assert told["no_new_privs"] == "1"
    assert told["environment"] == {"HOME": NOBODY.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}
    assert told["secret"] == "of root"
    assert told["becomes root"] == "Operation not permitted"
    assert told["signals the master"] == "Operation not permitted"
    assert told["opens its output"] == ["done", "done"]
    assert told["reads of itself"] == ["done"] * 3
    assert uids(dropping) == {NOBODY.pw_uid}
    assert psutil.Process(dropping.pid).uids().real == 0


def test_low_ports_and_sockets_on_a_reload(dropping: Fleet, program: tuple[str, ...], free_port: int) -> None:
    """The master still can: it is root."""
    path, config = dropping.directory / "app.sock", dropping.directory / "asgi-master.toml"
    first = f"127.0.0.1:{free_port}"
    low = next(port for port in (987, 986, 985, 984) if not is_taken(port))
    config.write_text(f'bind = ["{first}"]\n')
    arguments = [
        "--user",
        "nobody",
        "--watch-time",
        "0",
        "--app-dir",
        str(APPS),
        "--workers",
        "2",
        "rights:app",
    ]
    dropping.start(*arguments, program=program).wait_ready(2)
    config.write_text(f'bind = ["{first}", "127.0.0.1:{low}", "unix:{path}"]\n')
    dropping.send(signal.SIGHUP)
    dropping.wait_line("reloaded: 2 workers")
    dropping.wait_settled(2)
    assert (
        httpx.get(f"http://127.0.0.1:{low}/", trust_env=False, timeout=PATIENCE).json()["uids"][0]
        == NOBODY.pw_uid
    )
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert stat.S_IMODE(found.st_mode) == 0o660
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://app/").json()["uids"][0] == NOBODY.pw_uid
    dropping.stop_cleanly()
    assert not path.exists()


def is_taken(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def test_reloads_upgrades_and_replacements_stay_with_the_user(
    dropping: Fleet, program: tuple[str, ...]
) -> None:
    pid_file = dropping.directory / "pid"
    control = dropping.directory / "control.sock"
    serve(dropping, program, "--pid-file", str(pid_file), "--control-socket", str(control))
    assert (control.stat().st_uid, stat.S_IMODE(control.stat().st_mode)) == (0, 0o600)
    dropping.send(signal.SIGUSR2)
    dropping.wait_line("upgraded to asgi-master")
    dropping.wait_line("reloaded: 2 workers")
    dropping.wait_settled(2)
    assert uids(dropping) == {NOBODY.pw_uid}
    assert int(pid_file.read_text()) == dropping.pid
    dropping.expect_log(r"worker 0 .*killed by SIGKILL")
    before = dropping.workers()
    os.kill(before[0].pid, signal.SIGKILL)
    dropping.wait_workers(
        lambda now: len(now) == 2 and before[0].pid not in {worker.pid for worker in now}, "it is replaced"
    )
    assert uids(dropping) == {NOBODY.pw_uid}
    assert rights(dropping)["uids"] == [NOBODY.pw_uid] * 3


def test_a_master_that_may_not_give_up_capabilities(dropping: Fleet, program: tuple[str, ...]) -> None:
    """As in a container that has but those which the change of the user takes."""
    *covered, python, module, name = program
    least = ("setpriv", "--bounding-set", "-setpcap", "--inh-caps", "-setpcap", "--", python, module, name)
    serve(dropping, (*covered, *least))
    told = rights(dropping)
    assert int(told["bounding set"], 16) != 0
    assert (told["uids"], told["no_new_privs"]) == ([NOBODY.pw_uid] * 3, "1")
    assert {int(bits, 16) for bits in told["capabilities"]} == {0}


@pytest.mark.parametrize("case", ["no preload", "a thread was left"])
def test_workers_that_import_for_themselves(dropping: Fleet, program: tuple[str, ...], case: str) -> None:
    """Also where the zygote begins again in a fresh image, as the user already."""
    if case == "no preload":
        serve(dropping, program, "--preload", "off")
    else:
        # It has read what only root may read before that.
        secret = dropping.directory / "secret.env"
        secret.write_text("LEAVES_A_THREAD=1\n")
        secret.chmod(0o600)
        dropping.expect_log("does not survive a fork")
        serve(dropping, program, "--env-file", str(secret))
    told = rights(dropping)
    assert told["import"] == {"uid": NOBODY.pw_uid, "pid": told["pid"]}
    assert told["no_new_privs"] == "1"
    assert uids(dropping) == {NOBODY.pw_uid}


def test_a_killed_master_takes_its_fleet_along(dropping: Fleet, program: tuple[str, ...]) -> None:
    """A change of the user clears the signal that says so: it is set again."""
    (dropping.directory / "slow.py").write_text(
        "import time; print('importing', flush=True); time.sleep(60)\n"
    )
    dropping.start("--bind", "127.0.0.1:0", "--user", "nobody", "slow:app", program=program)
    wait_until(lambda: "importing" in dropping.output, "the import began")
    assert uids(dropping) == {NOBODY.pw_uid}
    dropping.kill_master()


def test_a_worker_of_a_killed_master_drains(dropping: Fleet, program: tuple[str, ...]) -> None:
    serve(dropping, program)
    dropping.expect_log("master is gone")
    dropping.kill_master()


def test_an_unused_uid(dropping: Fleet, program: tuple[str, ...]) -> None:
    arguments = ["--user", "54321", "--group", "54322", "--no-new-privs", "off"]
    dropping.serve("rights:app", *arguments, program=program)
    told = rights(dropping)
    assert (told["uids"], told["gids"], told["groups"]) == ([54321] * 3, [54322] * 3, [54322])
    assert told["environment"] == {"HOME": "/", "USER": None, "LOGNAME": None}
    assert told["no_new_privs"] == "0"
    assert int(told["bounding set"], 16) != 0, "or sudo would not work"


def test_a_directory_that_the_user_may_not_enter(dropping: Fleet, program: tuple[str, ...]) -> None:
    dropping.directory.chmod(0o700)
    dropping.expect_log("cannot enter the working directory .*: Permission denied", "ERROR|CRITICAL")
    dropping.start(
        "--bind", "127.0.0.1:0", "--user", "nobody", "--app-dir", str(APPS), "rights:app", program=program
    )
    assert dropping.wait_exit() == 3


def test_a_reload_from_a_directory_that_the_master_may_not_enter_any_more(
    dropping: Fleet, program: tuple[str, ...]
) -> None:
    """A deploy with wrong permissions is refused, and not the end of the service."""
    *prefix, interpreter = program[:-2]
    as_nobody = ("setpriv", "--reuid=nobody", f"--regid={NOBODY.pw_gid}", "--clear-groups", interpreter)
    dropping.serve(
        program=(*prefix, *as_nobody, "-m", "asgi_master"), env={"ASGI_MASTER_USER": ""}, app_dir=APPS
    )
    dropping.expect_log("cannot be read: Permission denied")
    dropping.directory.chmod(0o700)
    dropping.send(signal.SIGHUP)
    dropping.wait_line("SIGHUP: not reloading: .*asgi-master.toml: cannot be read: Permission denied")
    dropping.directory.chmod(0o755)
    with dropping.client() as client:
        assert client.get("/").text == "hello\n"
    dropping.send(signal.SIGHUP)
    dropping.wait_line("reloaded: 2 workers serving generation 2")


LIAR = """
import os, socket

async def app(scope, receive, send):
    for name in os.listdir("/proc/self/fd") if scope["path"] == "/lie" else []:
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with sock:
            if sock.type == socket.SOCK_SEQPACKET:
                sock.send(b'["Forked", {"pid": %d}]' % int(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"said"})
"""


def test_a_false_report_to_the_master_signals_no_other_process(
    dropping: Fleet, program: tuple[str, ...]
) -> None:
    """The master is root, and the application can find the worker's end of its channel."""
    dropping.serve_source(LIAR, "--user", "nobody", program=program, workers=1)
    [worker] = dropping.workers()
    dropping.expect_log("sent WorkerForked twice; it is killed", "died after serving", "hand-off")
    with subprocess.Popen(["sleep", "60"]) as victim:
        with dropping.client() as client, contextlib.suppress(httpx.RemoteProtocolError):
            client.get(f"/lie?{victim.pid}")
        dropping.wait_line(rf"worker 0 gen 1 \[{worker.pid}\] sent WorkerForked twice; it is killed")
        dropping.wait_line("died after serving")
        dropping.wait_workers(lambda seen: len(seen) == 1 and seen != [worker], "a successor")
        with dropping.client() as client:
            assert client.get("/").text == "said"
        assert victim.poll() is None
        victim.kill()


def test_an_interpreter_that_the_user_cannot_read(dropping: Fleet) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can run the application as another user")
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(os.__file__).parents):
        pytest.skip("everybody can read this interpreter's library")
    dropping.expect_log("cannot read Python's own library", "ERROR|CRITICAL")
    dropping.start("--bind", "127.0.0.1:0", "--user", "nobody", "--app-dir", str(APPS), "rights:app")
    assert dropping.wait_exit() == 3
    dropping.wait_line("nobody cannot read Python's own library in .*: use an interpreter that")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--user", "no-such-user"], 'user: there is no user "no-such-user" here'),
        (["--user", "root", "--group", "no-such-group"], 'group: there is no group "no-such-group" here'),
        (["--user", "54321"], "give group too"),
    ],
)
def test_who_does_not_exist_is_refused(fleet: Fleet, arguments: list[str], line: str) -> None:
    fleet.start(*arguments, "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "rights:app")
    fleet.expect_log(".*")
    assert fleet.wait_exit() == 2
    assert line in fleet.log


def test_only_root_can_become_another(dropping: Fleet, program: tuple[str, ...]) -> None:
    command = [
        "setpriv",
        "--reuid",
        "nobody",
        "--regid",
        str(NOBODY.pw_gid),
        "--clear-groups",
        "--",
        "env",
        "-C",
    ]
    *covered, python, module, name = program
    inside = (*covered, *command, str(dropping.directory), python, module, name)
    dropping.start(
        "--user", "daemon", "--bind", "127.0.0.1:0", "--app-dir", str(APPS), "rights:app", program=inside
    )
    assert dropping.wait_exit() == 2
    assert (
        f"only root can run the application as another user, and this is uid {NOBODY.pw_uid}" in dropping.log
    )


def test_the_same_user_is_no_change(dropping: Fleet, program: tuple[str, ...]) -> None:
    *covered, python, module, name = program
    command = ["setpriv", "--reuid", "nobody", "--regid", str(NOBODY.pw_gid), "--clear-groups", "--"]
    serve(dropping, (*covered, *command, python, module, name), "--control-socket", "off")
    assert rights(dropping)["uids"] == [NOBODY.pw_uid] * 3


def test_root_is_warned_of_unless_it_is_meant(fleet: Fleet) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root is warned")
    fleet.expect_log(RAN_AS_ROOT)
    fleet.serve("rights:app", workers=1, env={"ASGI_MASTER_USER": ""})
    assert RAN_AS_ROOT in fleet.log
    assert rights(fleet)["no_new_privs"] == "0"


def test_the_access_log_is_a_file_of_root_that_workers_write_to(
    dropping: Fleet, program: tuple[str, ...]
) -> None:
    logs = dropping.directory / "logs"
    logs.mkdir(mode=0o700)
    file, old = logs / "access.txt", logs / "access.txt.1"
    serve(dropping, program, "--access-log-file", str(file), "--access-log-format", "%(U)s")
    rights(dropping)
    wait_until(lambda: file.read_text() == "/\n", "the first line")
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o640)
    file.rename(old)
    dropping.send(signal.SIGUSR1)
    dropping.wait_line("access log: .* reopened")
    rights(dropping)
    wait_until(lambda: file.read_text() == "/\n", "the line in the new file")
    assert old.read_text() == "/\n"
