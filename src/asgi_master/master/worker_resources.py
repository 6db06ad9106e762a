"""What the master opens for workers and lends to them: listeners, certificates, the file of the access log."""

from asgi_master.master.certificates import Certificates
from asgi_master.master.child import InheritedFds
from asgi_master.master.listeners import Listeners
from asgi_master.master.log_files import LogFiles
from asgi_master.settings.model import Settings


class WorkerResources:
    """The three together: a generation cannot serve without all that its settings name."""

    def __init__(self, listeners: Listeners, certificates: Certificates, log_files: LogFiles) -> None:
        self._listeners = listeners
        self._certificates = certificates
        self._log_files = log_files

    def open(self, settings: Settings) -> None:
        """Open what these settings name and is not open yet. Raises `AsgiMasterError`, `OSError`."""
        self._certificates.load(settings)
        self._log_files.open(settings)
        self.open_binds(settings)

    def open_binds(self, settings: Settings) -> None:
        """Open the binds alone: certificates and files of a generation stay open as long as its zygote lives."""
        self._listeners.slots = max(self._listeners.slots, settings.process.workers)
        self._listeners.open(settings.sockets)

    def lent_to(self, settings: Settings | None, slot: int) -> InheritedFds:
        """The descriptors for a worker of this slot under these settings; none for a generation that is gone."""
        if settings is None:
            return InheritedFds()
        listeners = [
            listener
            for listener in self._listeners.of(settings.sockets)
            if listener.slot is None or listener.slot == slot
        ]
        secure = tuple(place for place, listener in enumerate(listeners) if listener.is_tls)
        return InheritedFds(
            tuple(listener.sock.fileno() for listener in listeners),
            secure,
            (self._certificates.descriptor(settings.tls),) if secure else (),
            self._log_files.descriptor(settings.logging),
            own=tuple(place for place, listener in enumerate(listeners) if listener.slot is not None),
        )
