"""What is raised in the application's own `send`, and what an application raises because its client left."""

import re


class ClientDisconnectedError(OSError):
    """Nothing can be sent any more: the client is gone, or the WebSocket is closed (ASGI specification 2.4)."""


_DISCONNECT = re.compile(
    r"(Client|Web[Ss]ocket)Disconnect(ed|ion)?(Error|Exception)?|(Request|Message)Aborted"
)
"""What frameworks call it: Starlette, FastAPI, Litestar, Quart, Werkzeug, Falcon, BlackSheep, Django, Channels.

They raise it when `receive` says so, or in the place of what `send` raised. A bare `Disconnect` is not among them: it
may be a database's or a mail server's, and such a failure belongs in the application's log.
"""


def is_disconnect(error: BaseException) -> bool:
    """Whether an application whose peer is gone raised this only to say so.

    That is what `send` raised, an exception that has the name of a disconnect, whatever was raised from one
    (`raise ... from`), and a group of nothing else. That a disconnect was being handled says nothing: so it is in
    every `finally`, where an application may well make a mistake of its own.
    """
    waiting = [error]
    groups: set[int] = set()
    while waiting:
        source = _source(waiting.pop())
        if isinstance(source, BaseExceptionGroup):
            if id(source) not in groups:
                groups.add(id(source))
                waiting += source.exceptions
        elif not _says_so(source):
            return False
    return True


def _source(error: BaseException) -> BaseException:
    """The disconnect, the group or the first exception that this was raised from."""
    seen: set[int] = set()
    while id(error) not in seen and not (isinstance(error, BaseExceptionGroup) or _says_so(error)):
        seen.add(id(error))
        cause = error.__cause__
        # Starlette's middleware raises exceptions again, from their context; then something else is being handled.
        if cause is None or error.__context__ not in (None, cause):
            break
        error = cause
    return error


def _says_so(error: BaseException) -> bool:
    return isinstance(error, ClientDisconnectedError) or any(
        _DISCONNECT.fullmatch(kind.__name__) for kind in type(error).__mro__
    )
