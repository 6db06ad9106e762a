"""The socket below a transport: what waits in it unread, and giving it to another worker."""

import asyncio
import os
import socket

from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection


def has_unread_bytes(transport: asyncio.BaseTransport) -> bool:
    """Whether something came in since the loop last looked: to close over it would reset the connection."""
    with _copy(transport) as copy:
        try:
            return bool(copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


def move(transport: asyncio.Transport, transfer: TransferConnection, state: ConnectionState) -> bool:
    """Transfer the connection and release the transport; false, with all as it was, if no worker takes it.

    Nothing is shut down, and unread bytes stay in the kernel.
    """
    transport.pause_reading()
    with _copy(transport) as copy:
        given = transfer(copy, state)
    if given:
        transport.abort()
    else:
        transport.resume_reading()
    return given


def _copy(transport: asyncio.BaseTransport) -> socket.socket:
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
