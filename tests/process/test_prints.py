"""What an application prints comes out at once, once, and is not lost with its process."""

import os
import signal
from pathlib import Path

import pytest

from fleet import Fleet, wait_until

PRINTS = """
import os
print("imported", end="; ")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    print("served", os.getpid())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


def test_lines_are_on_the_pipe_while_their_process_lives(fleet: Fleet) -> None:
    fleet.serve_source(PRINTS, workers=2)
    wait_until(lambda: len(fleet.output) == 2, "both workers have printed")
    assert sorted(fleet.output) == ["imported; started", "started"], "what the zygote printed came out once"
    with fleet.client() as client:
        client.get("/")
    wait_until(lambda: len(fleet.output) == 3, "the request has printed")
    pid = int(fleet.output[2].removeprefix("served "))
    fleet.expect_log("WARNING|ERROR")
    os.kill(pid, signal.SIGKILL)
    fleet.wait_line("SIGKILL")


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_lines_are_in_a_file_though_their_process_was_killed(
    fleet: Fleet, tmp_path: Path, preload: str
) -> None:
    printed = tmp_path / "printed"
    leading = f"import os\nos.dup2(os.open({str(printed)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)\n"
    fleet.serve_source(leading + PRINTS, "--preload", preload, workers=1)
    fleet.expect_log("WARNING|ERROR")
    os.kill(fleet.workers()[0].pid, signal.SIGKILL)
    wait_until(lambda: printed.read_text().count("started") == 2, "the next worker has printed")
