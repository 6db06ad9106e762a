"""The status page: one file, a strict policy, actions for those who have the token."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin_server import GET, Admin
from asgi_master.control.access import Access, TokenError, read_token
from asgi_master.control.admin import Actions
from asgi_master.control.api import Refusal
from asgi_master.control.connection import Request
from asgi_master.control.reloads import Reloads
from asgi_master.control.status_page import status_page
from control_server import Recorder

TOKEN = "correct horse battery staple"
JSON = {"content-type": "application/json", "host": "admin:9000"}
RIGHT = {"authorization": f"Bearer {TOKEN}", **JSON}


def policy(page: bytes) -> dict[str, str]:
    source = status_page(has_actions=False)
    value = dict(source.headers)["content-security-policy"]
    return dict(part.strip().split(" ", 1) for part in value.split(";"))


def test_only_its_own_script_and_style_run() -> None:
    page = status_page(has_actions=False)
    found = policy(page.body)
    for name in ("script", "style"):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>".encode(), page.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        assert found[f"{name}-src"] == f"'sha256-{digest}'"
    assert found["default-src"] == found["base-uri"] == found["frame-ancestors"] == "'none'"
    assert found["connect-src"] == "'self'"


def test_it_asks_nobody_else_and_makes_no_markup() -> None:
    text = status_page(has_actions=False).body.decode()
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    # What came from a request is text, never markup; and the policy forbids styles in attributes.
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|style=|\son\w+=", text) == []
    )


def test_it_is_served(admin: Admin) -> None:
    status, head, body = admin.exchange(GET % b"/")
    assert (status, body) == (200, status_page(has_actions=False).body)
    for field in (
        b"content-type: text/html",
        b"content-security-policy: ",
        b"x-content-type-options: nosniff",
    ):
        assert field in head
    assert b'name="actions" content="off"' in body


# --- actions


@pytest.fixture
def admin() -> Iterator[Admin]:
    admin = Admin()
    yield admin
    admin.close()


@pytest.fixture
def acting() -> Iterator[Admin]:
    recorder = Recorder()
    admin = Admin(
        actions=lambda clock: Actions(Access(TOKEN.encode, clock), recorder, Reloads(), lambda: None)
    )
    admin.recorder = recorder
    yield admin
    admin.close()


def post(admin: Admin, target: str, body: str = "", **headers: str) -> tuple[int, dict]:
    fields = {
        "host": "admin:9000",
        "content-length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    status, _head, content = admin.exchange(f"POST {target} HTTP/1.1\r\n{head}\r\n{body}".encode())
    return status, json.loads(content)


RIGHTS = {"authorization": f"Bearer {TOKEN}", "content_type": "application/json"}


def test_actions(acting: Admin) -> None:
    assert post(acting, "/reload", **RIGHTS) == (202, {"result": "accepted"})
    assert post(acting, "/drain", '{"slot": 0}', **RIGHTS) == (202, {"slot": 0})
    assert post(acting, "/drain", '{"slot": 9}', **RIGHTS)[0] == 409
    assert post(acting, "/drain", '{"slut": 9}', **RIGHTS)[0] == 400
    assert post(acting, "/stacks", **RIGHTS)[1]["workers"][0]["pid"] == 43
    assert acting.recorder.asked == [("reload",), ("drain", 0), ("drain", 9), ("stacks", None)]
    assert b'name="actions" content="on"' in acting.exchange(GET % b"/")[2]
    assert acting.get("/livez")[0] == 200
    assert acting.get("/reload")[0] == 405
    assert post(acting, "/stacks", same_origin="1", origin="http://admin:9000", **RIGHTS)[0] == 200


def test_without_the_setting_nothing_is_there(admin: Admin) -> None:
    fields = "".join(f"{name}: {value}\r\n" for name, value in RIGHT.items())
    assert admin.exchange(f"POST /reload HTTP/1.1\r\n{fields}\r\n".encode())[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content_type": "text/plain", "authorization": f"Bearer {TOKEN}"}, 415),
        ({"content_type": "application/json"}, 401),
        ({"content_type": "application/json", "authorization": f"Basic {TOKEN}"}, 401),
        ({"content_type": "application/json", "authorization": f"Bearer {TOKEN}x"}, 401),
        ({"content_type": "application/json", "authorization": "Bearer \xe4"}, 401),
        ({**RIGHTS, "origin": "http://evil.example"}, 403),
        ({**RIGHTS, "origin": "null"}, 403),
        ({**RIGHTS, "origin": "http://["}, 403),
        ({**RIGHTS, "sec_fetch_site": "cross-site"}, 403),
        ({**RIGHTS, "sec_fetch_site": "same-site"}, 403),
    ],
)
def test_who_may_not(
    acting: Admin, caplog: pytest.LogCaptureFixture, headers: dict[str, str], status: int
) -> None:
    found, body = post(acting, "/reload", **headers)
    assert found == status
    assert body["error"]
    assert acting.recorder.asked == []
    assert TOKEN not in caplog.text
    assert ("refused" in caplog.text) == (status != 415)


def test_guesses_are_slow(acting: Admin) -> None:
    wrong = RIGHTS | {"authorization": "Bearer guess"}
    assert [post(acting, "/reload", **wrong)[0] for _ in range(11)] == [401] * 10 + [429]
    assert post(acting, "/reload", **RIGHTS)[0] == 429, "whoever it is"
    acting.now += 61
    assert post(acting, "/reload", **RIGHTS)[0] == 202


def test_actions_are_not_endless() -> None:
    now = [0.0]
    access = Access(TOKEN.encode, lambda: now[0])
    request = Request("POST", "/reload", b"", RIGHT)
    for _ in range(60):
        access.check(request)
    with pytest.raises(Refusal, match="too many"):
        access.check(request)
    now[0] = 60.0
    access.check(request)


def test_token_files(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f" {TOKEN}\n")
    path.chmod(0o640)
    assert read_token(path) == TOKEN.encode()
    path.chmod(0o644)
    with pytest.raises(TokenError, match="every user can read"):
        read_token(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(TokenError, match="shorter than 16"):
        read_token(path)
    with pytest.raises(TokenError, match="cannot be read"):
        read_token(tmp_path / "missing")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(TokenError, match="is not a file"):
        read_token(tmp_path / "fifo")


def test_a_token_that_is_lost_refuses(tmp_path: Path) -> None:
    access = Access(lambda: read_token(tmp_path / "missing"), lambda: 0.0)
    with pytest.raises(Refusal) as refused:
        access.check(Request("POST", "/reload", b"", RIGHT))
    assert refused.value.status == 503
