"""Describes the modules of a process, so that those of a warm import can be compared with those of a cold one.

Only what is the same in any two interpreters counts: no addresses, process ids, times or random numbers.
"""

import logging
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

State = dict[str, dict[str, str]]
"""By module, what each of its globals is."""

_VOLATILE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d{5,}", re.IGNORECASE)
_LONGEST = 200
_MOST = 50
"""Entries of a container that are looked at."""
_LARGEST = 1 << 31
_DEPTH = 2
_OF_THE_MODULE_SYSTEM = frozenset(
    {"__builtins__", "__cached__", "__file__", "__loader__", "__path__", "__spec__", "__warningregistry__"}
)
_SHOWN = 20


def state_of(modules: Mapping[str, types.ModuleType], matters: Callable[[types.ModuleType], bool]) -> State:
    """What the modules that matter have come to."""
    state = {
        name: {
            key: describe(value)
            for key, value in list(vars(module).items())
            if key not in _OF_THE_MODULE_SYSTEM
        }
        for name, module in list(modules.items())
        if isinstance(module, types.ModuleType) and matters(module)
    }
    return {**state, "logging": _logging()}


def differences(warm: State, cold: State) -> list[str]:
    """A line for each difference, at most as many as one wants to read; the last one counts the others."""
    lines = [f"{name} is imported only warm" for name in sorted(warm.keys() - cold.keys())]
    lines += [f"{name} is imported only cold" for name in sorted(cold.keys() - warm.keys())]
    for name in sorted(warm.keys() & cold.keys()):
        for key in sorted(warm[name].keys() | cold[name].keys()):
            one, other = warm[name].get(key, "nothing"), cold[name].get(key, "nothing")
            if one != other:
                lines.append(f"{name}.{key} is {one} warm and {other} cold")
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"{more} more"] if more > 0 else lines


def describe(value: Any, depth: int = 0) -> str:
    """What a value is, in a line that is the same in any interpreter."""
    try:
        return _VOLATILE.sub("#", _describe(value, depth))[:_LONGEST]
    except Exception as error:  # noqa: BLE001 -- code of any package
        return f"{type(value).__qualname__} ({type(error).__name__})"


def _describe(value: Any, depth: int) -> str:
    kind = type(value)
    if kind in {bool, type(None)} or (kind is int and abs(value) < _LARGEST):
        return "a process" if kind is int and value in {os.getpid(), os.getppid()} else repr(value)
    if kind in {str, bytes}:
        return repr(value[:_LONGEST])
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, types.FunctionType):
        return f"function {value.__module__}.{value.__qualname__}"
    if isinstance(value, type):
        names = sorted(name for name in vars(value) if not name.startswith("__"))
        return f"class {value.__module__}.{value.__qualname__} {_inside(value, names)}"
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is dict:
        keys = sorted(describe(key, _DEPTH) for key in list(value)[:_MOST])
        return f"{len(value)} entries: {', '.join(keys)}"
    if kind in {list, tuple, set, frozenset}:
        items = [describe(item, depth + 1) for item in list(value)[:_MOST]]
        return (
            f"{kind.__name__} of {len(value)}: {', '.join(items if kind in {list, tuple} else sorted(items))}"
        )
    look_up: Any = kind.__getattribute__
    if depth < _DEPTH and look_up is object.__getattribute__ and hasattr(value, "__dict__"):
        inner = {key: describe(item, depth + 1) for key, item in list(vars(value).items())[:_MOST]}
        return f"{name} {sorted(inner.items())}"
    return name


def _inside(kind: type, names: Iterable[str]) -> list[str]:
    """The attributes of a class and, of its functions, where they are from: others may have put them there."""
    found = []
    for name in names:
        value = vars(kind)[name]
        foreign = isinstance(value, types.FunctionType) and value.__module__ != kind.__module__
        found.append(f"{name} of {value.__module__}" if foreign else name)
    return found


def _logging() -> dict[str, str]:
    """The handlers and levels of all loggers."""
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted(logging.root.manager.loggerDict))]
    return {
        logger.name: f"{logger.level} {[type(handler).__qualname__ for handler in logger.handlers]}"
        for logger in loggers
        if not logger.name.startswith("asgi_master") and logger.handlers
    }


def of_packages(own: str) -> Callable[[types.ModuleType], bool]:
    """Whether a module is neither of the standard library nor of the package `own`, this program."""

    def matters(module: types.ModuleType) -> bool:
        top = module.__name__.partition(".")[0]
        return top not in {own, "__main__", "__mp_main__"} and top not in sys.stdlib_module_names

    return matters
