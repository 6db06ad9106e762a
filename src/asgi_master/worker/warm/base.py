"""The warm base: a process that has imported what the application needs and nothing of the application.

It is started after a cold import has shown what that is (`learning`), and then forks zygotes, each before the reload
that will use it. The forked zygote decides: if anything may be other than in a fresh interpreter, it starts again
as one.
"""

import gc
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgi_master.errors import ApplicationError, AsgiMasterError, ExitCode
from asgi_master.ipc import descriptors
from asgi_master.ipc.channel import Channel
from asgi_master.ipc.messages import Boot, ForkZygote, WarmedUp, WarmUp, ZygoteForked
from asgi_master.records import mutable_record
from asgi_master.settings.model import Settings
from asgi_master.telemetry import titles
from asgi_master.worker.application import prepare_environment
from asgi_master.worker.fork_hazards import ForkHazards
from asgi_master.worker.randomness import generators
from asgi_master.worker.warm.inputs import Source, Stamps, source_of, surroundings
from asgi_master.worker.warm.learning import Learnt, load
from asgi_master.worker.warm.source_tree import SourceTree


class StepError(Exception):
    """This step, and what follows it, cannot be taken without the application."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(what)
        self.step = step


@mutable_record
class Warmth:
    """What a base has imported, and under which conditions; its zygotes inherit it."""

    settings: Settings
    directory: str
    learnt: Learnt
    sources: dict[str, Source]
    """The application's files when they were learnt, by path."""
    inputs: Stamps
    generators: list[Any]
    """Random generators of the installed modules."""

    def objection(self, boot: Boot) -> str:
        """Why an import on top of this could differ from one in a fresh interpreter; empty if it would not."""
        if boot.settings.application != self.settings.application or boot.directory != self.directory:
            return "the settings changed"
        if boot.settings.logging.log_config:
            return "log-config may import modules first"
        if changed := self.inputs.changed():
            return f"{_short(changed[0])} changed"
        for number, (path, source) in enumerate(self.sources.items()):
            if not Path(path).exists():
                return f"{_short(path)} is gone"
            if number < self.learnt.fixed and Source.read(path).stamp != source.stamp:
                return f"{_short(path)} comes before what it sets up"
            if name := source.dropped(path):
                return f"{_short(path)} no longer imports {name.lstrip(':')}"
        return ""


def _short(path: str) -> str:
    return Path(path).name


def tree_of(settings: Settings, directory: str) -> SourceTree:
    """The application's files are below the watched directories."""
    watched = settings.development.reload_dir or (settings.application.app_dir,)
    return SourceTree(str(Path(directory, entry)) for entry in (*watched, settings.application.app_dir))


def run_base(channel: Channel, master_pid: int, fork: Callable[[int], bool]) -> tuple[Channel, Warmth]:
    """Import, then fork zygotes as ordered until the channel ends. Returns in a forked zygote, with its own channel.

    `fork(master_pid)` forks a child of the master and returns whether this is the child.
    """
    warmth: Warmth | None = None
    while (received := channel.receive()) is not None:
        match received.message:
            case WarmUp() as order:
                warmth = _warm_up(order, received.fds, channel)
            case ForkZygote():
                (zygote_fd,) = received.fds
                if warmth is not None and fork(master_pid):
                    channel.send(ZygoteForked(os.getpid()))
                    channel.close()
                    return Channel.of_fd(zygote_fd), warmth
                descriptors.close(zygote_fd)
    sys.exit(ExitCode.OK)


def _warm_up(order: WarmUp, fds: list[int], channel: Channel) -> Warmth | None:
    (learnt_fd,) = fds
    # Before the environment changes: it is found beside it.
    titles.set_title("warm base", application=order.settings.application.app)
    try:
        learnt = load(learnt_fd)
        if order.limit >= 0:
            del learnt.steps[order.limit :]
        warmth = imported(order, learnt)
    except StepError as error:
        channel.send(WarmedUp(0, str(error), error.step))
        return None
    except (AsgiMasterError, ValueError, TypeError, OSError) as error:
        channel.send(WarmedUp(0, str(error)))
        return None
    finally:
        descriptors.close(learnt_fd)
    channel.send(WarmedUp(len(learnt.modules), ""))
    return warmth


def imported(order: WarmUp, learnt: Learnt) -> Warmth:
    """Import what was learnt. Raises `AsgiMasterError` if a fork of it could not be what a fresh interpreter is."""
    settings = order.settings
    os.chdir(order.directory)
    os.environ["PWD"] = order.directory
    sources = {path: Source.read(path) for path in learnt.files}
    for file, stamp in zip(learnt.files, learnt.stamps, strict=True):
        if sources[file].stamp != stamp:
            raise ApplicationError(f"{_short(file)} was saved again before the base was ready")
    prepare_environment(settings.application)
    tree = tree_of(settings, order.directory)
    before = Stamps.of(surroundings(settings.application.env_file, order.directory))
    environ, path = dict(os.environ), list(sys.path)
    known = {"__main__"}
    with ForkHazards() as hazards:
        for number, step in enumerate(learnt.steps):
            _take(step.module, step.environ, step.path, number)
            for name in sys.modules.keys() - known:
                if tree.owns(getattr(sys.modules[name], "__spec__", None)):
                    raise StepError(f"{step.module} imports {name}", number)
            known = set(sys.modules)
    if found := hazards.found():
        raise ApplicationError(found[0])
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
    files = {file for module in list(sys.modules.values()) if (file := source_of(module))}
    inputs = Stamps({**before.taken, **Stamps.of(files).taken})
    found_generators = generators()
    gc.collect()
    gc.freeze()
    return Warmth(settings, order.directory, learnt, sources, inputs, found_generators)


def _take(module: str, environ: dict[str, str | None], path: list[str] | None, number: int) -> None:
    if module and module not in sys.modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 -- of any package
            raise StepError(f"{module} cannot be imported by itself: {error}", number) from None
    for name, value in environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if path is not None:
        sys.path[:] = path
