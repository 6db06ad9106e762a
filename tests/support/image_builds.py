"""Real images, built and run by buildah and podman without a registry, in namespaces of their own. Needs root.

The base image is made of this very interpreter and what it is linked with, under the name that the Dockerfile says,
and holds wheels made of the packages that are installed here.
"""

import contextlib
import ensurepip
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asgi_master import __version__
from fleet import SOURCE
from proxies import find

TOOLS = ("podman", "buildah", "crun", "unshare")
_NEEDED = ("bin/sh", "bin/sleep")
_LEFT_OUT = re.compile(r"(^|/)(test|tests|idlelib|turtledemo|site-packages|.*\.a|.*\.opt-.\.pyc)$")
"""Not the bytecode: without it each start in a container compiles what it imports."""

_ISOLATED = r"""
set -e
place=$1
shift
ip link set lo up
# crun refuses a second hierarchy beside the first version's.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock "$place/store"
mount -t tmpfs tmpfs "$place/store"
exec "$@"
"""


def why_not() -> str:
    """Why no image can be built here; empty if one can."""
    if os.geteuid() != 0:
        return "building an image here needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install podman buildah crun)"
    if not list(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")):
        return "this interpreter comes without a pip to make virtual environments with"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlayfs"
    return ""


class ImageLab:
    """A place where `podman` and `buildah` work."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "tmp").mkdir()
        open_files = subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True).stdout.strip()
        limit = "1048576" if open_files == "unlimited" else open_files
        (place / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={limit}:{limit}", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "crun"\n'
            f'image_copy_tmp_dir = "{place}/tmp"\n'
        )
        (place / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/store"\nrunroot = "/run/containers"\n'
        )
        (place / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')

    def run(self, script: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a shell script there. All that it leaves running ends with it."""
        command = [
            *(
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--pid",
                "--net",
                "--fork",
                "--kill-child=KILL",
            ),
            *("--mount-proc", "--propagation", "private"),
            *("sh", "-c", _ISOLATED, "sh", str(self.place), "sh", "-euc", script),
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place),
            "TMPDIR": str(self.place / "tmp"),
            "CONTAINERS_CONF": str(self.place / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.place / "storage.conf"),
        }
        return subprocess.run(
            command, env=environment, cwd=self.place, capture_output=True, text=True, timeout=timeout
        )

    def close(self) -> None:
        """Remove what the engines made."""
        tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
        for top in tops:
            for name in ("libpod_parent", *(found.name for found in top.glob("buildah*"))):
                with contextlib.suppress(OSError):
                    for directory, _names, _files in os.walk(top / name, topdown=False):
                        Path(directory).rmdir()


def write_base_image(file: Path, distributions: list[str]) -> None:
    """A tar of the interpreter, a shell, what they are linked with, and wheels of these packages and of ours."""
    with tarfile.open(file, "w") as tar:
        for directory in ("tmp", "proc", "sys", "dev", "run", "etc", "wheels"):
            _add(tar, directory, mode=0o1777 if directory == "tmp" else 0o755)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        base, interpreter = Path(sys.base_prefix).resolve(), Path(os.path.realpath(sys.executable))
        programs = [Path("/") / name for name in _NEEDED]
        stdlib = Path(sysconfig.get_path("stdlib"))
        extensions = [*stdlib.glob("lib-dynload/*.so"), *_extensions(distributions)]
        libraries = {
            library for path in (*programs, interpreter, *extensions) for library in _libraries(path)
        }
        for path in (*programs, *sorted(libraries)):
            _add(tar, str(path).lstrip("/"), Path(os.path.realpath(path)).read_bytes(), mode=0o755)
        _add_tree(tar, base)
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"usr/local/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(interpreter)
            tar.addfile(link)
        for name, content in (_own_wheel(), *(_wheel_of(name) for name in distributions)):
            _add(tar, f"wheels/{name}", content)


