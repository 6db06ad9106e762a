"""Whose code a file is: the application's, what was installed for it, the standard library's, or the server's."""

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
"""Compiled code tells its source by a path within its package."""


class CodeOrigin(IntEnum):
    """Whose code a file is; the higher, the likelier it is what somebody has to change."""

    SERVER = 0
    STANDARD_LIBRARY = 1
    INSTALLED = 2
    APPLICATION = 3


class CodeOwnership:
    """Tells whose code a file is."""

    def __init__(self) -> None:
        self._home: tuple[str, ...] = ()

    def set_application(self, module: str) -> None:
        """Count what belongs to this module's top-level package as the application, even where it was installed."""
        name = module.partition(".")[0]
        top = sys.modules.get(name)
        directories = [os.path.join(directory, "") for directory in getattr(top, "__path__", ())]  # noqa: PTH118 -- with its slash
        file = getattr(top, "__file__", None)
        self._home = tuple(directories) or ((file,) if file else ())

    def origin(self, file: str) -> CodeOrigin:
        """Whose code this is."""
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
        """The top-level package, or module, that a file outside of the application belongs to."""
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
"""Of this process; who imports the application claims it."""
