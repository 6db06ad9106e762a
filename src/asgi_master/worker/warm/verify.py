"""`--reload-verify`: after a warm import, a cold one in the background; what differs is logged.

The zygote forks a process that describes its modules into a file in memory and then becomes a fresh interpreter, as
`python -m asgi_master.worker.warm.verify FD`, which imports the application and compares.
"""

import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping

from asgi_master import codec
from asgi_master.errors import AsgiMasterError
from asgi_master.ipc.memory import content_of, growing_file
from asgi_master.ipc.prctl import signal_when_parent_dies
from asgi_master.records import record
from asgi_master.settings.model import Settings
from asgi_master.telemetry.process_identity import configure_process_identity
from asgi_master.worker.application import load_application, prepare_environment
from asgi_master.worker.serving import serving
from asgi_master.worker.warm.comparison import State, differences, of_packages, state_of

log = logging.getLogger("asgi_master")


@record
class Warm:
    """What a warm import came to."""

    settings: Settings
    directory: str
    generation: int
    state: State


def verify(warm: Callable[[State], Warm], fork: Callable[[], bool], environ: Mapping[str, str]) -> None:
    """Have another process compare; this one goes on. `fork` returns whether this is the child."""
    if not fork():
        return
    try:
        signal_when_parent_dies(signal.SIGKILL)
        file = growing_file("warm import")
        described = warm(state_of(sys.modules, of_packages("asgi_master")))
        os.pwrite(file, json.dumps(codec.dump(described)).encode(), 0)
        os.set_inheritable(file, True)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
        # It imports the application again: what that prints was seen.
        begin = [*sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]]
        begin = [word.replace("asgi_master.worker.zygote", __name__) for word in begin]
        os.execve(sys.executable, [*begin, str(file)], environ)  # noqa: S606 -- our own program
    finally:
        os._exit(1)


def main(fd: int) -> None:
    """Import as a fresh interpreter does, and log what is not as in the file."""
    warm = codec.load(Warm, json.loads(content_of(fd)))
    os.close(fd)
    # What a zygote has imported, so that it is not taken for a difference.
    importlib.import_module("asgi_master.worker.zygote")
    settings = warm.settings
    serving(settings)
    os.chdir(warm.directory)
    os.environ["PWD"] = warm.directory
    prepare_environment(settings.application)
    os.environ["ASGI_MASTER_GENERATION"] = str(warm.generation)
    configure_process_identity("reload-verify", settings, generation=warm.generation)
    application = settings.application
    try:
        load_application(application.app, factory=application.factory, interface=application.interface)
    except AsgiMasterError as error:
        log.warning("the warm reload differs from a cold one: cold, %s", error)
        return
    found = differences(warm.state, state_of(sys.modules, of_packages("asgi_master")))
    if found:
        log.warning("the warm reload differs from a cold one", extra={"detail": "\n".join(found)})
    else:
        log.info("the warm reload is as a cold one: %d modules compared", len(warm.state))


if __name__ == "__main__":
    main(int(sys.argv[1]))
