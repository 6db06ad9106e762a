"""Checks of settings against each other and against this machine; each value by itself is checked by its type."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asgi_master.records import record
from asgi_master.settings.access_headers import parse_access_header, parse_header_name
from asgi_master.settings.bind import (
    TLS_PREFIX,
    InheritedFd,
    TcpAddress,
    for_slot,
    is_per_slot,
    parse_bind,
    speaks_tls,
)
from asgi_master.settings.env_file import parse_env_file
from asgi_master.settings.exclusions import parse_exclusion
from asgi_master.settings.headers import parse_header
from asgi_master.settings.model import Settings
from asgi_master.settings.peers import parse_peer
from asgi_master.settings.services import parse_callable, parse_service
from asgi_master.settings.sticky import parse_sticky
from asgi_master.settings.target import parse_target
from asgi_master.settings.values import SECONDS, show

DEFAULT = "default"
"""The origin of a default value."""

_ACCOUNT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\$?", re.ASCII)
_OWNER = re.compile(rf"{_ACCOUNT.pattern}(:({_ACCOUNT.pattern})?)?|:{_ACCOUNT.pattern}", re.ASCII)

_TARGET = re.compile(r'/[!"$-~]*', re.ASCII)
"""A path and query as a request line carries them."""


def check(settings: Settings, origins: Mapping[str, str], directory: Path, invalid: set[str]) -> list[str]:
    """A line for each error. Settings in `invalid` could not be read and are not checked."""
    lines = []
    for finding in _Checks(settings, origins, directory).findings():
        if finding.name in invalid or invalid.intersection(finding.depends_on):
            continue
        origin = origins[finding.name]
        lines.append(
            f"{finding.name.replace('_', '-')}: {finding.text}"
            + (f" ({origin})" if origin != DEFAULT else "")
        )
    return lines


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 -- few name one

    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


@record
class _Finding:
    name: str
    text: str
    depends_on: tuple[str, ...] = ()
    """Other settings that the finding depends on."""


class _Checks:
    def __init__(self, settings: Settings, origins: Mapping[str, str], directory: Path) -> None:
        self._settings = settings
        self._origins = origins
        self._directory = directory

    def findings(self) -> Iterator[_Finding]:
        yield from self._application()
        yield from self._processes()
        yield from self._services()
        yield from self._privileges()
        yield from self._addresses()
        yield from self._tls()
        yield from self._http()
        yield from self._proxies()
        yield from _each("sticky", self._settings.affinity.sticky, parse_sticky)
        yield from self._access_log()
        yield from self._files()
        yield from self._times()

    def _access_log(self) -> Iterator[_Finding]:
        logging = self._settings.logging
        yield from _each("access_log_exclude", logging.access_log_exclude, parse_exclusion)
        yield from _each("access_log_header", logging.access_log_header, parse_access_header)
        yield from _each("request_id_header", logging.request_id_header, parse_header_name)
        if logging.log_format not in ("auto", "text") and self._origins["access_log_format"] != DEFAULT:
            yield _Finding(
                "access_log_format",
                f"its lines are text, but {self._named('log_format', logging.log_format)}, whose fields are fixed: "
                "use --access-log-header NAME for more",
                ("log_format",),
            )

    def _times(self) -> Iterator[_Finding]:
        zone = self._settings.logging.log_timezone
        if zone.lower() not in ("local", "utc") and not _is_zone(zone):
            yield _Finding("log_timezone", f"no time zone {show(zone)} is known here")

    def _application(self) -> Iterator[_Finding]:
        app = self._settings.application.app
        if not app:
            yield _Finding("app", "missing: give the application to serve, such as main:app")
            return
        yield from _each("app", (app,), parse_target)

    def _processes(self) -> Iterator[_Finding]:
        process = self._settings.process
        if process.shutdown_timeout and process.shutdown_timeout >= process.drain_timeout:
            yield _Finding(
                "shutdown_timeout",
                f"{SECONDS.write(process.shutdown_timeout)} is not less than the whole: "
                f"{self._named('drain_timeout', SECONDS.write(process.drain_timeout))}",
                ("drain_timeout",),
            )
        if process.max_surge == 0 and process.max_unavailable == 0:
            yield _Finding(
                "max_surge",
                f"0 leaves a reload no room while {self._named('max_unavailable', '0')}: "
                "one of them must be at least 1",
                ("max_unavailable",),
            )
        path = process.health_path
        if path and not _TARGET.fullmatch(path):
            yield _Finding("health_path", f"{show(path)} is not a path: it must begin with / and be escaped")
        if "/" in process.name or not process.name.isprintable():
            yield _Finding("name", f"{show(process.name)} is not a plain name")

    def _services(self) -> Iterator[_Finding]:
        lifespan, services = self._settings.lifespan, self._settings.services
        for name, hook in (
            ("hook_worker_start", lifespan.hook_worker_start),
            ("hook_worker_exit", lifespan.hook_worker_exit),
        ):
            yield from _each(name, filter(None, [hook]), parse_callable)
        yield from _each("service", services.service, parse_service)
        seen: set[str] = set()
        for text in services.service:
            with contextlib.suppress(ValueError):
                name = parse_service(text).name
                if name in seen:
                    yield _Finding("service", f"{show(name)} names two services: give NAME=MODULE:CALLABLE")
                seen.add(name)

    def _privileges(self) -> Iterator[_Finding]:
        wanted = self._settings.privileges
        for name, value in (("user", wanted.user), ("group", wanted.group)):
            if value and not _ACCOUNT.fullmatch(value):
                yield _Finding(name, f"{show(value)} is neither a name nor a number")
        if wanted.group and not wanted.user:
            yield _Finding("group", f"{show(wanted.group)} needs a user: give --user too", ("user",))

    def _addresses(self) -> Iterator[_Finding]:
        sockets = self._settings.sockets
        if not sockets.bind:
            yield _Finding("bind", "is empty: give at least one address")
        yield from _each("bind", sockets.bind, parse_bind)
        seen: set[object] = set()
        for text in sockets.bind:
            try:
                address = parse_bind(text)
            except ValueError:
                continue
            if address in seen and not (isinstance(address, TcpAddress) and address.port == 0):
                yield _Finding("bind", f"{show(text)} is given twice")
            if isinstance(address, InheritedFd) and address.fd <= 2:
                yield _Finding("bind", f"{show(text)} is a standard stream, not a socket")
            seen.add(address)
        yield from self._slot_addresses(seen)
        yield from self._admin_address(seen)
        if sockets.uds_owner and not _OWNER.fullmatch(sockets.uds_owner):
            yield _Finding("uds_owner", f"{show(sockets.uds_owner)} is not USER, USER:GROUP or :GROUP")

    def _slot_addresses(self, others: set[object]) -> Iterator[_Finding]:
        """Those of the slots after the first, which are added to `others`."""
        for text in filter(is_per_slot, self._settings.sockets.bind):
            for slot in range(1, self._settings.process.workers):
                try:
                    address = parse_bind(for_slot(text, slot))
                except ValueError as error:
                    yield _Finding("bind", f"{show(text)}, for slot {slot}, {error}", ("workers",))
                    break
                if address in others:
                    yield _Finding("bind", f"{show(text)}, for slot {slot}, is given twice", ("workers",))
                    break
                others.add(address)

    def _admin_address(self, others: set[object]) -> Iterator[_Finding]:
        observation = self._settings.observation
        text = observation.admin_bind
        if observation.admin_actions and not observation.admin_token_file:
            yield _Finding("admin_actions", "true, but no admin-token-file is given", ("admin_token_file",))
        if not text:
            if observation.admin_actions:
                yield _Finding("admin_actions", "true, but there is no admin-bind", ("admin_bind",))
            return
        try:
            address = parse_bind(text)
        except ValueError as error:
            yield _Finding("admin_bind", f"{show(text)} {error}")
            return
        if is_per_slot(text):
            yield _Finding("admin_bind", f"{show(text)}: it is the master's, which has no slot")
        if speaks_tls(text):
            yield _Finding("admin_bind", f"{show(text)}: TLS is not supported there")
        if address in others and not (isinstance(address, TcpAddress) and address.port == 0):
            yield _Finding("admin_bind", f"{show(text)} is an address of the application", ("bind",))

    def _tls(self) -> Iterator[_Finding]:
        tls = self._settings.tls
        secure = [bind for bind in self._settings.sockets.bind if speaks_tls(bind)]
        if secure and not tls.certfile:
            yield _Finding(
                "bind", f"{show(secure[0])} needs a certificate: give certfile and keyfile", ("certfile",)
            )
        if tls.certfile and not secure:
            example = next(iter(self._settings.sockets.bind), "0.0.0.0:443")
            yield _Finding(
                "certfile",
                f"no address speaks TLS: write --bind {show(TLS_PREFIX + example)} for one that does",
                ("bind",),
            )
        if tls.keyfile and len(tls.keyfile) != len(tls.certfile):
            yield _Finding(
                "keyfile",
                f"there are {len(tls.keyfile)} for {len(tls.certfile)} certfiles: give one for each, in the same order",
                ("certfile",),
            )
        if tls.keyfile_password and tls.keyfile_password_file:
            yield _Finding("keyfile_password", "keyfile-password-file is given too: give one of them")
        if tls.client_cert != "none" and not tls.ca_certs:
            yield _Finding("client_cert", f"{tls.client_cert} needs ca-certs to verify with", ("ca_certs",))
        if tls.client_cert == "none" and tls.ca_certs:
            yield _Finding(
                "ca_certs",
                "no client is asked for a certificate: use --client-cert required",
                ("client_cert",),
            )

    def _http(self) -> Iterator[_Finding]:
        http = self._settings.http
        yield from _each("header", http.header, parse_header)
        if http.root_path and (not http.root_path.startswith("/") or http.root_path.endswith("/")):
            yield _Finding("root_path", f"{show(http.root_path)} must begin with / and not end with it")

    def _proxies(self) -> Iterator[_Finding]:
        proxy = self._settings.proxy
        yield from _each("forwarded_allow_ips", proxy.forwarded_allow_ips, parse_peer)
        yield from _each("proxy_protocol_allow_ips", proxy.proxy_protocol_allow_ips, parse_peer)
        if proxy.forwarded_prefix and not proxy.forwarded_allow_ips:
            yield _Finding(
                "forwarded_prefix",
                "true, but forwarded-allow-ips names no trusted proxy",
                ("forwarded_allow_ips",),
            )
        elif proxy.forwarded_prefix and proxy.forwarded_headers != "x-forwarded":
            yield _Finding(
                "forwarded_prefix",
                "true, but Forwarded (RFC 7239) knows no prefix: it needs forwarded-headers x-forwarded",
                ("forwarded_headers",),
            )
        if proxy.proxy_protocol and not proxy.proxy_protocol_allow_ips:
            yield _Finding(
                "proxy_protocol",
                "true, but proxy-protocol-allow-ips names no proxy: every connection would be refused",
                ("proxy_protocol_allow_ips",),
            )

    def _files(self) -> Iterator[_Finding]:
        application = self._settings.application
        if not _is(self._directory, Path.is_dir):
            if application.chdir:
                yield _Finding("chdir", f"{show(application.chdir)} is not a directory")
            else:
                yield _Finding("app_dir", f"the working directory {show(str(self._directory))} is not there")
            return
        if not _is(self._directory / application.app_dir, Path.is_dir):
            yield _Finding("app_dir", f"{show(application.app_dir)} is not a directory")
        for name in self._settings.development.reload_dir:
            if not _is(self._directory / name, Path.is_dir):
                yield _Finding("reload_dir", f"{show(name)} is not a directory")
        if application.env_file:
            yield from self._env_file(application.env_file)
        log_config = self._settings.logging.log_config
        if log_config and not _is(self._directory / log_config, Path.is_file):
            yield _Finding("log_config", f"{show(log_config)} is not a file")

    def _env_file(self, name: str) -> Iterator[_Finding]:
        try:
            _variables, errors = parse_env_file((self._directory / name).read_text(encoding="utf-8"))
        except OSError as error:
            yield _Finding("env_file", f"{show(name)} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            yield _Finding("env_file", f"{show(name)} is not UTF-8")
        else:
            for line, reason in errors:
                yield _Finding("env_file", f"{show(name)}, line {line}: {reason}")

    def _named(self, name: str, value: str) -> str:
        """Another setting's value, and its origin."""
        return f"{name.replace('_', '-')} is {value} ({self._origins[name]})"


def _is(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except OSError:
        # No permission to look, or no possible name.
        return False


def _each(name: str, texts: Iterable[str], parse: Callable[[str], Any]) -> Iterator[_Finding]:
    for text in texts:
        try:
            parse(text)
        except ValueError as error:
            yield _Finding(name, f"{show(text)} {error}")
