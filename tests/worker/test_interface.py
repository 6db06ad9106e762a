"""How an application is called: what its signature says."""

import functools

import pytest

from asgi_master.worker.interface import Interface, choose_interface


async def asgi(scope, receive, send): ...


def wsgi(environ, start_response): ...


class AsgiObject:
    async def __call__(self, scope, receive, send): ...


class WsgiObject:
    def __call__(self, environ, start_response): ...


class WsgiClass:
    def __init__(self, environ, start_response): ...


class Wrapped:
    async def __call__(self, *arguments): ...


@pytest.mark.parametrize(
    ("application", "interface", "reason"),
    [
        (asgi, "asgi", "coroutine function"),
        (AsgiObject(), "asgi", "coroutine function"),
        (functools.partial(asgi), "asgi", "coroutine function"),
        (lambda scope, receive, send: None, "asgi", "three arguments"),
        (wsgi, "wsgi", "two arguments"),
        (WsgiObject(), "wsgi", "two arguments"),
        (WsgiClass, "wsgi", "two arguments"),
        (WsgiObject().__call__, "wsgi", "two arguments"),
        (functools.partial(lambda more, environ, start_response: None, 1), "wsgi", "two arguments"),
        (lambda *arguments: None, "asgi", "with two arguments and with three"),
        (Wrapped(), "asgi", "coroutine function"),
        (print, "asgi", "with two arguments and with three"),
        (iter, "asgi", "does not tell"),
    ],
)
def test_in_doubt_it_is_asgi(application, interface, reason):
    choice = choose_interface(application, "auto")
    assert (choice.interface, reason in choice.reason) == (Interface(interface), True)


@pytest.mark.parametrize("wanted", ["asgi", "wsgi"])
def test_what_is_wanted_decides(wanted):
    for application in (asgi, wsgi):
        assert choose_interface(application, wanted).interface == Interface(wanted)


def test_flask_is_wsgi():
    flask = pytest.importorskip("flask")
    assert choose_interface(flask.Flask("x"), "auto").interface is Interface.WSGI
