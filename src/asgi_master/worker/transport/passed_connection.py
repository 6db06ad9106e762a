"""A connection that is passed together with bytes that were read from it: its state, and these bytes."""

import struct

from asgi_master.worker.transport.connection_state import ConnectionState

_HEAD = struct.Struct("!HBI")
"""Bytes of a state as JSON, and, for a state without that, passes and requests served."""
_MOST_SERVED = (1 << 32) - 1


def to_metadata(state: ConnectionState, received: bytes) -> bytes:
    """To travel with the connection. What most have travels without JSON, which takes longer than all else here."""
    described = b"" if state.ends is None else state.to_metadata()
    return _HEAD.pack(len(described), state.passes, min(state.served, _MOST_SERVED)) + described + received


def from_metadata(metadata: bytes) -> tuple[ConnectionState, bytes]:
    """The state, and the bytes. Raises `ValueError` for what is no metadata of this kind."""
    if len(metadata) < _HEAD.size:
        raise ValueError("no metadata of a passed connection")
    size, passes, served = _HEAD.unpack_from(metadata)
    end = _HEAD.size + size
    if len(metadata) < end:
        raise ValueError("the metadata of a passed connection is cut short")
    if size:
        return ConnectionState.from_metadata(metadata[_HEAD.size : end]), metadata[end:]
    return ConnectionState(served=served, passes=passes), metadata[end:]
