"""Applications that are edited step by step: warm answers what cold answers.

Each step is a set of files, and whether the reload may be warm; an unexpected cold one is a lost second, a warm answer
that differs is an error.
"""

import os
from pathlib import Path

import pytest

from warm_runs import Application

RAW = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(TEXT).encode()})
"""

Step = tuple[dict[str, str | None], str]

CORPUS: dict[str, tuple[dict[str, str], list[Step]]] = {
    "circular imports": (
        {
            "main.py": "import a\nTEXT = a.f()\n" + RAW,
            "a.py": "import b\ndef f(): return b.g()",
            "b.py": "import a\ndef g(): return 1",
        },
        [
            ({"b.py": "import a\ndef g(): return 2"}, "warm"),
            ({"a.py": "import b\ndef f(): return b.g() + 1"}, "warm"),
        ],
    ),
    "a module that vanishes": (
        {
            "main.py": "try:\n    import extra\n    TEXT = extra.X\nexcept ImportError:\n    TEXT = 'none'\n"
            + RAW,
            "extra.py": "X = 1",
        },
        [({"extra.py": None}, "extra.py is gone"), ({"extra.py": "X = 22"}, "warm")],
    ),
    "a namespace package": (
        {"main.py": "from space import part\nTEXT = part.X\n" + RAW, "space/part.py": "X = 1"},
        [
            ({"space/part.py": "X = 2"}, "warm"),
            ({"space/other.py": "Y = 3", "space/part.py": "from space.other import Y as X"}, "warm"),
        ],
    ),
    "logging at import": (
        {
            "main.py": "import logging, json\nlogging.basicConfig(level='INFO')\nimport decimal\nTEXT = logging.getLogger().level\n"
            + RAW
        },
        [
            (
                {
                    "main.py": "import logging, json\nlogging.basicConfig(level='DEBUG')\nimport decimal\nTEXT = logging.getLogger().level, len(logging.getLogger().handlers)\n"
                    + RAW
                },
                "warm",
            )
        ],
    ),
    "variables before imports": (
        {
            "main.py": "import settings\nimport lib_reads\nTEXT = lib_reads.SEEN\n" + RAW,
            "settings.py": "import os\nos.environ['LIB'] = 'one'",
        },
        [
            (
                {"settings.py": "import os\nos.environ['LIB'] = 'two!'"},
                "settings.py comes before what it sets up",
            ),
            (
                {"main.py": "import settings\nimport lib_reads\nTEXT = lib_reads.SEEN + '?'\n" + RAW},
                "main.py comes before what it sets up",
            ),
        ],
    ),
    "an installed module that is configured before others": (
        {
            "main.py": "import lib_config\nlib_config.VALUE = 'one'\nimport lib_uses\nTEXT = lib_uses.SEEN\n"
            + RAW
        },
        [
            (
                {
                    "main.py": "import lib_config\nlib_config.VALUE = 'two'\nimport lib_uses\nTEXT = lib_uses.SEEN\n"
                    + RAW
                },
                "warm",
            )
        ],
    ),
    "a registry that the application fills": (
        {"main.py": "import lib_registry\nlib_registry.add('one')\nTEXT = lib_registry.ALL\n" + RAW},
        [
            (
                {"main.py": "import lib_registry\nlib_registry.add('two')\nTEXT = lib_registry.ALL\n" + RAW},
                "warm",
            )
        ],
    ),
    "an attribute that another import provides": (
        {"main.py": "import lib_package.part\nimport lib_package\nTEXT = lib_package.part.X\n" + RAW},
        [
            (
                {"main.py": "import lib_package\nTEXT = lib_package.part.X\n" + RAW},
                "main.py no longer imports lib_package.part",
            )
        ],
    ),
    "an installed module that imports the application": (
        {"main.py": "import lib_plugins\nTEXT = lib_plugins.FOUND\n" + RAW, "plugin.py": "NAME = 'one'"},
        [({"plugin.py": "NAME = 'two'"}, "warm")],
    ),
    "broken and mended": (
        {"main.py": "import a\nTEXT = a.X\n" + RAW, "a.py": "import json\nX = 1"},
        [({"a.py": "import json\nX = (1"}, "warm"), ({"a.py": "import json\nX = 2"}, "warm")],
    ),
}

LARGE: dict[str, tuple[dict[str, str], list[Step]]] = {
    "prometheus": (
        {
            "main.py": "from prometheus_client import Counter, generate_latest\nC = Counter('c', 'x')\nC.inc()\nTEXT = 'c_total 1.0' in generate_latest().decode()\n"
            + RAW
        },
        [
            (
                {
                    "main.py": "from prometheus_client import Counter, generate_latest\nC = Counter('d', 'x')\nC.inc()\nt = generate_latest().decode()\nTEXT = 'c_total' in t, 'd_total' in t\n"
                    + RAW
                },
                "warm",
            )
        ],
    ),
    "pydantic": (
        {
            "main.py": "import models\nTEXT = models.A.model_validate({'b': {'n': '1'}})\n" + RAW,
            "models.py": "from __future__ import annotations\nfrom pydantic import BaseModel\nclass A(BaseModel):\n    b: B\nclass B(BaseModel):\n    n: int\nA.model_rebuild()",
        },
        [
            (
                {
                    "models.py": "from __future__ import annotations\nfrom pydantic import BaseModel\nclass A(BaseModel):\n    b: B\nclass B(BaseModel):\n    n: str\nA.model_rebuild()"
                },
                "warm",
            )
        ],
    ),
    "starlette": (
        {
            "main.py": "from starlette.applications import Starlette\nfrom starlette.routing import Route\nimport views\napp = Starlette(routes=[Route('/', views.home)])",
            "views.py": "from starlette.responses import PlainTextResponse\nasync def home(r): return PlainTextResponse('1')",
        },
        [
            (
                {
                    "views.py": "from starlette.responses import PlainTextResponse\nasync def home(r): return PlainTextResponse('2')"
                },
                "warm",
            )
        ],
    ),
    "fastapi": (
        {
            "main.py": "from fastapi import FastAPI\nimport routes\napp = FastAPI()\napp.include_router(routes.r)",
            "routes.py": "from fastapi import APIRouter\nr = APIRouter()\n@r.get('/')\ndef home() -> int: return 1",
        },
        [
            (
                {
                    "routes.py": "from fastapi import APIRouter\nr = APIRouter()\n@r.get('/')\nasync def home() -> str: return 'x'"
                },
                "warm",
            )
        ],
    ),
    "litestar": (
        {
            "main.py": "from litestar import Litestar, get\nimport words\n@get('/')\nasync def home() -> str: return words.W\napp = Litestar([home])",
            "words.py": "W = 'one'",
        },
        [({"words.py": "W = 'two'"}, "warm")],
    ),
    "quart": (
        {
            "main.py": "from quart import Quart\nimport words\napp = Quart(__name__)\n@app.get('/')\nasync def home(): return words.W",
            "words.py": "W = 'one'",
        },
        [({"words.py": "W = 'two'"}, "warm")],
    ),
    "django": (
        {
            "main.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'conf')\nfrom django.core.asgi import get_asgi_application\napp = get_asgi_application()",
            "conf.py": "SECRET_KEY = 'x'\nROOT_URLCONF = 'urls'\nALLOWED_HOSTS = ['*']\nINSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth', 'shop']\nUSE_I18N = True",
            "urls.py": "from django.urls import path\nfrom shop.views import home\nurlpatterns = [path('', home)]",
            "shop/__init__.py": "",
            "shop/models.py": "from django.db import models\nclass Item(models.Model):\n    name = models.CharField(max_length=9)",
            "shop/views.py": "from django.http import HttpResponse\nfrom shop.models import Item\ndef home(r): return HttpResponse(repr([f.name for f in Item._meta.fields]))",
        },
        [
            (
                {
                    "shop/models.py": "from django.db import models\nclass Item(models.Model):\n    title = models.CharField(max_length=9)"
                },
                "warm",
            ),
            (
                {
                    "shop/views.py": "from django.http import HttpResponse\nfrom shop.models import Item\ndef home(r): return HttpResponse('2')"
                },
                "warm",
            ),
        ],
    ),
}

INSTALLED = {
    "lib_reads.py": "import os\nSEEN = os.environ.get('LIB')",
    "lib_config.py": "VALUE = None",
    "lib_uses.py": "import lib_config\nSEEN = lib_config.VALUE",
    "lib_registry.py": "ALL = []\ndef add(x): ALL.append(x)",
    "lib_package/__init__.py": "",
    "lib_package/part.py": "X = 1",
    "lib_plugins.py": "import importlib\nFOUND = importlib.import_module('plugin').NAME",
}


def follow(directory: Path, files: dict[str, str], steps: list[Step]) -> None:
    packages = directory / "lib" / "site-packages"
    for name, text in INSTALLED.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    application = Application(directory / "project", {**files}, [packages])
    try:
        assert application.answers()[0] == "warm"
        for edits, expected in steps:
            application.write(edits)
            manner, warm, cold = application.answers()
            assert warm == cold
            assert manner == expected
    finally:
        application.close()


@pytest.mark.parametrize("name", CORPUS)
def test_warm_answers_what_cold_answers(tmp_path, name):
    follow(tmp_path, *CORPUS[name])


@pytest.mark.skipif(not os.environ.get("LARGE_APPLICATIONS"), reason="make test-warm runs them")
@pytest.mark.parametrize("name", LARGE)
def test_large_applications(tmp_path, name):
    follow(tmp_path, *LARGE[name])
