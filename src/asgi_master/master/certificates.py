"""The certificates that the generations serve with: read and checked by the master, and renewed when the files change.

Each generation has those that its settings name. When new files stand still they are read, and if they are right all
workers of the generation take them at once; if they are not, that is logged once and the old ones stay. As long as they
are not, they are tried again now and then: what was wrong need not be in the files (no descriptors, a disk that fails).
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from asgi_master import codec
from asgi_master.control.component import Component
from asgi_master.errors import SettingsError
from asgi_master.ipc import descriptors
from asgi_master.master.running_settings import RunningSettings
from asgi_master.master.upgrade_state import StateSection
from asgi_master.records import mutable_record
from asgi_master.settings.bind import speaks_tls
from asgi_master.settings.model import Settings, TlsSettings
from asgi_master.telemetry import certificates as words
from asgi_master.tls.bundle import Bundle, files_of, read_bundle

if TYPE_CHECKING:
    from asgi_master.master.children import Children
    from asgi_master.tls.contexts import Contexts

log = logging.getLogger("asgi_master")

_LOOK_PERIOD = 1.0
"""Seconds between two looks at the files, and that they must have stood still before they are read."""
_COMPLAIN_AFTER = 5.0
"""Seconds that files which do not fit may stand still: a pair may be half written."""
_RETRY_PERIOD = 30.0
"""Seconds between two attempts at files that could not be used and stand still."""
_REMIND_PERIOD = 24 * 3600.0
"""Seconds between two looks at when the certificates end."""

Signature = tuple[object, ...]


@mutable_record
class _Loaded:
    """What the files that some settings name held."""

    tls: TlsSettings
    bundle: Bundle
    fd: int
    """The bundle in memory."""
    ends: list[tuple[str, float]]
    """When each certificate ends, by its file."""
    signature: Signature
    """Of the files that were read."""
    seen: Signature = ()
    """Of the files as they are now, if that is not the same."""
    seen_at: float = 0.0
    next_try: float = 0.0
    """When to read these."""
    trouble: list[str] = field(default_factory=list)
    """What is wrong with these."""
    told: list[str] = field(default_factory=list)
    """What was logged of it."""
    is_owed: bool = False
    """Whether some worker could not be given them yet."""


class Certificates(Component):
    """All that are in use, by the settings that name them. New ones go to the children that use them."""

    def __init__(
        self,
        children: "Children",
        settings: RunningSettings,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Relative paths begin at `directory`; `clock` is in seconds."""
        self._children = children
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._loaded: dict[TlsSettings, _Loaded] = {}
        self._next_look = 0.0
        self._next_reminder = clock() + _REMIND_PERIOD

    def load(self, settings: Settings) -> None:
        """Read and check what these settings name, if they ask for TLS. Raises `SettingsError`; nothing changed."""
        if not _asks_for_tls(settings):
            return
        known = self._loaded.get(settings.tls)
        signature = _signature(settings.tls, self._directory)
        if known is not None and known.signature == signature:
            return
        bundle, contexts = _read(settings.tls, self._directory)
        self._take(settings.tls, bundle, contexts, signature)

    def descriptor(self, tls: TlsSettings) -> int:
        """The bundle for workers with these settings, which were loaded before."""
        return self._loaded[tls].fd

    def sweep(self) -> None:
        """Look at the files, and at the calendar, if it is time."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_PERIOD
        self._forget_unused()
        for loaded in list(self._loaded.values()):
            self._look(loaded, now)
        if now >= self._next_reminder:
            self._next_reminder = now + _REMIND_PERIOD
            for loaded in self._loaded.values():
                words.remind(loaded.ends)

    def close(self) -> None:
        """Let go of what is in memory."""
        for loaded in self._loaded.values():
            descriptors.close(loaded.fd)
        self._loaded.clear()

    def export_state(self) -> StateSection:
        """The bundles in memory, by the settings that name them."""
        known = [
            {"settings": codec.dump(replace(Settings(), tls=loaded.tls)), "fd": loaded.fd}
            for loaded in self._loaded.values()
        ]
        return StateSection(
            {"loaded": known}, {str(loaded.fd): loaded.fd for loaded in self._loaded.values()}
        )

    def import_state(self, section: StateSection) -> Self:
        """Go on with what serves now. Whether the files are still the same shows at the next look."""
        for known in section.values["loaded"]:
            tls = codec.load(Settings, known["settings"]).tls
            try:
                bundle = Bundle.of_memory(known["fd"])
                ends = _ends(bundle, _contexts_of(bundle, tls))
            except (SettingsError, OSError, ValueError) as error:
                # Its generation serves on; the reload that follows an upgrade reads the files again.
                log.error("upgrade: certificates that are in use cannot be read: %s", error)
                descriptors.close(known["fd"])
                continue
            self._loaded[tls] = _Loaded(tls, bundle, known["fd"], ends, ())
        return self

    # ---

    def _look(self, loaded: _Loaded, now: float) -> None:
        if loaded.is_owed:
            self._give_to_workers(loaded)
        signature = _signature(loaded.tls, self._directory)
        if signature == loaded.signature:
            loaded.seen = ()
            return
        if signature != loaded.seen:
            loaded.seen, loaded.seen_at = signature, now
            loaded.next_try = now + _LOOK_PERIOD
            loaded.trouble, loaded.told = [], []
        elif now >= loaded.next_try:
            loaded.next_try = now + _RETRY_PERIOD
            try:
                self._take(loaded.tls, *_read(loaded.tls, self._directory), signature)
            except SettingsError as error:
                loaded.trouble = error.errors
        elif loaded.trouble != loaded.told and now - loaded.seen_at >= _COMPLAIN_AFTER:
            loaded.told = loaded.trouble
            words.refused(loaded.trouble)

    def _take(self, tls: TlsSettings, bundle: Bundle, contexts: "Contexts", signature: Signature) -> None:
        """Use them from now on. Raises `SettingsError`; nothing changed."""
        old = self._loaded.get(tls)
        if old is not None and old.bundle == bundle:
            old.signature, old.seen = signature, ()
            return
        try:
            fd = bundle.to_memory()
        except OSError as error:
            raise SettingsError(
                [f"certfile: the certificates cannot be kept in memory: {error.strerror}"]
            ) from None
        ends = _ends(bundle, contexts)
        self._loaded[tls] = _Loaded(tls, bundle, fd, ends, signature)
        if old is not None:
            self._give_to_workers(self._loaded[tls])
            descriptors.close(old.fd)
            words.renewed(ends)
        words.remind(ends)
        if old is None:
            for name, issuer in _lone(bundle):
                words.lone(name, issuer)

    def _give_to_workers(self, loaded: _Loaded) -> None:
        in_use = self._children.settings_by_generation()
        generations = {generation for generation, settings in in_use.items() if settings.tls == loaded.tls}
        told = self._children.give_certificates(generations, loaded.fd)
        if not told and not loaded.is_owed:
            log.warning("TLS: not every worker could be given the new certificates; it is retried")
        loaded.is_owed = not told

    def _forget_unused(self) -> None:
        if len(self._loaded) < 2:
            return
        in_use = self._children.settings_by_generation().values()
        used = {settings.tls for settings in (*in_use, self._settings.current)}
        for tls in self._loaded.keys() - used:
            descriptors.close(self._loaded.pop(tls).fd)


def check(settings: Settings, directory: Path) -> list[str]:
    """What is wrong with the files that the settings name: a line for each error."""
    if not _asks_for_tls(settings):
        return []
    try:
        _read(settings.tls, directory)
    except SettingsError as error:
        return error.errors
    return []


def _asks_for_tls(settings: Settings) -> bool:
    return any(speaks_tls(bind) for bind in settings.sockets.bind)


def _read(tls: TlsSettings, directory: Path) -> tuple[Bundle, "Contexts"]:
    bundle = read_bundle(tls, directory)
    return bundle, _contexts_of(bundle, tls)


def _contexts_of(bundle: Bundle, tls: TlsSettings) -> "Contexts":
    from asgi_master.tls.contexts import make_contexts  # noqa: PLC0415 -- OpenSSL is for those who speak TLS

    return make_contexts(bundle, tls)


def _ends(bundle: Bundle, contexts: "Contexts") -> list[tuple[str, float]]:
    return [
        (pair.certfile, context.certificate.ends_at)
        for pair, context in zip(bundle.pairs, contexts.all, strict=True)
    ]


def _lone(bundle: Bundle) -> list[tuple[str, str]]:
    """The certificates that stand without their issuer's: the file, and the issuer's name."""
    from asgi_master.tls.x509 import missing_issuer  # noqa: PLC0415 -- as above

    found = []
    for pair in bundle.pairs:
        with contextlib.suppress(ValueError):  # OpenSSL reads more than we do, and this is a hint
            if issuer := missing_issuer(pair.certificate):
                found.append((pair.certfile, issuer))
    return found


def _signature(tls: TlsSettings, directory: Path) -> Signature:
    """A value that changes when one of the files does, or its permissions."""
    seen: list[object] = []
    for name in files_of(tls):
        try:
            found = (directory / name).stat()
        except OSError as error:
            seen.append((name, error.errno))
        else:
            seen.append(
                (name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            )
    return tuple(seen)
