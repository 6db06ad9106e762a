"""Decides how an application is called: by ASGI or by WSGI (`--interface`)."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from asgi_master.records import record

# scope, receive, send
_ASGI_ARGUMENTS = 3
# environ, start_response
_WSGI_ARGUMENTS = 2


class Interface(StrEnum):
    """How an application is called."""

    ASGI = "asgi"
    WSGI = "wsgi"


@record
class Choice:
    """How an application is called, and why."""

    interface: Interface
    reason: str


def choose_interface(application: Callable[..., Any], wanted: str) -> Choice:
    """The interface of an application that was loaded; `wanted` is `auto`, `asgi` or `wsgi`.

    In doubt it is ASGI: what can be called by both, or does not tell.
    """
    if wanted != "auto":
        return Choice(Interface(wanted), "--interface")
    asgi, wsgi = accepts(application, _ASGI_ARGUMENTS), accepts(application, _WSGI_ARGUMENTS)
    if _is_coroutine_function(application):
        return Choice(Interface.ASGI, "it is a coroutine function")
    if asgi is None or wsgi is None:
        return Choice(Interface.ASGI, "it does not tell its arguments")
    if wsgi and not asgi:
        return Choice(Interface.WSGI, "it takes two arguments")
    if asgi and not wsgi:
        return Choice(Interface.ASGI, "it takes three arguments")
    return Choice(Interface.ASGI, "it can be called with two arguments and with three")


def accepts_interface(application: Callable[..., Any], interface: Interface) -> bool:
    """Whether the application can be called so, as far as it tells."""
    if interface is Interface.WSGI:
        return accepts(application, _WSGI_ARGUMENTS) is not False and not _is_coroutine_function(application)
    return accepts(application, _ASGI_ARGUMENTS) is not False


def accepts(application: Callable[..., Any], count: int) -> bool | None:
    """Whether it can be called with so many positional arguments; `None` if it does not tell."""
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _is_coroutine_function(application: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(
        getattr(application, "__call__", None)  # noqa: B004 -- it is the method that is wanted
    )
