"""Classifies source files: application, installed package, standard library, or this server."""

import os
import sys
from enum import IntEnum
from pathlib import Path, PurePath

_NAME = "asgi_master"
_OURS = str(Path(__file__).resolve().parent.parent) + os.sep
_STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_FROZEN = "<frozen "
_CYTHON = (".pyx", ".pxd", ".pxi")
"""Compiled modules report their source by a path relative to their package."""


class CodeOrigin(IntEnum):
    """Origin of a source file, ordered by how likely a user is to be able to fix it."""

    SERVER = 0
    STANDARD_LIBRARY = 1
    INSTALLED = 2
    APPLICATION = 3


class CodeOwnership:
    """Classifies source files by origin."""

    def __init__(self) -> None:
        self._home: tuple[str, ...] = ()

    def set_application(self, module: str) -> None:
        """Treat the top-level package of this module as the application, even if it is installed in site-packages."""
        name = module.partition(".")[0]
        top = sys.modules.get(name)
        directories = [os.path.join(directory, "") for directory in getattr(top, "__path__", ())]  # noqa: PTH118 -- with its slash
        file = getattr(top, "__file__", None)
        self._home = tuple(directories) or ((file,) if file else ())

    def origin(self, file: str) -> CodeOrigin:
        """The origin of a source file."""
        if file.startswith(_OURS):
            return CodeOrigin.SERVER
        if self._home and file.startswith(self._home):
            return CodeOrigin.APPLICATION
        if any(part in file for part in _INSTALLED):
            return CodeOrigin.INSTALLED
        if file.startswith((_STANDARD_LIBRARY, _FROZEN)):
            return CodeOrigin.STANDARD_LIBRARY
        if file.endswith(_CYTHON):
            return CodeOrigin.INSTALLED
        return CodeOrigin.APPLICATION

    def package(self, file: str) -> str:
        """The top-level package or module of a file that does not belong to the application."""
        if file.startswith(_OURS):
            return _NAME
        for part in _INSTALLED:
            if part in file:
                return _top(file.rpartition(part)[2])
        if file.startswith(_FROZEN):
            return file.removeprefix(_FROZEN).rstrip(">").partition(".")[0]
        return _top(file.removeprefix(_STANDARD_LIBRARY))


def _top(path: str) -> str:
    return PurePath(path.partition(os.sep)[0]).stem


ownership = CodeOwnership()
"""The classification of this process; the worker calls `set_application` when it imports the application."""