def write_nginx_image(file: Path) -> None:
    """A tar of this host's nginx and what it is linked with, laid out as the official image is."""
    main = "user nobody nogroup; error_log stderr; events {} http { access_log off; include /etc/nginx/conf.d/*.conf; }"
    nginx = Path(find("nginx"))
    with tarfile.open(file, "w") as tar:
        for directory in (
            "tmp",
            "proc",
            "sys",
            "dev",
            "run",
            "etc/nginx/conf.d",
            "var/log/nginx",
            "var/lib/nginx",
        ):
            _add(tar, directory, mode=0o755)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534::/:/bin/false\n")
        _add(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        _add(tar, "etc/nginx/nginx.conf", main.encode())
        for path in (nginx, *sorted(_libraries(nginx))):
            _add(tar, str(path).lstrip("/"), Path(os.path.realpath(path)).read_bytes(), mode=0o755)


def closure(names: list[str]) -> Iterator[str]:
    """The distributions of these names and all that they require here."""
    seen, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen:
            continue
        seen.add(key)
        yield key
        for requirement in importlib.metadata.requires(name) or []:
            word, _, marker = requirement.partition(";")
            if (
                "extra" in marker
                or "platform" in marker
                or "python_version" in marker
                or "implementation" in marker
            ):
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    if "extra" not in marker:
                        importlib.metadata.distribution(_name(word))
                        waiting.append(_name(word))
                continue
            waiting.append(_name(word))


def own_requirements() -> list[str]:
    """The names of what asgi-master requires."""
    return [_name(requirement) for requirement in _project()["dependencies"]]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    return project


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    assert match is not None
    return match[0]


def _wheel_of(name: str) -> tuple[str, bytes]:
    """A wheel of what is installed."""
    found = importlib.metadata.distribution(name)
    tags = re.findall(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in found.files or []:
            path = Path(str(found.locate_file(file)))
            outside = file.parts[0] == ".." or "__pycache__" in file.parts
            if outside or not path.is_file() or file.name in {"INSTALLER", "REQUESTED", "direct_url.json"}:
                continue
            archive.write(path, str(file))
    safe = re.sub(r"[-_.]+", "_", found.metadata["Name"])
    return f"{safe}-{found.version}-{_one_tag(tags)}.whl", buffer.getvalue()


def _one_tag(tags: list[str]) -> str:
    """As file names have it: `py3-none-any`, with alternatives joined by dots."""
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)


def _own_wheel() -> tuple[str, bytes]:
    """A wheel of the source, as far as pip looks at it."""
    project = _project()
    stem, info = f"asgi_master-{__version__}", f"asgi_master-{__version__}.dist-info"
    required = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    scripts = "".join(f"{name} = {target}\n" for name, target in project["scripts"].items())
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: asgi-master\nVersion: {__version__}\n{required}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted((SOURCE / "asgi_master").rglob("*.py")):
            archive.write(path, str(path.relative_to(SOURCE)))
        for name, text in files.items():
            archive.writestr(name, text)
        names = [*archive.namelist(), f"{info}/RECORD"]
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return f"{stem}-py3-none-any.whl", buffer.getvalue()


def _extensions(distributions: list[str]) -> Iterator[Path]:
    """The modules in machine code of these packages."""
    for name in distributions:
        found = importlib.metadata.distribution(name)
        yield from (Path(str(found.locate_file(file))) for file in found.files or [] if file.suffix == ".so")


def _libraries(program: Path) -> set[Path]:
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(?:=> )?(/\S+) \(0x", told)}


def _add(tar: tarfile.TarFile, name: str, content: bytes | None = None, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.mode = mode
    if content is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(content)
    tar.addfile(member, io.BytesIO(content or b""))


def _add_tree(tar: tarfile.TarFile, base: Path) -> None:
    """The interpreter's files where they are, on a way that every user may go."""
    for parent in (*reversed(base.parents[:-1]), base, base / "lib"):
        _add(tar, str(parent).lstrip("/"), mode=0o755)

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if _LEFT_OUT.search(member.name):
            return None
        member.mode |= 0o555 if member.isdir() or member.mode & 0o100 else 0o444
        member.uid = member.gid = 0
        return member

    interpreter = Path(os.path.realpath(sys.executable))
    _add(tar, str(interpreter.parent).lstrip("/"), mode=0o755)
    for path in (interpreter, Path(sysconfig.get_path("stdlib"))):
        tar.add(path, str(path).lstrip("/"), filter=plain)
