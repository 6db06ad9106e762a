"""What an import depended on: whether files are as they were, so that what was imported from them still holds."""

import ast
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from asgi_master.records import mutable_record

Stamp = tuple[int, int, int] | None
"""Time of change, size and inode; `None` for what is not there."""


def stamp(path: str) -> Stamp:
    """The file's or directory's."""
    try:
        status = os.stat(path)  # noqa: PTH116 -- for a thousand files
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@mutable_record
class Stamps:
    """Files and directories as they were."""

    taken: dict[str, Stamp]

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Stamps":
        """As they are now."""
        return cls({path: stamp(path) for path in paths})

    def changed(self) -> list[str]:
        """Those that are not as they were."""
        return [path for path, before in self.taken.items() if stamp(path) != before]


def surroundings(env_file: str, directory: str) -> list[str]:
    """What the import of any module depends on: the interpreter, where packages are installed, environment files."""
    found = [sys.executable, str(Path(sys.prefix, "pyvenv.cfg"))]
    found += [os.path.realpath(entry) for entry in sys.path if entry and _is_for_packages(entry)]
    found += [env_file] if env_file else []
    found += [str(Path(directory, name)) for name in (".env", ".env.local", ".flaskenv", "settings.toml")]
    return found


def _is_for_packages(entry: str) -> bool:
    """A directory that source files are edited in changes with each save."""
    return any(part in {"site-packages", "dist-packages"} for part in Path(entry).parts)


def source_of(module: ModuleType) -> str:
    """The file that it was loaded from; empty if there is none."""
    spec = getattr(module, "__spec__", None)
    return spec.origin if spec is not None and spec.has_location and spec.origin else ""


def imports_in(source: bytes) -> set[str] | None:
    """The modules and names that a source file imports anywhere; `None` if it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            found.update(f"{origin}:{alias.name}" for alias in node.names)
    return found


@mutable_record
class Source:
    """A file of the application, as it was when its imports were learnt."""

    stamp: Stamp
    imports: set[str] | None

    @classmethod
    def read(cls, path: str) -> "Source":
        """As it is now."""
        before = stamp(path)
        try:
            return cls(before, imports_in(Path(path).read_bytes()))
        except OSError:
            return cls(None, None)

    def dropped(self, path: str) -> str:
        """An import that it had and has not any more; empty if there is none.

        A file that is no Python any more fails to import whatever else is loaded.
        """
        if stamp(path) == self.stamp:
            return ""
        now = Source.read(path)
        if now.imports is None or self.imports is None:
            return ""
        return min(self.imports - now.imports, default="")
