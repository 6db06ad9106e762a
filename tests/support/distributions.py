"""Judge what `make dist` built: `python tests/distributions.py DIRECTORY [TAG]`.

The wheel holds the package, typed, and nothing else. Wheel and sdist install into an empty environment each, and serve
from there. The version is that of the tag, if one is given.
"""

import email
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"from a distribution"})
"""
PATIENCE = 60


def main() -> None:
    directory, tag = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    (wheel,), (sdist,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    version = judge_wheel(wheel)
    judge_sdist(sdist, version)
    if tag and tag != f"v{version}":
        sys.exit(f"the tag is {tag}, the version {version}")
    for distribution in (wheel, sdist):
        serve_from(distribution, version)
        print(f"{distribution.name}: installs, serves, stops")


def judge_wheel(wheel: Path) -> str:
    """Look at its files; returns its version."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(archive.read(metadata))
    strange = [name for name in names if not re.match(r"asgi_master/|asgi_master-[^/]+\.dist-info/", name)]
    assert not strange, f"{wheel.name} holds {strange}"
    assert "asgi_master/py.typed" in names, f"{wheel.name} is not typed"
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]
    assert any(name.endswith("/licenses/LICENSE") for name in names), f"{wheel.name} holds no licence"
    return str(told["Version"])


def judge_sdist(sdist: Path, version: str) -> None:
    """Look for what it takes to build and test it."""
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
    root = f"asgi_master-{version}"
    for wanted in (
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "Makefile",
        "src/asgi_master/py.typed",
        "tests/support/fleet.py",
    ):
        assert f"{root}/{wanted}" in names, f"{sdist.name} lacks {wanted}"


def serve_from(distribution: Path, version: str) -> None:
    """Install it into an empty environment, and have it answer."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        programs = Path(directory, "bin")
        run(programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", distribution)
        run(programs / "python", "-m", "pip", "check")
        assert run(programs / "asgi-master", "--version").split() == ["asgi-master", version]
        assert run(programs / "asgi-masterctl", "--version").split() == ["asgi-masterctl", version]
        Path(directory, "distributed.py").write_text(APPLICATION)
        command: list[str | Path] = [
            programs / "asgi-master",
            "--bind",
            "127.0.0.1:0",
            "--app-dir",
            directory,
            "distributed:app",
        ]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with subprocess.Popen(
            command, cwd=directory, env=environment, stderr=subprocess.PIPE, text=True
        ) as master:
            try:
                assert master.stderr is not None
                lines: list[str] = []
                for line in master.stderr:
                    lines.append(line)
                    if "ready: " in line:
                        break
                url = re.search(r"listening on (\S+)", "".join(lines))
                assert url is not None, "it did not start:\n" + "".join(lines)
                with build_opener(ProxyHandler({})).open(url[1], timeout=PATIENCE) as answer:
                    assert answer.read() == b"from a distribution"
            finally:
                master.send_signal(signal.SIGTERM)
                master.communicate(timeout=PATIENCE)
        assert master.returncode == 0, f"exit status {master.returncode}"


def run(*command: str | Path) -> str:
    """What it prints. Raises `CalledProcessError`."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
