"""The preconditions of a start, on this machine: one list, for the start and for `--check-config`.

What depends on the moment is not checked: an address or pid file in use may be that of the running master, and
descriptors are passed at the start only.
"""

import errno
import importlib.util
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from asgi_master.directories import Directory
from asgi_master.errors import AsgiMasterError, BindError, SettingsError
from asgi_master.master import open_listener
from asgi_master.master.admin import admin_sockets
from asgi_master.master.certificates import check as check_certificates
from asgi_master.master.log_files import check as check_log_file
from asgi_master.master.pid_file import check_kind
from asgi_master.master.privileges import check_user
from asgi_master.settings.bind import TcpAddress, UnixAddress, parse_bind
from asgi_master.settings.model import Settings, SocketSettings
from asgi_master.telemetry.access_format import check_format
from asgi_master.telemetry.process_identity import configure_process_identity


def check(settings: Settings, directory: Path) -> list[str]:
    """A line for each thing that the settings need and that is not there; relative paths begin in `directory`."""
    errors = check_user(settings)
    if settings.development.reload and importlib.util.find_spec("watchfiles") is None:
        errors.append('reload: watchfiles is not installed; `pip install "asgi-master[reload]"` brings it')
    if settings.http.parser == "zttp" and importlib.util.find_spec("zttp") is None:
        errors.append("http: zttp is not installed; use `auto` or `httptools`")
    if settings.http.http2_engine == "h2" and importlib.util.find_spec("h2") is None:
        errors.append("http2-engine: h2 is not installed; get it with: pip install asgi-master[h2]")
    errors += _token_file(settings, directory)
    try:
        check_format(settings.logging.access_log_format)
    except ValueError as error:
        errors.append(f"access-log-format: {error}")
    return errors + check_certificates(settings, directory)


def refusals(settings: Settings, directory: Path) -> list[str]:
    """All reasons to refuse a start under these settings. Changes the directory and sets up the log of this process."""
    os.chdir(directory)
    errors = check(settings, directory)
    try:
        configure_process_identity("master", settings)
    except SettingsError as error:
        errors += error.errors
    errors += check_log_file(settings, directory)
    errors += _pid_file(settings.process.pid_file)
    for sockets in (settings.sockets, admin_sockets(settings)):
        for bind in sockets.bind:
            errors += _bind(bind, sockets)
    return errors


def _token_file(settings: Settings, directory: Path) -> Iterator[str]:
    observation = settings.observation
    if not observation.admin_actions:
        return
    from asgi_master.control.access import TokenError, read_token  # noqa: PLC0415 -- few have one

    try:
        read_token(directory / observation.admin_token_file)
    except TokenError as error:
        yield f"admin-token-file: {error}"


def _pid_file(name: str) -> Iterator[str]:
    if not name:
        return
    path = Path(name).absolute()
    try:
        with Directory(path.parent) as directory:
            if (entry := directory.entry(path.name)) is not None:
                with entry:
                    check_kind(path, entry)
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except AsgiMasterError as error:
        yield str(error)
    except OSError as error:
        yield f"cannot write the pid file {path}: {error.strerror or error}"


def _bind(bind: str, sockets: SocketSettings) -> Iterator[str]:
    try:
        match parse_bind(bind):
            case TcpAddress() as address:
                open_listener.try_tcp(bind, address)
            case UnixAddress(path):
                _unix(bind, Path(path), sockets)
    except BindError as error:
        yield str(error)


def _unix(bind: str, path: Path, sockets: SocketSettings) -> None:
    """Raises `BindError`."""
    open_listener.owner_of(bind, sockets.uds_owner)
    try:
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise BindError(
                f"cannot bind {bind}: the path is taken by a file that is not a socket; move it away"
            )
        if not os.access(path.parent, os.W_OK | os.X_OK):
            number = errno.EACCES if path.parent.is_dir() else errno.ENOENT
            raise OSError(number, os.strerror(number))
        with socket.socket(socket.AF_UNIX) as sock:
            # Fails for a name that is too long, before anything is looked up.
            sock.connect_ex(os.fspath(path))
    except OSError as error:
        raise BindError(f"cannot bind {bind}: {error.strerror or error}") from None
