"""Exceptions that Python can raise in nobody's frame (`sys.unraisablehook`): who knows what one means takes it.

The hook is one for the whole process. Set here alone, it does not depend on who came last.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Taker = Callable[["sys.UnraisableHookArgs"], bool]
    Hook = Callable[["sys.UnraisableHookArgs"], object]


class _Hook:
    """The hook of this process: the takers, and what happens to the rest."""

    def __init__(self, rest: "Hook") -> None:
        self.takers: list[Taker] = []
        self.rest = rest

    def __call__(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if not any(take(unraisable) for take in self.takers):
            self.rest(unraisable)


def take(taker: "Taker") -> None:
    """Ask `taker` of each; it returns whether it dealt with it, so that nobody else needs to be told."""
    hook = _hook()
    if taker not in hook.takers:
        hook.takers.append(taker)


def leave(taker: "Taker") -> None:
    """Ask it no more."""
    hook = _hook()
    if taker in hook.takers:
        hook.takers.remove(taker)


def tell_rest(rest: "Hook") -> None:
    """Have `rest` tell of those that nobody took."""
    _hook().rest = rest


def _hook() -> _Hook:
    hook = sys.unraisablehook
    if not isinstance(hook, _Hook):
        # Whatever stands there, the application's perhaps, goes on to see what nobody takes.
        hook = sys.unraisablehook = _Hook(hook)
    return hook
