"""Datagrams to the service manager (sd_notify(3)): in order, without blocking; failures never reach the caller."""

import array
import contextlib
import errno
import logging
import socket
from collections import deque
from collections.abc import Mapping, Sequence

from asgi_master.master.sd_protocol import datagram, notify_address

log = logging.getLogger("asgi_master")

_MOST_PENDING = 64
_LATER = frozenset(
    {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS}
)
"""The queue of the service manager is full, or the kernel is out of something."""


class Notifier:
    """Sends to `$NOTIFY_SOCKET`; without one, it does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address: str | None = None
        self._sock: socket.socket | None = None
        self._pending: deque[tuple[bytes, tuple[int, ...]]] = deque(maxlen=_MOST_PENDING)
        self._complained = False
        try:
            self._address = notify_address(environ)
        except ValueError as error:
            log.warning("systemd is not notified: %s", error)

    @property
    def is_enabled(self) -> bool:
        """Whether there is a service manager."""
        return self._address is not None

    def send(self, words: Mapping[str, str | int], fds: Sequence[int] = ()) -> None:
        """Send the variables in one datagram, with descriptors; what cannot be sent now is sent by `flush`."""
        if self._address is not None:
            self._pending.append((datagram(words), tuple(fds)))
            self.flush()

    def flush(self) -> None:
        """Send what is pending, as far as the socket accepts it."""
        while self._pending:
            data, fds = self._pending[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._opened().sendmsg([data], rights, socket.MSG_NOSIGNAL, self._address)
            except OSError as error:
                if error.errno in _LATER:
                    return
                self._complain(error)
            self._pending.popleft()

    def close(self) -> None:
        """Send what is pending, and close."""
        self.flush()
        self._pending.clear()
        self._address = None
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
            self._sock = None

    def _opened(self) -> socket.socket:
        if self._sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            self._sock = sock
        return self._sock

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning("cannot notify systemd at %r: %s", self._address, error.strerror or error)
