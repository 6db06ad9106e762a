"""Finds the application of a project for `asgi-master dev`: by reading sources, not by importing them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from asgi_master.records import record

_FILES = ("main.py", "app.py", "asgi.py", "api.py", "application.py", "server.py", "wsgi.py")
"""Where applications usually are, in the order in which they are looked for."""
_NAMES = ("app", "application", "api", "asgi")
_FACTORIES = ("create_app", "make_app", "get_app")


@record
class Found:
    """An application."""

    target: str
    """`MODULE:ATTRIBUTE`."""
    app_dir: str
    """The directory that its module is found in, relative to the project's."""
    is_factory: bool
    file: str
    """Its source, relative to the project."""


def find_target(directory: Path) -> Found | None:
    """The application of the project in `directory`; `None` if there is none in the usual places."""
    for root, file in _candidates(directory):
        if found := _in_file(directory, root, file):
            return found
    return None


def target_of_file(directory: Path, name: str) -> Found | None:
    """The application in one source file, or a package's; `None` if there is none in it."""
    file = directory / name
    if file.is_dir():
        file /= "__init__.py"
    root = file.parent
    while (root / "__init__.py").is_file() and root != directory:
        root = root.parent
    return _in_file(directory, root, file)


def _candidates(directory: Path) -> Iterator[tuple[Path, Path]]:
    """The directory for `sys.path`, and a source below it."""
    for name in _FILES:
        yield directory, directory / name
    source = directory / "src"
    roots = [directory, *([source] if source.is_dir() else [])]
    packages = [
        (root, entry)
        for root in roots
        for entry in sorted(root.iterdir())
        if entry.is_dir() and entry.name.isidentifier() and (root, entry) != (directory, source)
    ]
    for name in (*_FILES, "__init__.py"):
        for root, package in packages:
            yield root, package / name


def _in_file(directory: Path, root: Path, file: Path) -> Found | None:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    bound, functions = _names_in(tree)
    name = next((name for name in _NAMES if name in bound), "")
    factory = next((name for name in _FACTORIES if name in functions), "")
    if not name and not factory:
        return None
    words = file.relative_to(root).with_suffix("").parts
    module = ".".join(words[:-1] if words[-1] == "__init__" else words)
    app_dir = str(root.relative_to(directory))
    return Found(f"{module}:{name or factory}", app_dir, not name, str(file.relative_to(directory)))


def _names_in(tree: ast.Module) -> tuple[set[str], set[str]]:
    """What a module binds at its top, and the functions among it. An imported `app` is one, too: packages have it."""
    bound: set[str] = set()
    functions: set[str] = set()
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets):
                bound.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
                bound.add(name)
            case ast.AsyncFunctionDef(name=name, args=arguments) if len(arguments.args) == 3:
                bound.add(name)
            case ast.FunctionDef(name=name):
                functions.add(name)
            case ast.ImportFrom(names=names):
                bound.update(alias.asname or alias.name for alias in names if alias.name in _NAMES)
    return bound, functions
