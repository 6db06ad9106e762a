"""Which exceptions only say that the client left, and which are the application's own."""

import asyncio
import sys
import traceback

import pytest

from asgi_master.asgi.errors import ClientDisconnectedError, is_disconnect


class ClientDisconnect(Exception):  # noqa: N818
    """As in Starlette."""


class WebSocketDisconnect(Exception):  # noqa: N818
    """As in Starlette and Litestar."""


class WebSocketDisconnected(RuntimeError):  # noqa: N818
    """As in Starlette and Falcon."""


class RequestAborted(Exception):  # noqa: N818
    """As in Django and Channels."""


class MessageAborted(Exception):  # noqa: N818
    """As in BlackSheep."""


class OwnKind(WebSocketDisconnect):
    """An application's own kind of one."""


class ServerDisconnectedError(OSError):
    """As in aiohttp: a server that the application asked has hung up."""


class DisconnectionError(Exception):
    """As in SQLAlchemy."""


class WebSocketError(Exception):
    """Something else."""


BY_NAME = [
    ClientDisconnect,
    WebSocketDisconnect,
    WebSocketDisconnected,
    RequestAborted,
    MessageAborted,
    OwnKind,
]
OTHERS = [
    ServerDisconnectedError,
    DisconnectionError,
    WebSocketError,
    KeyError,
    ConnectionResetError,
    OSError,
    asyncio.CancelledError,
    SystemExit,
]


def raised(source):
    """What this code raises: with the contexts that Python gives it."""
    try:
        exec(source, globals())
    except BaseException as error:  # noqa: BLE001 -- any
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("kind", [ClientDisconnectedError, *BY_NAME])
def test_disconnects(kind):
    assert is_disconnect(kind())


@pytest.mark.parametrize("kind", OTHERS)
def test_other_errors(kind):
    assert not is_disconnect(kind())


HANDLED = """
try:
    raise {disconnect}()
{handler}
"""


@pytest.mark.parametrize("disconnect", ["ClientDisconnectedError", "ClientDisconnect"])
@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("except Exception: raise WebSocketDisconnect(1006)", True),
        ("except Exception: raise WebSocketDisconnect(1006) from None", True),
        ("except Exception as error: raise RuntimeError('too late') from error", True),
        ("except Exception as error: raise ExceptionGroup('', [error, RequestAborted()])", True),
        ("except* Exception: raise", True),
        ("except* Exception: raise WebSocketDisconnect(1006)", True),
        ("finally: {}['forgotten']", False),
        ("except Exception: assert 0", False),
        ("except Exception: raise OSError('the disk is full')", False),
        ("except Exception: raise ConnectionResetError('of the database')", False),
        ("except Exception: raise KeyError from None", False),
        ("except Exception as error: raise ExceptionGroup('', [error, KeyError()])", False),
        ("except* Exception: raise KeyError", False),
    ],
)
def test_errors_raised_while_a_disconnect_was_handled(disconnect, handler, expected):
    error = raised(HANDLED.format(disconnect=disconnect, handler=handler))
    assert is_disconnect(error) is expected, traceback.format_exception(error)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("e = ClientDisconnectedError(); raise LookupError from e", True),
        ("e = KeyError(); e.__context__ = ClientDisconnectedError(); raise LookupError from e", False),
        # A middleware that raises again, from the context, while something else is being handled.
        (
            """
try:
    raise EOFError
except EOFError:
    e = KeyError()
    raise e from ClientDisconnect()
""",
            False,
        ),
        # And one that takes the only member of a group out of it.
        (
            """
e = KeyError()
e.__context__ = ClientDisconnectedError()
try:
    raise ExceptionGroup('', [e])
except ExceptionGroup:
    raise e from e.__context__
""",
            False,
        ),
        ("raise ExceptionGroup('', [ExceptionGroup('', [ClientDisconnectedError(), KeyError()])])", False),
        ("raise ExceptionGroup('', [ExceptionGroup('', [ClientDisconnectedError()]), OwnKind()])", True),
        ("raise ExceptionGroup('', [KeyError()]) from ClientDisconnectedError()", False),
        ("e = ClientDisconnectedError(); raise LookupError from ExceptionGroup('', [e, e])", True),
    ],
)
def test_causes_and_groups(source, expected):
    error = raised(source)
    assert is_disconnect(error) is expected, traceback.format_exception(error)


def test_a_circle_of_causes_ends():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert not is_disconnect(first)


def test_a_long_chain_and_deep_groups_end():
    error = ClientDisconnectedError()
    for _ in range(sys.getrecursionlimit() * 2):
        outer = LookupError()
        outer.__cause__ = error
        error = ExceptionGroup("", [outer])
    assert is_disconnect(error)


def test_a_group_that_is_there_twice_is_judged_once() -> None:
    inner = ExceptionGroup("inner", [ClientDisconnect()])
    assert is_disconnect(ExceptionGroup("outer", [inner, inner]))
    inner = ExceptionGroup("inner", [ClientDisconnect(), ValueError()])
    assert not is_disconnect(ExceptionGroup("outer", [inner, inner]))
