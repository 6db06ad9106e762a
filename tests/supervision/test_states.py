"""The tables are total, every state can be reached, and every one ends."""

from pathlib import Path

import pytest

from asgi_master.supervision import states
from asgi_master.supervision.diagram import diagrams
from asgi_master.supervision.states import (
    Phase,
    PhaseTrigger,
    WorkerState,
    WorkerTrigger,
    ZygoteState,
    ZygoteTrigger,
)

TABLES = [
    (states.WORKER_TABLE, WorkerState, WorkerTrigger, WorkerState.BOOTING, WorkerState.GONE),
    (states.ZYGOTE_TABLE, ZygoteState, ZygoteTrigger, ZygoteState.IMPORTING, ZygoteState.GONE),
    (states.PHASE_TABLE, Phase, PhaseTrigger, Phase.BOOTING, Phase.STOPPED),
]


def reachable(table, first):
    found, new = set(), {first}
    while new:
        found |= new
        new = {target for (state, _), target in table.items() if state in new} - found
    return found


@pytest.mark.parametrize(("table", "of", "triggers", "first", "last"), TABLES)
def test_every_state_answers_every_trigger(table, of, triggers, first, last):
    assert set(table) == {(state, trigger) for state in of for trigger in triggers}


@pytest.mark.parametrize(("table", "of", "triggers", "first", "last"), TABLES)
def test_every_state_is_reached_and_leads_to_the_end(table, of, triggers, first, last):
    assert reachable(table, first) == set(of)
    for state in of:
        assert last in reachable(table, state)
    assert reachable(table, last) == {last}


@pytest.mark.parametrize("state", [s for s in WorkerState if s is not WorkerState.GONE])
def test_an_exit_ends_a_worker_in_every_state(state):
    assert states.WORKER_TABLE[state, WorkerTrigger.EXITED] is WorkerState.GONE


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.STOPPED])
def test_a_stop_acts_in_every_phase(phase):
    assert states.PHASE_TABLE[phase, PhaseTrigger.STOP_REQUESTED] is Phase.STOPPING


def test_the_drawn_diagrams_are_fresh():
    page = Path(__file__).parents[2] / "docs" / "explanation" / "supervision.md"
    text = page.read_text()
    for name, diagram in diagrams().items():
        assert diagram in text, f"{name}: run `python -m asgi_master.supervision.diagram` and paste it"
