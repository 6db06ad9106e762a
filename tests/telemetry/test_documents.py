"""The hand-written pages name everything there is."""

import re
from pathlib import Path

import pytest

from asgi_master.errors import ExitCode
from asgi_master.telemetry import access_format as formats

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_status_is_told(code):
    assert f"| {code.value} | `{code.name}` |" in (REFERENCE / "exit-codes.md").read_text()


def test_every_field_is_documented_and_no_other():
    page = (REFERENCE / "logs.md").read_text()
    told = set(re.findall(r"^\| `%\((\w+)\)s`", page, re.MULTILINE))
    atoms = {"p", "r", *formats._REQUEST_ATOMS, *formats._RESPONSE_ATOMS, *formats._HEADER_ATOMS}
    assert told == {atom for atom in atoms if atom.isalpha()}


def test_the_formats_are_told():
    page = (REFERENCE / "logs.md").read_text()
    assert f"common    {formats.COMMON}\n" in page
    assert f"combined  {formats.COMBINED}\n" in page
