"""The default parser where zttp is installed: it reads a head in one call (a state machine in Zig)."""

from typing import Any

from zttp import SERVER, Connection, RemoteProtocolError, Request

from asgi_master.http.h1.httptools_parser import HttptoolsParser
from asgi_master.http.h1.request_head import H1Request, request_of

_TAB = ord("\t")
_FRAGMENT = ord("#")
"""Bytes are searched for a number six times as fast as for a byte string of that one."""


class ZttpParser(HttptoolsParser):
    """What zttp refuses is read by httptools, which decides: zttp has limits of its own, and stricter targets."""

    __slots__ = ()

    def _read_request(self, head: bytes) -> H1Request:
        try:
            # An object for each head: nothing that one head says may reach the next.
            event = Connection(SERVER).receive_event(head)
        except RemoteProtocolError:
            return super()._read_request(head)
        # A tab behind a transfer coding is white space to zttp alone.
        if type(event) is not Request or (not event.end_stream and _TAB in head):
            return super()._read_request(head)
        # Of what no target may hold, zttp lets these through.
        target = event.target
        if _FRAGMENT in target or not target.isascii():
            return super()._read_request(head)
        fields: Any = event.headers  # a list with HTTP/2 and HTTP/3 only
        headers = fields.to_list(lowercase_names=True)
        return request_of(event.method, target, event.path, event.query, event.http_version, headers)
