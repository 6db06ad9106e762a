"""Runs an application cold and warm, as `--reload` does, without a server: `python -m warm_runs MODE DIRECTORY FD`.

`learn` imports it cold and writes what that shows to FD. `warm` makes a base of it and, for each line that it reads,
forks a process that imports the application and prints the answer, or why it would be cold. `cold` prints the answer of
a fresh interpreter.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen, run
from typing import Any

from asgi_master.errors import AsgiMasterError
from asgi_master.ipc.messages import Boot, WarmUp
from asgi_master.settings.model import Settings
from asgi_master.worker.application import load_application, prepare_environment
from asgi_master.worker.warm import base, learning

SUPPORT = Path(__file__).resolve().parent
SOURCE = SUPPORT.parent.parent / "src"


def settings() -> Settings:
    """Those of `asgi-master --reload main:app`."""
    made = Settings()
    return replace(
        made,
        application=replace(made.application, app="main:app"),
        development=replace(made.development, reload=True),
    )


def answer() -> str:
    """What the application answers to GET /, or why it cannot be loaded."""
    try:
        app = load_application("main:app", factory=False)
    except AsgiMasterError as error:
        return str(error)
    return asyncio.run(_get(app))


async def _get(app: Callable[..., Any]) -> str:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
        "state": {},
    }
    requests = [{"type": "http.request", "body": b"", "more_body": False}]
    parts: list[bytes] = []
    status = 0

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        return None

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return f"{status} {b''.join(parts).decode()}"


class Application:
    """An application in a directory, edited step by step; each answer is compared with that of a fresh interpreter."""

    def __init__(self, directory: Path, files: dict[str, str], paths: Sequence[Path] = ()) -> None:
        self.directory = directory
        self._paths = paths
        self.write(files)
        self._warm: Popen[str] | None = None
        self._learn()

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write these files; `None` removes one."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)

    def answers(self) -> tuple[str, str, str]:
        """The manner, the warm answer and the cold one."""
        assert self._warm is not None
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write("\n")
        self._warm.stdin.flush()
        line = self._warm.stdout.readline()
        assert line, "the base is gone"
        manner, warm = json.loads(line)
        cold = json.loads(self._run("cold"))[1]
        if manner != "warm":
            self._learn()
            warm = cold
        return manner, warm, cold

    def close(self) -> None:
        """End the base."""
        if self._warm is not None:
            self._warm.communicate("")
            self._warm = None

    def _learn(self) -> None:
        self.close()
        file = self.directory.parent / "learnt"
        with file.open("w+b") as learnt:
            self._run("learn", learnt.fileno())
            self._warm = Popen(
                self._command("warm", learnt.fileno()),
                pass_fds=[learnt.fileno()],
                env=self._environ(),
                stdin=PIPE,
                stdout=PIPE,
                text=True,
            )
        assert self._warm.stdout is not None
        assert self._warm.stdout.readline() == "ready\n"

    def _command(self, mode: str, fd: int) -> list[str]:
        return [sys.executable, "-m", "warm_runs", mode, str(self.directory), str(fd)]

    def _environ(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, [SOURCE, SUPPORT, *self._paths]))
        return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": str(self.directory)}

    def _run(self, mode: str, fd: int = -1) -> str:
        fds = [fd] if fd >= 0 else []
        done = run(
            self._command(mode, fd), pass_fds=fds, env=self._environ(), stdout=PIPE, text=True, check=True
        )
        return done.stdout.splitlines()[-1] if done.stdout else ""


def _learn(directory: str, fd: int) -> None:
    prepare_environment(settings().application)
    with learning.ImportLearner(base.tree_of(settings(), directory)) as learner:
        answer_of_import()
    learning.dump(learner.learnt, fd)


def answer_of_import() -> None:
    """Only the import, as the zygote does it."""
    try:
        load_application("main:app", factory=False)
    except AsgiMasterError as error:
        print(error, file=sys.stderr)


def _serve_warm(directory: str, fd: int) -> None:
    learnt = learning.load(fd)
    warmth = None
    order = WarmUp(directory, settings())
    try:
        warmth = base.imported(order, learnt)
    except base.StepError as error:
        os.pwrite(fd, b"", 0)
        del learnt.steps[error.step :]
        learning.dump(learnt, fd)
        os.set_inheritable(fd, True)
        os.execv(sys.executable, [sys.executable, "-m", "warm_runs", *sys.argv[1:]])
    print("ready", flush=True)
    for _ in sys.stdin:
        reason = warmth.objection(Boot(1, directory, settings()))
        if reason:
            print(json.dumps([reason, ""]), flush=True)
        elif (pid := os.fork()) == 0:
            with learning.ImportLearner(base.tree_of(settings(), directory), learns=False):
                text = answer()
            print(json.dumps(["warm", text]), flush=True)
            os._exit(0)
        else:
            os.waitpid(pid, 0)


def main() -> None:
    """Run one mode."""
    mode, directory, fd = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.chdir(directory)
    match mode:
        case "learn":
            _learn(directory, fd)
        case "warm":
            _serve_warm(directory, fd)
        case "cold":
            prepare_environment(settings().application)
            print(json.dumps(["cold", answer()]))


if __name__ == "__main__":
    main()
