"""Loads the application that a target names, with helpful errors."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from asgi_master.errors import ApplicationError
from asgi_master.settings.env_file import parse_env_file
from asgi_master.settings.model import ApplicationSettings
from asgi_master.settings.spelling import nearest
from asgi_master.settings.target import Target, parse_target
from asgi_master.telemetry.failures import describe
from asgi_master.worker.interface import Interface, accepts, accepts_interface

Application = Callable[..., Any]

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_MAX_NAMES = 8


def prepare_environment(application: ApplicationSettings, *, is_known: bool = False) -> None:
    """Put the application's directory on `sys.path`, and load its environment file unless `is_known`.

    Raises `ApplicationError` if the environment file cannot be read.
    """
    directory = str(Path(application.app_dir).absolute())
    if directory in sys.path:
        sys.path.remove(directory)
    sys.path.insert(0, directory)
    if application.env_file and not is_known:
        for key, value in _read_env_file(Path(application.env_file)).items():
            os.environ.setdefault(key, value)


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        variables, errors = parse_env_file(path.read_text(encoding="utf-8"), os.environ)
    except OSError as error:
        raise ApplicationError(f"cannot read the environment file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ApplicationError(f"cannot read the environment file {path}: it is not UTF-8") from None
    if errors:
        line, reason = errors[0]
        raise ApplicationError(f"{path}, line {line}: {reason}")
    return variables


def load_application(target: str, *, factory: bool, interface: str = "auto") -> Application:
    """The application at `target`; with `factory`, the result of the function there.

    `interface` is how it is to be called: `auto`, `asgi` or `wsgi`. Raises `ApplicationError` with one line that names
    what was found. If the application's own code failed, its exception is the `__cause__`.
    """
    try:
        parsed = parse_target(target)
    except ValueError as error:
        raise ApplicationError(f'cannot load "{target}": it {error}') from None
    module = _import(parsed)
    if not parsed.attributes:
        hint = _suggest(module, parsed, "app")
        raise ApplicationError(
            f'cannot load "{parsed}": it names no attribute of {_described(module)}; {hint}'
        )
    found = _look_up(module, parsed)
    if factory:
        found = _call_factory(found, parsed)
        _check(found, f'what the factory "{parsed}" returned', interface)
    else:
        _check(found, f'"{parsed}"', interface)
    application: Application = found
    return application


def load_callable(target: str, *, arguments: int = 0) -> Callable[..., Any]:
    """The callable at `target`, which takes that many arguments, or none. Raises `ApplicationError`."""
    parsed = parse_target(target)
    found = _look_up(_import(parsed), parsed)
    if not callable(found):
        raise ApplicationError(f'"{parsed}" is not callable but {_type(found)}')
    if all(accepts(found, count) is False for count in {0, arguments}):
        takes = "no argument" if not arguments else "no argument, or one"
        raise ApplicationError(f'"{parsed}" must take {takes}')
    callable_: Callable[..., Any] = found
    return callable_


def _import(target: Target) -> ModuleType:
    try:
        return importlib.import_module(target.module)
    except ModuleNotFoundError as error:
        # Either the target itself is missing, or a module that its code imports.
        if not _ran_user_code(error) and f"{target.module}.".startswith(f"{error.name}."):
            raise ApplicationError(_missing_module(target, error.name or target.module)) from None
        raise ApplicationError(f"importing {target.module} failed: {describe(error)}") from error
    except SystemExit as error:
        status = "" if error.code is None else f" with {describe(error)}"
        raise ApplicationError(f"importing {target.module} ended the program{status}") from error
    except BaseException as error:
        raise ApplicationError(f"importing {target.module} failed: {describe(error)}") from error


def _missing_module(target: Target, missing: str) -> str:
    parent_name, _, name = missing.rpartition(".")
    if not parent_name:
        directory = sys.path[0]
        names = sorted(_importable(Path(directory)))
        where = f"in {directory} (--app-dir)"
    else:
        parent = sys.modules.get(parent_name)
        if parent is None or not hasattr(parent, "__path__"):
            return f'cannot load "{target}": {parent_name} is a module, not a package'
        directories = [Path(entry) for entry in parent.__path__]
        names = sorted({found for directory in directories for found in _importable(directory)})
        where = f"in package {parent_name} ({', '.join(map(str, directories))})"
    return f'cannot load "{target}": no module named "{missing}" {where}; {_found(name, names)}'


def _importable(directory: Path) -> set[str]:
    names: set[str] = set()
    try:
        entries = list(directory.iterdir())
    except OSError:
        return names
    for entry in entries:
        if entry.suffix == ".py" and entry.stem.isidentifier() and entry.stem != "__init__":
            names.add(entry.stem)
        elif entry.name.isidentifier() and entry.is_dir() and any(entry.glob("*.py")):
            names.add(entry.name)
    return names


def _look_up(module: ModuleType, target: Target) -> Any:
    found: Any = module
    reached = target.module
    for index, attribute in enumerate(target.attributes):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            if _ran_user_code(error):
                raise ApplicationError(f'loading "{target}" failed: {describe(error)}') from error
            kind = _described(module) if index == 0 else f"{reached} ({_type(found)})"
            hint = (
                _suggest(module, target, attribute)
                if index == 0
                else _found(attribute, [name for name in dir(found) if not name.startswith("_")])
            )
            raise ApplicationError(
                f'cannot load "{target}": {kind} has no attribute "{attribute}"; {hint}'
            ) from None
        except Exception as error:
            raise ApplicationError(f'loading "{target}" failed: {describe(error)}') from error
        reached += f"{'.' if index else ':'}{attribute}"
    return found


def _described(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return f"module {module.__name__} ({file})" if file else f"module {module.__name__}"


def _suggest(module: ModuleType, target: Target, wanted: str) -> str:
    names = [name for name, value in vars(module).items() if _may_be_meant(name, value, module)]
    close = nearest(wanted, names)
    if close and not target.attributes:
        return f'did you mean "{target.module}:{close}"?'
    return _found(wanted, names)


def _may_be_meant(name: str, value: object, module: ModuleType) -> bool:
    """Whether a global looks like an application or a factory: defined in the module, and not a class."""
    if name.startswith("_") or not callable(value) or inspect.isclass(value):
        return False
    return not inspect.isroutine(value) or getattr(value, "__module__", None) == module.__name__


def _found(wanted: str, names: list[str]) -> str:
    if close := nearest(wanted, names):
        return f'did you mean "{close}"?'
    if not names:
        return "no similar name was found"
    more = ", ..." if len(names) > _MAX_NAMES else ""
    return f"found: {', '.join(names[:_MAX_NAMES])}{more}"


def _call_factory(factory: Any, target: Target) -> Any:
    if not callable(factory):
        raise ApplicationError(f'the factory "{target}" is not callable but {_type(factory)}')
    try:
        made = factory()
    except SystemExit as error:
        raise ApplicationError(f'the factory "{target}" ended the program') from error
    except BaseException as error:
        raise ApplicationError(f'the factory "{target}" failed: {describe(error)}') from error
    if inspect.iscoroutine(made):
        made.close()
        raise ApplicationError(
            f'the factory "{target}" is asynchronous: it must return the application, not await it'
        )
    return made


def _check(found: Any, called: str, wanted: str) -> None:
    """Refuse what can certainly not be called so; doubtful objects are decided by their first call."""
    if isinstance(found, ModuleType):
        raise ApplicationError(
            f"{called} is a module, not an application: {_found('app', _candidates(found))}"
        )
    if not callable(found):
        raise ApplicationError(f"{called} is not callable but {_type(found)}")
    if inspect.isclass(found):
        if (
            type(found).__call__ is type.__call__
            and found.__new__ is object.__new__
            and not hasattr(found, "__await__")
        ):
            raise ApplicationError(
                f"{called} is a class, not an application: use --factory if calling it returns one"
            )
        return
    is_asgi = accepts_interface(found, Interface.ASGI)
    is_wsgi = accepts_interface(found, Interface.WSGI)
    if {"auto": is_asgi or is_wsgi, Interface.ASGI: is_asgi, Interface.WSGI: is_wsgi}[wanted]:
        return
    if is_wsgi:
        raise ApplicationError(
            f"{called} looks like a WSGI application (it takes two arguments), but --interface is asgi"
        )
    if is_asgi:
        raise ApplicationError(
            f"{called} looks like an ASGI application (it takes three arguments), but --interface is wsgi"
        )
    hint = ": use --factory if calling it returns one" if accepts(found, 0) else ""
    arguments = {
        "asgi": "scope, receive and send, as ASGI applications are",
        "wsgi": "environ and start_response, as WSGI applications are",
    }.get(wanted, "scope, receive and send (ASGI), nor with environ and start_response (WSGI)")
    raise ApplicationError(f"{called} cannot be called with {arguments}{hint}")


def _candidates(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if _may_be_meant(name, value, module)]


def _type(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _ran_user_code(error: BaseException) -> bool:
    return any(not _is_machinery(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen importlib")) or filename == importlib.__file__
