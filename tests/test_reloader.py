import json
import os
import select
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import asgi_master
from asgi_master.errors import ExitCode
from asgi_master.reloader import DEFAULT_INCLUDES, is_included

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(asgi_master.__file__).parent.parent)}
COMMAND = [sys.executable, "-P", "-m", "asgi_master.reloader"]


@contextmanager
def watcher(*arguments):
    """A running watcher and the read end of its pipe."""
    read, write = os.pipe()
    with (
        os.fdopen(read, "rb", buffering=0) as changes,
        subprocess.Popen(
            [*COMMAND, str(write), *map(str, arguments)], pass_fds=[write], env=ENVIRONMENT
        ) as process,
    ):
        os.close(write)
        try:
            yield process, changes
        finally:
            process.kill()


def told(changes, seconds):
    return bool(select.select([changes], [], [], seconds)[0])


def wait_until_told(changes, touch):
    """Change a file again and again until the watcher, which takes a moment to start, tells of it."""
    for _ in range(100):
        touch()
        if told(changes, 0.2):
            return changes.read(4096).partition(b"\n")[0] + b"\n"
    raise AssertionError("no change was told")


def drain(changes):
    while told(changes, 0.5):
        changes.read(4096)


def test_a_line_is_written_for_changes_that_matter(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__pycache__").mkdir()
    with watcher(tmp_path) as (_process, changes):
        source = package / "module.py"
        assert (
            wait_until_told(changes, lambda: source.write_text("a"))
            == json.dumps([str(source)]).encode() + b"\n"
        )
        drain(changes)
        (package / "notes.txt").write_text("b")
        (package / "__pycache__" / "module.py").write_text("b")
        assert not told(changes, 1.5)
        (package / "notes.txt").unlink()
        source.unlink()
        assert wait_until_told(changes, lambda: None)


def test_includes_replace_the_default_and_several_directories_are_watched(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    with watcher("--include", "*.html", "--include", "conf/*.toml", first, second) as (_process, changes):
        (second / "conf").mkdir()
        wait_until_told(changes, lambda: (first / "page.html").write_text("a"))
        drain(changes)
        (first / "module.py").write_text("a")
        assert not told(changes, 1.0)
        wait_until_told(changes, lambda: (second / "conf" / "x.toml").write_text("a"))


@pytest.mark.parametrize(
    ("path", "includes", "included"),
    [
        ("/srv/app.py", DEFAULT_INCLUDES, True),
        ("/srv/app.pyc", DEFAULT_INCLUDES, False),
        ("/srv/app.html", ("*.html", "*.py"), True),
        ("/srv/conf/app.toml", ("conf/*.toml",), True),
        ("/srv/other/app.toml", ("conf/*.toml",), False),
        ("/srv/app.py", (), False),
    ],
)
def test_patterns(path, includes, included):
    assert is_included(path, includes) is included


def test_it_ends_without_a_reader(tmp_path):
    with watcher(tmp_path) as (process, changes):
        wait_until_told(changes, lambda: (tmp_path / "a.py").write_text("a"))
        changes.close()
        assert process.wait(20) == ExitCode.OK


def test_it_ends_with_its_parent(tmp_path):
    read, write = os.pipe()
    parent = """
import subprocess, sys
process = subprocess.Popen(sys.argv[2:], pass_fds=[int(sys.argv[1])])
print(process.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", parent, str(write), *COMMAND, str(write), str(tmp_path)]
    with (
        os.fdopen(read, "rb", buffering=0) as changes,
        subprocess.Popen(
            command,
            pass_fds=[write],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        os.close(write)
        watching = os.pidfd_open(int(process.stdout.readline()))
        with closing(os.fdopen(watching, "rb", closefd=True)):
            wait_until_told(changes, lambda: (tmp_path / "a.py").write_text("a"))
            process.kill()
            process.wait(20)
            assert select.select([watching], [], [], 20)[0]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_word(tmp_path, signum):
    read, write = os.pipe()
    with (
        os.fdopen(read, "rb", buffering=0) as changes,
        subprocess.Popen(
            [*COMMAND, str(write), str(tmp_path)], pass_fds=[write], env=ENVIRONMENT, stderr=subprocess.PIPE
        ) as process,
    ):
        os.close(write)
        wait_until_told(changes, lambda: (tmp_path / "a.py").write_text("a"))
        process.send_signal(signum)
        _out, said = process.communicate(timeout=20)
    assert process.returncode == -signum
    assert said == b""


def fails(command):
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    (line,) = done.stderr.splitlines()
    return done.returncode, line


def test_a_directory_that_does_not_exist_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    assert fails([*COMMAND, "1", str(tmp_path), str(gone)]) == (
        ExitCode.USAGE,
        f"asgi-master: --reload cannot watch {gone}: there is no such directory",
    )


def test_without_watchfiles_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['watchfiles'] = None; from asgi_master.reloader import main; sys.exit(main())"
    assert fails([sys.executable, "-c", code, "1", str(tmp_path)]) == (
        ExitCode.USAGE,
        'asgi-master: --reload needs watchfiles: pip install "asgi-master[reload]"',
    )
