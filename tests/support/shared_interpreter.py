"""An interpreter that any user can run: where it is installed below a private directory, as a namespace shows it."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"

_SCRIPT = r"""
set -e
hidden=$1; shift
hold=$(mktemp -d)
number=0
for place in $1; do
    number=$((number + 1))
    mkdir "$hold/$number"
    mount --bind "$place" "$hold/$number"
done
mount -t tmpfs -o mode=755 tmpfs "$hidden"
number=0
for place in $1; do
    number=$((number + 1))
    mkdir -p "$place"
    mount --move "$hold/$number" "$place"
    rmdir "$hold/$number"
done
rmdir "$hold"
cd "$PWD"
shift
exec "$@"
"""
"""Covers a private directory with one that everybody may enter, with only what the interpreter needs in it."""


def program_for_anybody() -> tuple[str, ...] | str:
    """The command that is this interpreter, for any user to go on with; or why it cannot be had here."""
    places = {Path(place).resolve() for place in (sys.base_prefix, sys.prefix, SOURCE)}
    hidden = {barrier for place in places if (barrier := _barrier(place)) is not None}
    if not hidden:
        return (sys.executable,)
    if os.geteuid() != 0 or len(hidden) > 1:
        return f"other users cannot reach the interpreter or the source: {', '.join(map(str, hidden))} is private"
    (barrier,) = hidden
    shown = " ".join(str(place) for place in places if place.is_relative_to(barrier))
    unshare = shutil.which("unshare")
    if unshare is None:
        return "unshare is not installed, and other users cannot reach the interpreter"
    command = (
        unshare,
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        _SCRIPT,
        "sh",
        str(barrier),
        shown,
        sys.executable,
    )
    tried = subprocess.run([*command, "-c", ""], capture_output=True, text=True, timeout=30)
    return command if tried.returncode == 0 else f"no mount namespace to be had: {tried.stderr.strip()}"


def _barrier(place: Path) -> Path | None:
    """The directory on the way to the place that others may not enter."""
    for directory in (*reversed(place.parents), place):
        if not directory.stat().st_mode & stat.S_IXOTH:
            return directory
    return None
