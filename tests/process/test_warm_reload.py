"""`--reload` on top of what is imported already: as fast as the application's own modules, and never other than cold."""

import contextlib
import os

import psutil

from fleet import APPS, SOURCE, Fleet, wait_until

MAIN = """
import probe
from installed_lib import WORD
import helper
async def version(s, r, send, q):
    await probe.answer(send, f"TEXT {WORD} {helper.NAME}".encode())
probe.ENDPOINTS["/version"] = version
app = probe.app
"""


class Development:
    """A fleet under `--reload`, edited step by step."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._bases: set[int] = set()

    def wait_base(self, *, is_new: bool) -> None:
        """Until there is a warm base, and a zygote of it that waits."""

        def both() -> set[int] | None:
            found = set()
            for child in psutil.Process(self.fleet.pid).children():
                with contextlib.suppress(psutil.Error):
                    if "warm base" in " ".join(child.cmdline()):
                        found.add(child.pid)
            return found if len(found) == 2 and not (is_new and found & self._bases) else None

        self._bases = wait_until(both, "a warm base and its zygote")

    def edit(self, name: str, text: str, *, answer: str, manner: str) -> None:
        """Write a file, wait for the reload and look at what it serves."""
        mark = len(self.fleet.lines)
        path = self.fleet.directory / name
        path.write_text(text)
        self.fleet.wait_line(rf"reloaded in .*\({manner}\)", after=mark)
        with self.fleet.client() as client:
            assert client.get("/version").text == answer
        self.wait_base(is_new=manner != "warm")


def test_a_reload_is_warm_unless_something_else_than_the_code_changed(fleet: Fleet) -> None:
    packages = fleet.directory / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "installed_lib.py").write_text("WORD = 'one'\n")
    fleet.write("helper.py", "import os\nNAME = os.environ['NAME']\n")
    fleet.write("changing.py", MAIN)
    (fleet.directory / "settings.env").write_text("NAME=a\n")
    fleet.start(
        *(
            "--reload",
            "--reload-verify",
            "--env-file",
            "settings.env",
            "--bind",
            "127.0.0.1:0",
            "changing:app",
        ),
        env={"PYTHONPATH": os.pathsep.join(map(str, [SOURCE, APPS, packages]))},
    )
    fleet.wait_ready(1)
    development = Development(fleet)
    development.wait_base(is_new=True)
    edit = development.edit
    edit("changing.py", MAIN.replace("TEXT", "second"), answer="second one a", manner="warm")
    fleet.wait_line("the warm reload is as a cold one: [0-9]+ modules compared")
    edit(
        "lib/site-packages/installed_lib.py",
        "WORD = 'longer'\n",
        answer="second longer a",
        manner="cold: installed_lib.py changed",
    )
    edit("settings.env", "NAME=bb\n", answer="second longer bb", manner="cold: settings.env changed")
    edit(
        "helper.py",
        "NAME = 'c'\n",
        answer="second longer c",
        manner="cold: helper.py no longer imports os",
    )
    edit("helper.py", "NAME = 'd'\n", answer="second longer d", manner="warm")
