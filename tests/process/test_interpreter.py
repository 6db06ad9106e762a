"""The interpreter that the operator chose, with its options and the path that a start script set, is that of the workers."""

import os
import sys
import zipapp
from pathlib import Path

from fleet import SOURCE, Fleet

APP = """
import sys
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    flags = {name: getattr(sys.flags, name) for name in ("optimize", "isolated", "ignore_environment", "no_user_site", "dont_write_bytecode")}
    text = repr((flags, sys.warnoptions, sorted(sys._xoptions.items()), __debug__, sys.path))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""
SITE = [path for path in sys.path if path.endswith("site-packages")]
START = f"import sys\nsys.path[:0] = [{str(SOURCE)!r}]\nsys.path += {SITE!r}\nfrom asgi_master.cli.app import main\n"


def seen(fleet: Fleet, *program: str, **env: str) -> tuple:
    fleet.write("app.py", APP)
    fleet.start("--bind", "127.0.0.1:0", "--preload", "auto", "app:app", program=program, env=env).wait_ready(
        1
    )
    with fleet.client() as client:
        return eval(client.get("/").text)


def test_options(fleet: Fleet) -> None:
    fleet.write("start.py", f"{START}sys.exit(main())\n")
    flags, warnings, options, debug, _path = seen(
        fleet, sys.executable, "-OIB", "-W", "error::ResourceWarning", "-Xtracemalloc=1", "-X", "no_debug_ranges", "start.py"
    )  # fmt: skip
    assert flags == {
        "optimize": 1, "isolated": 1, "ignore_environment": 1, "no_user_site": 1, "dont_write_bytecode": 1,
    }  # fmt: skip
    assert warnings == ["error::ResourceWarning"]
    assert options == [("no_debug_ranges", True), ("tracemalloc", "1")]
    assert not debug


def test_options_survive_the_step_back_of_preload(fleet: Fleet) -> None:
    fleet.expect_log("WARNING.*left behind")
    fleet.write("thread.py", "import socket\npair = socket.socketpair()\n")
    fleet.write("app.py", APP)
    (fleet.directory / "app2.py").write_text("import thread\nfrom app import app\n")
    fleet.start(
        "--bind", "127.0.0.1:0", "app2:app", program=[sys.executable, "-O", "-m", "asgi_master"]
    ).wait_ready(1)
    with fleet.client() as client:
        assert eval(client.get("/").text)[0]["optimize"] == 1


def test_a_start_script_that_sets_the_path(fleet: Fleet) -> None:
    """As zc.buildout and PEX make them, in an interpreter that finds nothing by itself."""
    fleet.write("start.py", f"{START}sys.exit(main())\n")
    path = seen(fleet, sys.executable, "-S", "start.py", PYTHONPATH="")[4]
    assert str(SOURCE) in path
    assert path.index(str(SOURCE)) < path.index(SITE[0])


def test_a_zip_archive(fleet: Fleet) -> None:
    package = fleet.directory / "archived"
    package.mkdir()
    (package / "__main__.py").write_text(f"{START}import within\nsys.exit(main())\n")
    (package / "within.py").write_text("")
    zipapp.create_archive(package, fleet.directory / "served.pyz")
    path = seen(fleet, sys.executable, "-S", "served.pyz", PYTHONPATH="")[4]
    assert os.path.realpath(fleet.directory / "served.pyz") in path


def test_an_ordinary_start_hands_nothing_on(fleet: Fleet) -> None:
    path = seen(fleet, sys.executable, "-m", "asgi_master")[4]
    assert path.count(str(SOURCE)) == 1
    assert str(Path(sys.executable).parent) not in path
