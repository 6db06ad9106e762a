"""The recipe of the image and the compose file, read; what they do is seen in tests/containers, where there is a builder."""

import json
import re
from pathlib import Path

import yaml

from asgi_master.settings.model import SETTINGS
from asgi_master.settings.resolve import resolve

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "docker"
COMPOSE = yaml.safe_load((PLACE / "compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile, with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", (PLACE / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest.strip()) for line in lines if line for word, _, rest in [line.partition(" ")]]


def said(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def environment() -> dict[str, str]:
    pairs = [pair for line in said("ENV") for pair in line.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def test_the_base_is_pinned_and_nothing_is_fetched_by_url() -> None:
    bases = [line.split()[0] for line in said("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1, "the virtual environment only works with the interpreter that made it"
    for base in bases:
        assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", base)
    assert said("ADD") == []
    assert not any("http" in line for line in said("RUN"))


def test_the_program_is_process_1_and_not_root() -> None:
    assert json.loads(said("ENTRYPOINT")[0]) == ["asgi-master"]
    assert said("CMD") == []
    assert [name for name, _ in instructions()].index("USER") < [name for name, _ in instructions()].index(
        "ENTRYPOINT"
    )
    (user,) = said("USER")
    uid, gid = map(int, user.split(":"))
    assert min(uid, gid) >= 10000
    assert said("STOPSIGNAL") == ["SIGTERM"]


def test_the_health_check_needs_no_shell_and_asks_the_admin_address() -> None:
    (check,) = said("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["asgi-masterctl", "health"]
    assert environment()["ASGI_MASTER_ADMIN_BIND"] == "127.0.0.1:9000"


def test_the_variables_are_settings(tmp_path: Path) -> None:
    known = {setting.variable for setting in SETTINGS}
    image = {name: value for name, value in environment().items() if name.startswith("ASGI_MASTER_")}
    composed = COMPOSE["services"]["web"]["environment"]
    assert known.issuperset(image)
    resolve({}, image | composed, tmp_path)
    assert said("EXPOSE") == [image["ASGI_MASTER_BIND"].rpartition(":")[2]]


def test_compose_leaves_time_to_drain_and_takes_rights_away(tmp_path: Path) -> None:
    web, nginx = COMPOSE["services"]["web"], COMPOSE["services"]["nginx"]
    process = resolve({}, {"ASGI_MASTER_APP": "app:app", **web["environment"]}, tmp_path).settings.process
    needed = process.shutdown_delay + process.drain_timeout + process.kill_grace
    assert int(web["stop_grace_period"].removesuffix("s")) >= needed + 2
    assert (web["read_only"], web["cap_drop"]) == (True, ["ALL"])
    (mount,) = nginx["volumes"]
    assert (PLACE / mount.split(":")[0]).is_file()
    assert (
        f"server {web['environment']['ASGI_MASTER_BIND']};"
        in (ROOT / "deploy/nginx/asgi-master.conf").read_text()
    )
    assert re.fullmatch(r"docker\.io/library/nginx:\d+\.\d+\S*", nginx["image"])


def test_secrets_and_history_stay_out() -> None:
    ignored = (PLACE / ".dockerignore").read_text().split()
    assert {".git", ".env", "*.key", "*.pem", ".venv"} <= set(ignored)
