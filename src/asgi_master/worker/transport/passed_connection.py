"""A connection that is passed together with bytes that were read from it: its state, and these bytes."""

import struct

from asgi_master.worker.transport.connection_state import ConnectionState

_LENGTH = struct.Struct("!H")


def to_metadata(state: ConnectionState, received: bytes) -> bytes:
    """To travel with the connection."""
    described = state.to_metadata()
    return _LENGTH.pack(len(described)) + described + received


def from_metadata(metadata: bytes) -> tuple[ConnectionState, bytes]:
    """The state, and the bytes. Raises `ValueError` for what is no metadata of this kind."""
    if len(metadata) < _LENGTH.size:
        raise ValueError("no metadata of a passed connection")
    end = _LENGTH.size + _LENGTH.unpack_from(metadata)[0]
    return ConnectionState.from_metadata(metadata[_LENGTH.size : end]), metadata[end:]
