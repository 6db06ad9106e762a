"""The shipped Dockerfile and compose file, built and run for real where podman and buildah are.

Both in one place, one after the other: the second build takes the layers of the first (`--layers`).
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import REPOSITORY
from image_builds import (
    ImageLab,
    closure,
    own_requirements,
    why_not,
    write_base_image,
    write_nginx_image,
)

DEPLOY = REPOSITORY / "deploy"
PLACE = DEPLOY / "docker"
COMPOSER = Path(sys.prefix, "bin", "podman-compose")

IMAGE = r"""
base=$(sed -n 's/^FROM \(\S*\)$/\1/p' deploy/docker/Dockerfile)
podman import -q base.tar "$base" >&2
buildah bud -q --layers --format docker --pull=never --network=none -t localhost/web deploy/docker >&2
podman inspect localhost/web -f 'image: user={{.Config.User}} entrypoint={{.Config.Entrypoint}} stop={{.Config.StopSignal}}'
tell() { podman exec "$1" python -I -c "$2" || echo "failed: $2"; }

name=$(podman run -d --network=none --read-only --read-only-tmpfs=false --cap-drop=all --memory=256m --cpus=1 \
    --pids-limit=64 localhost/web)
for _ in $(seq 200); do
    podman logs "$name" 2>&1 | grep -qE 'ready: |Error' && break
    sleep 0.1
done
podman logs "$name" 2>&1 | sed 's/^/log: /'
tell "$name" 'import os; print("process 1: uid", os.stat("/proc/1").st_uid, open("/proc/1/cmdline").read().split()[0])'
tell "$name" 'import urllib.request as r; print("answer:", r.urlopen("http://127.0.0.1:8000/", timeout=5).read())'
podman healthcheck run "$name" >&2 && echo "health: good"
podman stop -t 20 "$name" > /dev/null
podman inspect "$name" -f 'ended: {{.State.ExitCode}}'

status=0
podman run --rm --network=none -e ASGI_MASTER_WORKERS=none localhost/web 2>&1 || status=$?
echo "wrong settings: $status"
status=0
podman run --rm --network=none -e ASGI_MASTER_APP=nothing:app localhost/web > /dev/null 2>&1 || status=$?
echo "no application: $status"
"""


COMPOSE = r"""
image=$(sed -n 's/^    image: //p' deploy/docker/compose.yaml)
podman import -q --change 'CMD ["nginx", "-g", "daemon off;"]' nginx.tar "$image" >&2
cd deploy/docker
podman-compose --podman-build-args='--pull=never --network=none --format docker -q' up --build -d >&2
for _ in $(seq 200); do
    curl -sf http://127.0.0.1:8080/ > /dev/null && break
    sleep 0.1
done
echo "answer: $(curl -si http://127.0.0.1:8080/ | tr -d '\r' | tr '\n' ' ')"
podman inspect docker_web_1 -f 'read-only: {{.HostConfig.ReadonlyRootfs}}, limit: {{.HostConfig.Memory}}'
podman-compose stop -t 40 >&2
podman logs docker_web_1 2>&1 | sed 's/^/log: /'
podman inspect docker_web_1 -f 'ended: {{.State.ExitCode}}'
podman-compose down >&2
"""


BETWEEN = "== compose"


@pytest.fixture(scope="module")
def said() -> Iterator[tuple[list[str], list[str]]]:
    """What the image said, and what the composition did; nothing where that cannot be started here."""
    if reason := why_not():
        pytest.skip(reason)
    # In memory, and short: the paths of the engine's sockets have a limit.
    place = Path(tempfile.mkdtemp(prefix="asgi-master-image-"))
    lab = ImageLab(place)
    try:
        write_context(place)
        script = IMAGE
        if not why_no_composition():
            script += f"echo '{BETWEEN}'\nPATH={COMPOSER.parent}:$PATH\n{COMPOSE}"
        done = lab.run(script, timeout=300)
        print(done.stdout, done.stderr)
        assert done.returncode == 0
        image, _, composition = done.stdout.partition(f"{BETWEEN}\n")
        yield image.splitlines(), composition.splitlines()
    finally:
        lab.close()
        shutil.rmtree(place, ignore_errors=True)


def write_context(place: Path) -> None:
    """The shipped folders, with requirements that are found in the base image, and the images that they start from."""
    required = (PLACE / "requirements.txt").read_text()
    shutil.copytree(DEPLOY, place / "deploy")
    (place / "deploy/docker/requirements.txt").write_text(f"--no-index\n--find-links /wheels\n{required}")
    write_base_image(place / "base.tar", list(closure(own_requirements())))
    if not why_no_composition():
        write_nginx_image(place / "nginx.tar")


def why_no_composition() -> str:
    """What of the compose file's is not installed here; empty if all is."""
    missing = [name for name in ("nginx", "curl", "iptables") if shutil.which(name) is None]
    missing += [] if Path("/usr/lib/podman/netavark").exists() else ["netavark"]
    missing += [] if COMPOSER.exists() else ["podman-compose"]
    return ", ".join(missing)


@pytest.mark.timeout(400)
def test_the_image_is_built_and_runs(said: tuple[list[str], list[str]]) -> None:
    lines, _ = said
    assert "image: user=10001:10001 entrypoint=[asgi-master] stop=SIGTERM" in lines
    assert "process 1: uid 10001 asgi-master:" in lines
    assert "answer: b'hello\\n'" in lines
    assert "health: good" in lines
    assert "ended: 0" in lines
    assert "wrong settings: 2" in lines
    assert "no application: 3" in lines
    log = [line for line in lines if line.startswith("log: ")]
    assert any("ready: 1 worker" in line for line in log), "one CPU by the quota"
    assert not any("WARNING" in line or "ERROR" in line for line in log)


@pytest.mark.timeout(400)
def test_the_compose_file_starts_with_nginx_in_front(said: tuple[list[str], list[str]]) -> None:
    if missing := why_no_composition():
        pytest.skip(f"not installed: {missing}")
    _, lines = said
    (answer,) = [line for line in lines if line.startswith("answer: ")]
    assert answer.startswith("answer: HTTP/1.1 200 OK Server: nginx")
    assert answer.endswith(" hello ")
    assert f"read-only: true, limit: {512 * 1024 * 1024}" in lines
    assert "ended: 0" in lines, "it left by itself"
    log = [line for line in lines if line.startswith("log: ")]
    assert any("stopped: all processes are gone" in line for line in log)
    assert not any("WARNING" in line or "ERROR" in line for line in log)
