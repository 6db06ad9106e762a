"""Which modules are the application's, so that each reload imports them, and which are installed."""

import os
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages", ".venv", ".tox", ".nox", "node_modules"})
"""Directories below a watched one whose files nobody edits; a change there is noticed all the same."""


class SourceTree:
    """The watched directories."""

    def __init__(self, directories: Iterable[str]) -> None:
        found = {os.path.join(os.path.realpath(directory), "") for directory in directories}  # noqa: PTH118 -- with its slash
        self._directories = tuple(sorted(found))
        self._known: dict[str, bool] = {}

    def holds(self, path: str) -> bool:
        """Whether the file is one of the application's."""
        place = os.path.dirname(path)  # noqa: PTH120 -- for each module
        is_held = self._known.get(place)
        if is_held is None:
            real = os.path.join(os.path.realpath(place), "")  # noqa: PTH118 -- with its slash
            is_held = self._known[place] = any(
                real.startswith(directory) and _INSTALLED.isdisjoint(Path(real[len(directory) :]).parts)
                for directory in self._directories
            )
        return is_held

    def owns(self, spec: ModuleSpec | None) -> bool:
        """Whether a module is one of the application's; a namespace package is, if any of its directories is."""
        if spec is None:
            return False
        if spec.has_location and spec.origin:
            return self.holds(spec.origin)
        return any(
            self.holds(os.path.join(entry, ""))  # noqa: PTH118 -- with its slash
            for entry in spec.submodule_search_locations or ()
        )
