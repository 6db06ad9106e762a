"""Learns from an import of the application which installed modules it loads, in which order, and what it did before.

An installed module can be imported ahead of the application only if that makes no difference to it. So what the
application changed in between (the environment, `sys.path`) is learnt too, with the files whose code may have changed
it; after any other change nothing more is learnt.
"""

import contextlib
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asgi_master import codec
from asgi_master.records import mutable_record, record
from asgi_master.worker.warm.inputs import stamp
from asgi_master.worker.warm.source_tree import SourceTree

_bootstrap: Any = importlib._bootstrap  # noqa: SLF001 -- as in `import_trace`
_LOAD = "_load_unlocked"
_FILE = "<frozen importlib._bootstrap>"
_RACY = 2.0
"""Seconds: compiled code that is hardly younger than its source may be that of the source before (whose time and size
are all that Python compares)."""


@record
class Step:
    """A module to import, or what to change before the next one."""

    module: str = ""
    environ: dict[str, str | None] = field(default_factory=dict)
    """Variables to set or, with `None`, to remove."""
    path: list[str] | None = None
    """The new `sys.path`."""


@mutable_record
class Learnt:
    """What an import of the application showed."""

    steps: list[Step] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """The application's files, in the order of their import."""
    stamps: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each of these files, just before it was read (see `inputs.stamp`); zeros if it could not be looked at."""
    fixed: int = 0
    """How many of `files`, from the first, may have changed what a step repeats."""
    ended_by: str = ""
    """Why nothing more was learnt, though the import went on."""

    @property
    def modules(self) -> list[str]:
        """The installed modules."""
        return [step.module for step in self.steps if step.module]


class ImportLearner:
    """Follows the imports of the main thread while it is entered."""

    def __init__(self, tree: SourceTree, *, learns: bool = True) -> None:
        """Unless it `learns`, it only sees to it that the application's files are read as they are."""
        self.learnt = Learnt()
        self._learns = learns
        self._tree = tree
        self._running: list[tuple[str, bool]] = []
        """The modules that are being loaded, and whether each is the application's."""
        self._places: dict[str, int] = {}
        self._excluded: set[str] = set()
        self._environ: dict[str, str] = {}
        self._path: list[str] = []
        self._state: dict[str, Any] = {}
        self._bindings: dict[str, Bindings] = {}
        self._load: Callable[[Any], Any] = getattr(_bootstrap, _LOAD)

    def __enter__(self) -> Self:
        setattr(_bootstrap, _LOAD, self._followed(self._load))
        if self._learns:
            self._take_over()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        setattr(_bootstrap, _LOAD, self._load)
        loaded = sys.modules
        self.learnt.steps = [
            step
            for step in self.learnt.steps
            if not step.module or (step.module in loaded and step.module not in self._excluded)
        ]

    def _followed(self, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
        importing = threading.get_ident()

        def load_unlocked(spec: Any) -> Any:
            if threading.get_ident() != importing:
                return load(spec)
            is_own = self._tree.owns(spec)
            if is_own and spec.has_location and spec.origin:
                forget_racy_cache(spec)
            if not self._learns:
                return load(spec)
            self._begins(spec, is_own=is_own)
            self._running.append((spec.name, is_own))
            try:
                return load(spec)
            finally:
                self._running.pop()
                if not is_own and self._is_at_application():
                    bind_in_parent(spec.name)
                    self._take_over()

        # As in `import_trace`: Python leaves its own frames out of tracebacks.
        load_unlocked.__code__ = load_unlocked.__code__.replace(co_filename=_FILE)
        return load_unlocked

    def _is_at_application(self) -> bool:
        return not self._running or self._running[-1][1]

    def _begins(self, spec: Any, *, is_own: bool) -> None:
        learnt = self.learnt
        if is_own:
            # Installed modules that import the application's cannot be imported without it.
            self._excluded.update(name for name, own in self._running if not own)
            if spec.has_location and spec.origin and spec.origin.endswith(".py"):
                learnt.files.append(os.path.realpath(spec.origin))
                learnt.stamps.append(stamp(spec.origin) or (0, 0, 0))
            return
        if self._is_at_application():
            self._learn_changes()
        if not learnt.ended_by and spec.name not in self._places:
            self._places[spec.name] = len(learnt.steps)
            learnt.steps.append(Step(spec.name))

    def _learn_changes(self) -> None:
        """Learn what the application changed since the last installed module was loaded."""
        learnt = self.learnt
        if learnt.ended_by:
            return
        environ, path = dict(os.environ), list(sys.path)
        if environ != self._environ or path != self._path:
            changed = {
                name: environ.get(name)
                for name in environ.keys() | self._environ.keys()
                if environ.get(name) != self._environ.get(name)
            }
            learnt.steps.append(Step(environ=changed, path=path if path != self._path else None))
            learnt.fixed = len(learnt.files)
        state = process_state()
        others = [name for name in state if state[name] != self._state.get(name)]
        if others or (others := self._patched()):
            learnt.ended_by = f"the application changes {others[0]} before it imports the rest"

    def _patched(self) -> list[str]:
        """Globals of installed modules that the application, not their own code, may have bound to something else."""
        found = []
        now = module_bindings(self._bindings)
        for module, before in self._bindings.items():
            after = now.get(module, before)
            if after == before:
                continue
            old = dict(zip(*before, strict=True))
            for name, value in zip(*after, strict=True):
                if old.get(name) != value and self._may_be_bound_here(module, name):
                    found.append(f"{module}.{name}")
        return found

    def _may_be_bound_here(self, module: str, name: str) -> bool:
        """Whether the global's value is made by the application, or its name occurs in the code of the application."""
        value = getattr(sys.modules[module], name, None)
        for origin in (getattr(value, "__module__", None), type(value).__module__):
            if isinstance(origin, str) and self._is_own(origin):
                return True
        word = re.compile(rf"\b{re.escape(name)}\b")
        return any(word.search(_text(path)) for path in self.learnt.files)

    def _take_over(self) -> None:
        """What is so now is not of the application's making."""
        if self.learnt.ended_by:
            return
        self._environ, self._path = dict(os.environ), list(sys.path)
        self._state = process_state()
        self._bindings = module_bindings(name for name in sys.modules if not self._is_own(name))

    def _is_own(self, name: str) -> bool:
        return name == "__main__" or self._tree.owns(getattr(sys.modules.get(name), "__spec__", None))


@cache
def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def bind_in_parent(name: str) -> None:
    """Bind a submodule in its package as Python is about to do, so that this is no change by the application."""
    parent, _, child = name.rpartition(".")
    if parent in sys.modules and name in sys.modules:
        with contextlib.suppress(AttributeError):
            setattr(sys.modules[parent], child, sys.modules[name])


def process_state() -> dict[str, Any]:
    """What code can change about its process, and later imports may depend on."""
    return {
        "sys.argv": list(sys.argv),
        "the working directory": os.getcwd(),  # noqa: PTH109 -- a string is wanted
        "sys.meta_path": [id(finder) for finder in sys.meta_path],
        "sys.path_hooks": [id(hook) for hook in sys.path_hooks],
        "the recursion limit": sys.getrecursionlimit(),
    }


Bindings = tuple[tuple[str, ...], tuple[int, ...]]
"""The names of a module's globals, and the identities of what they are bound to."""


def module_bindings(names: Iterable[str]) -> dict[str, Bindings]:
    """The bindings of these modules."""
    found = {}
    modules = sys.modules
    for name in names:
        module = modules.get(name)
        try:
            scope = vars(module)
            found[name] = tuple(scope), tuple(map(id, scope.values()))
        except (TypeError, RuntimeError):
            continue
    return found


def forget_racy_cache(spec: Any) -> None:
    """Remove compiled code that may be of an older source: two saves in one second can have the same time and size."""
    if not spec.cached:
        return
    try:
        source, compiled = os.stat(spec.origin), os.stat(spec.cached)  # noqa: PTH116 -- for each module
        if compiled.st_mtime - source.st_mtime < _RACY:
            os.unlink(spec.cached)  # noqa: PTH108 -- for each module
    except OSError:
        return


def dump(learnt: Learnt, fd: int) -> None:
    """Write it to the memory file. Raises `OSError`."""
    import json  # noqa: PLC0415

    data = json.dumps(codec.dump(learnt)).encode()
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)


def load(fd: int) -> Learnt:
    """Read it. Raises `ValueError`, `TypeError` or `OSError`."""
    import json  # noqa: PLC0415

    size = os.fstat(fd).st_size
    return codec.load(Learnt, json.loads(os.pread(fd, size, 0)))
