from pathlib import Path

import pytest

from asgi_master.errors import SettingsError
from asgi_master.master.policy import policy_of
from asgi_master.settings.resolve import Resolved, resolve, to_toml
from asgi_master.settings.services import Service, parse_callable, parse_service
from asgi_master.settings.sources import from_environment


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("app:run", Service("run", "app:run")),
        ("shop.jobs:scheduler.start", Service("start", "shop.jobs:scheduler.start")),
        ("beat=shop.jobs:run", Service("beat", "shop.jobs:run")),
        (" beat = shop.jobs:run ", Service("beat", "shop.jobs:run")),
        ("mail-2.eu=app:run", Service("mail-2.eu", "app:run")),
    ],
)
def test_what_is_a_service(text: str, service: Service) -> None:
    assert parse_service(text) == service


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is not MODULE:ATTRIBUTE"),
        ("app", "names no callable: it must be MODULE:CALLABLE"),
        ("beat=app", "names no callable: it must be MODULE:CALLABLE"),
        ("app.py", "is a file name"),
        ("app:run()", "is a call: give the function without ()"),
        ("=app:run", "has no usable name"),
        ("a b=app:run", "has no usable name"),
        ("ünïcode=app:run", "has no usable name"),
        (f"{'x' * 41}=app:run", "has no usable name"),
        ("app:ünïcode", "has no usable name"),
    ],
)
def test_what_is_none(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error.replace("(", r"\(").replace(")", r"\)")):
        parse_service(text)


def test_a_hook_is_a_callable() -> None:
    parse_callable("app:start")
    with pytest.raises(ValueError, match="names no callable"):
        parse_callable("app")


def resolved(directory: Path, text: str = "", **flags: object) -> Resolved:
    (directory / "asgi-master.toml").write_text(text)
    return resolve({"app": "main:app"} | flags, {}, directory)


@pytest.mark.parametrize(
    "text",
    [
        'service = ["beat=a:b", "a:c"]',
        'service = "beat=a:b,a:c"',
        '[service]\nbeat = "a:b"\nc = "a:c"',
        'service.beat = "a:b"\nservice.c = "a:c"',
        'service = {beat = "a:b", c = "a:c"}',
    ],
)
def test_the_file_has_a_list_or_a_table(tmp_path: Path, text: str) -> None:
    settings = resolved(tmp_path, text).settings
    assert policy_of(settings).services == ("beat", "c")
    assert [parse_service(item).target for item in settings.services.service] == ["a:b", "a:c"]


def test_it_can_be_printed_and_read_again(tmp_path: Path) -> None:
    first = resolved(tmp_path, '[service]\nbeat = "a:b"')
    assert 'service = ["beat=a:b"] ' in to_toml(first)
    assert "# asgi-master.toml, line 1" in to_toml(first)


def test_each_flag_is_one_and_the_environment_separates_by_commas(tmp_path: Path) -> None:
    assert resolved(tmp_path, service=["beat=a:b", "a:c"]).settings.services.service == ("beat=a:b", "a:c")
    settings = resolve({"app": "a:b"}, {"ASGI_MASTER_SERVICE": "beat=a:b, a:c"}, tmp_path).settings
    assert settings.services.service == ("beat=a:b", "a:c")


def test_the_name_that_a_service_finds_in_its_environment_is_no_setting() -> None:
    assert from_environment({"ASGI_MASTER_SERVICE_NAME": "beat"}).errors == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[service]\nbeat = 1", "service: {'beat': 1} is not a table of strings (asgi-master.toml, line 1)"),
        (
            '[service]\nbeat = "a"',
            'service: "beat=a" names no callable: it must be MODULE:CALLABLE, such as app:run',
        ),
        ("service = [1]", "service: [1] is not a list of strings"),
        ("[[service]]", "service: settings must be top-level keys, not inside a table"),
        ('service = ["a:b", "c:b"]', 'service: "b" names two services: give NAME=MODULE:CALLABLE'),
        ('hook-worker-start = "a"', 'hook-worker-start: "a" names no callable'),
        ('hook-worker-exit = "a:b()"', 'hook-worker-exit: "a:b()" is a call'),
    ],
)
def test_each_error_is_one_line(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved(tmp_path, text)
    (line,) = caught.value.errors
    assert line.startswith(error)
