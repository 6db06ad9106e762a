"""The two sides of a transport: what a connection uses, and what a transport calls.

Names and meanings are those of asyncio's transports and protocols, as far as those have them.
"""

from abc import ABC, abstractmethod
from contextvars import Context
from typing import Any, Final

from asgi_master.worker.transport.connection_state import ConnectionState, TransferConnection
from asgi_master.worker.transport.endpoints import Endpoints


class StreamProtocol:
    """What a transport calls. Calls come from the loop, in the context of the connection."""

    __slots__ = ()

    def connection_made(self, transport: "StreamTransport") -> None:
        """The transport is the protocol's from now on."""

    def data_received(self, data: bytes) -> None:
        """Bytes arrived, at least one."""

    def eof_received(self) -> bool:
        """The peer sends no more. The transport closes, unless this returns true. Called once at most."""
        return False

    def pause_writing(self) -> None:
        """The peer reads more slowly than the protocol writes."""

    def resume_writing(self) -> None:
        """The peer caught up."""

    def connection_lost(self) -> None:
        """The transport is closed. No call follows."""


NO_PROTOCOL: Final = StreamProtocol()
"""Of a transport that is closed or was moved, so that it does not keep the last one."""


class StreamTransport(ABC):
    """A stream of bytes in both directions, with an end for each."""

    __slots__ = ()

    context: Context
    """That of the connection, in which the protocol is called."""
    endpoints: Endpoints
    tls: dict[str, Any] | None
    """The ASGI extension `tls`; `None` without TLS."""
    sends_files = False
    """Whether `send_file` is there."""
    is_shared = False
    """Whether it is one stream of a connection that carries others too."""

    @abstractmethod
    def set_protocol(self, protocol: StreamProtocol) -> None:
        """Call this one from now on."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send, or keep what cannot be sent yet. Ignored once the transport closes."""

    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        """Have the kernel send up to `count` bytes of a regular file; returns how many it took, 0 at the file's end.

        `None` if it takes none now: then the protocol is paused, or the transport closes. Raises `OSError` if the file
        cannot be read.
        """
        raise NotImplementedError

    @abstractmethod
    def get_write_buffer_size(self) -> int:
        """Bytes that were given to `write` and that the kernel did not take yet."""

    @abstractmethod
    def write_eof(self) -> None:
        """Send no more after what was written. Reading goes on."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Leave what arrives in the kernel."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again."""

    @abstractmethod
    def close(self) -> None:
        """Read no more; close once all that was written is sent."""

    @abstractmethod
    def abort(self) -> None:
        """Close now. What was not sent is lost."""

    @abstractmethod
    def is_closing(self) -> bool:
        """Whether it is closed, or closes."""

    @abstractmethod
    def has_unread_bytes(self) -> bool:
        """Whether something arrived that was not read: to close over it would reset the connection."""

    @abstractmethod
    def move(self, transfer: TransferConnection, state: ConnectionState) -> bool:
        """Give the connection to another worker; false, with all as it was, if that is not possible now.

        Nothing is shut down, and unread bytes stay in the kernel. The protocol is not called any more.
        """
