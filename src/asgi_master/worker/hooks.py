"""The hooks of the settings: functions that each worker calls when it starts and when it exits."""

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from asgi_master.errors import ApplicationError
from asgi_master.records import record
from asgi_master.settings.model import LifespanSettings
from asgi_master.telemetry.failures import describe
from asgi_master.worker.application import load_callable

log = logging.getLogger("asgi_master")

Hook = Callable[..., Any]


@record
class Hooks:
    """Those of the settings, imported."""

    worker_start: Hook | None = None
    worker_exit: Hook | None = None


def load_hooks(settings: LifespanSettings) -> Hooks:
    """Import the hooks. Raises `ApplicationError`."""
    start, end = (
        load_callable(target, arguments=1) if target else None
        for target in (settings.hook_worker_start, settings.hook_worker_exit)
    )
    return Hooks(start, end)


def call_worker_start(hook: Hook, worker: Mapping[str, int]) -> None:
    """Call it. Raises `ApplicationError` if it raises."""
    try:
        _call(hook, worker)
    except Exception as error:
        raise ApplicationError(f"the worker start hook failed: {describe(error)}") from error


def call_worker_exit(hook: Hook, worker: Mapping[str, int]) -> None:
    """Call it, and log what it raises."""
    try:
        _call(hook, worker)
    except Exception as error:
        log.error("the worker exit hook failed: %s", describe(error), exc_info=error)


def _call(hook: Hook, worker: Mapping[str, int]) -> None:
    """With the slot and generation of this worker, if it takes an argument."""
    result = hook(dict(worker)) if _takes_argument(hook) else hook()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("it is a coroutine function; a hook is called without an event loop")


def _takes_argument(hook: Hook) -> bool:
    try:
        inspect.signature(hook).bind(None)
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return False
    return True
