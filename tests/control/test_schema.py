"""The live status is what its schema says."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from asgi_master.control.api import Span
from asgi_master.control.commands import show_status
from asgi_master.control.reloads import Reloads
from asgi_master.history.events import Kind
from asgi_master.history.samples import FIELDS
from asgi_master.supervision.outlook import Step
from control_server import STATUS
from live_samples import PaperSource

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "status.schema.json").read_text())


@pytest.mark.parametrize("span", Span)
def test_documents_fit(span: Span) -> None:
    document = PaperSource(show_status(STATUS, Reloads())).document(span=span, events_after=0)
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(document)))


def test_it_names_all_there_is() -> None:
    kinds = SCHEMA["$defs"]
    assert kinds["upcoming"]["properties"]["step"]["enum"] == [str(step) for step in Step]
    assert set(kinds["event"]["properties"]["kind"]["enum"]) == set(Kind)
    assert set(kinds["sample"]["properties"]) == set(kinds["samples"]["properties"]) == set(FIELDS)
    for name, quantity in FIELDS.items():
        assert kinds["sample"]["properties"][name]["description"] == quantity.help.replace("`", "")
