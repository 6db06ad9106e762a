"""How to start another interpreter like this one: the same options and path, of the release that is current by then.

A release behind a symbolic link often holds the virtual environment that this program was started from. Its scripts and
its Python are known by the folder they were made in, which is that of the release, not by the link that led to it. So
where the working directory or the command went through a link, a path below its target is read as one below the link.
"""

import errno
import os
import site
import sys
from collections.abc import Iterable, Iterator, Sequence

_WITH_VALUE = "WX"
_NOT_AN_OPTION = "cm"
_OF_THE_COMMAND = "ix"
"""Options that mean the command they were given with: to stay interactive, to skip the first line of the source."""

_BEGIN = """\
import runpy, sys
sys.path[:0] = [entry for entry in {front!r} if entry not in sys.path]
sys.path += [entry for entry in {back!r} if entry not in sys.path]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


class Interpreter:
    """This interpreter, as it was started."""

    def __init__(self) -> None:
        self._links: list[tuple[str, str]] = []
        self._options = options_of(sys.orig_argv[1:])
        self._front, self._back = _own_path()

    def follow(self, started_in: str, *directories: str) -> None:
        """Have paths below what these, and the command's words, lead to now be read by their names from here on.

        Relative words mean the directory `started_in`.
        """
        words = [os.path.join(started_in, word) for word in (sys.orig_argv[0], sys.argv[0]) if "/" in word]
        names = [started_in, *directories, *(os.path.dirname(step) for step in _steps(words))]
        # The nearest first: one far above does not tell releases apart.
        self._links = sorted(_links(names), key=lambda link: -len(link[1]))

    def command(self, module: str, *arguments: str) -> list[str]:
        """The words that run a module with this interpreter. Raises `OSError` if there is none any more."""
        front, back = ([self._now(entry) for entry in entries] for entries in (self._front, self._back))
        run = ["-m", module]
        if front or back:
            run = ["-c", _BEGIN.format(front=front, back=back, module=module)]
        return [self._program(), *self._options, "-P", *run, *arguments]

    def by_name(self, path: str) -> str:
        """The path as the names that are followed have it, if something is there now."""
        for name, target in self._links:
            if path.startswith(f"{target}/") and os.path.exists(named := name + path[len(target) :]):
                return named
        return path

    def _program(self) -> str:
        """Pinned to its release: what it imports later must not come from the next one."""
        program = self.by_name(sys.executable)
        if not os.access(program, os.X_OK):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
        return os.path.join(os.path.realpath(os.path.dirname(program)), os.path.basename(program))

    def _now(self, entry: str) -> str:
        return os.path.realpath(self.by_name(entry))


def options_of(words: Sequence[str]) -> list[str]:
    """The interpreter's own options among the words after it."""
    options: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            break
        if word.startswith("--"):
            options.append(word)
            if "=" not in word:
                options.extend(value for value in [next(rest, None)] if value is not None)
            continue
        kept = ""
        for place, letter in enumerate(word[1:], 1):
            if letter in _NOT_AN_OPTION:
                return [*options, *([f"-{kept}"] if kept else [])]
            if letter in _WITH_VALUE:
                value = word[place + 1 :] or next(rest, "")
                options += [*([f"-{kept}"] if kept else []), f"-{letter}{value}"]
                kept = ""
                break
            if letter not in _OF_THE_COMMAND:
                kept += letter
        if kept:
            options.append(f"-{kept}")
    return options


def _own_path() -> tuple[list[str], list[str]]:
    """The entries of `sys.path` that another interpreter would not have by itself: before and after those it would."""
    inherited = {os.path.abspath(entry) for entry in _inherited_path()}
    scripts = os.path.dirname(
        sys.executable
    )  # first on the path of a console script, which means no module there
    front: list[str] = []
    back: list[str] = []
    side = front
    for entry in sys.path:
        if not entry:
            continue
        path = os.path.abspath(entry)
        if path in inherited:
            side = back
        elif path not in side and path != scripts:
            side.append(path)
    return front, back


def _inherited_path() -> Iterator[str]:
    if not sys.flags.ignore_environment:
        yield from filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    library = os.path.dirname(os.__file__)
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    yield from (library, os.path.join(library, "lib-dynload"))
    yield os.path.join(os.path.dirname(library), f"python{version}.zip")
    if not sys.flags.no_site:
        yield from site.getsitepackages()
        if site.ENABLE_USER_SITE:
            yield site.getusersitepackages()


def _steps(words: Iterable[str]) -> Iterator[str]:
    """Each of these files by its name, and by what it links to, and so on."""
    for word in words:
        step = word
        for _ in range(8):
            yield step
            try:
                step = os.path.join(os.path.dirname(step), os.readlink(step))
            except OSError:
                break


def _links(directories: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Where the names of these directories differ from what they lead to: both, as far up as they end alike."""
    for directory in directories:
        name, target = directory.rstrip("/"), os.path.realpath(directory)
        while os.path.basename(name) == os.path.basename(target):
            above = os.path.dirname(name), os.path.dirname(target)
            if above == (name, target) or os.path.realpath(above[0]) != above[1]:
                break
            name, target = above
        if name != target:
            yield name, target
