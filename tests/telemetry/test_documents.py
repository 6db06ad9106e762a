"""The hand-written pages name everything there is."""

import re
from pathlib import Path

import pytest

from asgi_master.errors import ExitCode
from asgi_master.telemetry import access_log

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_status_is_told(code):
    assert f"| {code.value} | `{code.name}` |" in (REFERENCE / "exit-codes.md").read_text()


def test_every_atom_is_told_and_no_other():
    page = (REFERENCE / "logs.md").read_text()
    told = set(re.findall(r"^\| `%\((\w+)\)s`", page, re.MULTILINE))
    atoms = {"p", "r", *access_log._REQUEST_ATOMS, *access_log._RESPONSE_ATOMS, *access_log._HEADER_ATOMS}
    assert told == {atom for atom in atoms if atom.isalpha()}


def test_the_formats_are_told():
    page = (REFERENCE / "logs.md").read_text()
    assert f"common    {access_log.COMMON}\n" in page
    assert f"combined  {access_log.COMBINED}\n" in page
