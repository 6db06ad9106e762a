"""What is raised in the application's own `send`."""


class ClientDisconnectedError(OSError):
    """The client is gone: nothing can be sent any more (ASGI specification 2.4)."""


def is_disconnect(error: BaseException) -> bool:
    """Whether an application raised this only because its client left: directly, wrapped, or in an exception group."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ClientDisconnectedError):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(is_disconnect(each) for each in error.exceptions)
        cause = error.__cause__ or error.__context__
        if cause is None:
            return False
        error = cause
    return False
