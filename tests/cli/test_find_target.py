"""Where `asgi-master dev` finds applications."""

import pytest

from asgi_master.cli.find_target import Found, find_target, target_of_file

APP = "app = object()\n"


def found(directory, files):
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return find_target(directory)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.py": APP}, Found("main:app", ".", False, "main.py")),
        ({"app.py": APP, "main.py": "x = 1"}, Found("app:app", ".", False, "app.py")),
        ({"main.py": "application: object = make()"}, Found("main:application", ".", False, "main.py")),
        ({"main.py": "application: object"}, None),
        ({"main.py": "def create_app(): ..."}, Found("main:create_app", ".", True, "main.py")),
        ({"main.py": "def create_app(): ...\napp = create_app()"}, Found("main:app", ".", False, "main.py")),
        ({"main.py": "async def app(scope, receive, send): ..."}, Found("main:app", ".", False, "main.py")),
        ({"main.py": "async def app(): ..."}, None),
        ({"main.py": "if True:\n    app = 1"}, None),
        ({"main.py": "def broken(:", "app.py": APP}, Found("app:app", ".", False, "app.py")),
        ({"shop/__init__.py": "", "shop/main.py": APP}, Found("shop.main:app", ".", False, "shop/main.py")),
        ({"site/asgi.py": "application = 1"}, Found("site.asgi:application", ".", False, "site/asgi.py")),
        (
            {"src/shop/__init__.py": "", "src/shop/app.py": APP},
            Found("shop.app:app", "src", False, "src/shop/app.py"),
        ),
        (
            {"src/shop/__init__.py": "from .web import app"},
            Found("shop:app", "src", False, "src/shop/__init__.py"),
        ),
        ({"src/main.py": "x = 1", "not-a-package/main.py": APP}, None),
        ({}, None),
    ],
)
def test_the_usual_places(tmp_path, files, expected):
    assert found(tmp_path, files) == expected


def test_by_a_file_or_a_package(tmp_path):
    found(tmp_path, {"src/shop/__init__.py": APP, "src/shop/web/__init__.py": "", "src/shop/web/run.py": APP})
    assert target_of_file(tmp_path, "src/shop/web/run.py") == Found(
        "shop.web.run:app", "src", False, "src/shop/web/run.py"
    )
    assert target_of_file(tmp_path, "src/shop") == Found("shop:app", "src", False, "src/shop/__init__.py")
    assert target_of_file(tmp_path, "nothing.py") is None
