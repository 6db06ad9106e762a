"""The working directory, by the path that it was entered by: a deploy may switch a symbolic link in that path."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def working_directory(environ: Mapping[str, str], command: Sequence[str] | None = None) -> Path:
    """The directory in which this program was started, by the path it was entered by, as far as that can be found.

    The kernel knows the directory, not the path that led there. A shell keeps the path in PWD. A service manager, which
    only changes the directory, may have the path in its `command` (by default this program's). Otherwise, if exactly
    one symbolic link beside the directory or above it leads here, that link is assumed.
    """
    here = _here()
    if _leads_to(environ.get("PWD", ""), here):
        return Path(environ["PWD"])
    for word in sys.orig_argv if command is None else command:
        path = Path(word.partition("=")[2] if word.startswith("--") else word)
        for name in (path, *path.parents):
            if name != here and _leads_to(str(name), here):
                return name
    return _linked(here) or here


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed, and has this as its name
        return Path("/proc/self/cwd").readlink()


def _leads_to(name: str, here: Path) -> bool:
    try:
        return name.startswith("/") and Path(name).samefile(here)
    except (OSError, ValueError):
        return False


def _linked(here: Path) -> Path | None:
    """The path that leads here by the one link to the last component that has any.

    Links to releases are expected beside that component, or beside its parent.
    """
    for part in (here, *here.parents):
        links = [link for folder in list(part.parents)[:2] for link in _links_in(folder)]
        names = [link / here.relative_to(part) for link in links if os.path.realpath(link) == str(part)]
        if names:
            return names[0] if len(names) == 1 else None
    return None


def _links_in(folder: Path) -> Iterator[Path]:
    """The symbolic links in a folder, if only users who can change their targets can create links there."""
    try:
        status = folder.stat()
        if folder == folder.parent or status.st_mode & stat.S_ISVTX:
            return
        with os.scandir(folder) as entries:
            yield from [Path(entry.path) for entry in entries if entry.is_symlink()]
    except OSError:
        return
