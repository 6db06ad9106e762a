"""Handlers of unraisable exceptions (`sys.unraisablehook`).

The process has one hook. It is set only here, so handlers do not depend on the order of their installation.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Handler = Callable[["sys.UnraisableHookArgs"], bool]
    Hook = Callable[["sys.UnraisableHookArgs"], object]


class _Hook:
    """The hook of this process: the handlers, and the hook for the rest."""

    def __init__(self, default: "Hook") -> None:
        self.handlers: list[Handler] = []
        self.default = default

    def __call__(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if not any(handler(unraisable) for handler in self.handlers):
            self.default(unraisable)


def add_handler(handler: "Handler") -> None:
    """Add a handler; it returns whether it has dealt with the exception."""
    hook = _hook()
    if handler not in hook.handlers:
        hook.handlers.append(handler)


def remove_handler(handler: "Handler") -> None:
    """Remove a handler."""
    hook = _hook()
    if handler in hook.handlers:
        hook.handlers.remove(handler)


def set_default_handler(default: "Hook") -> None:
    """Set the hook for exceptions that no handler deals with."""
    _hook().default = default


def _hook() -> _Hook:
    hook = sys.unraisablehook
    if not isinstance(hook, _Hook):
        # The previous hook, perhaps the application's, gets the rest.
        hook = sys.unraisablehook = _Hook(hook)
    return hook
