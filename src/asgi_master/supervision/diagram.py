"""The state diagrams of the documentation, drawn from the tables: `python -m asgi_master.supervision.diagram`."""

import sys
from collections.abc import Iterable
from enum import StrEnum

from asgi_master.supervision.states import (
    PHASE_MOVES,
    WORKER_MOVES,
    ZYGOTE_MOVES,
    Phase,
    WorkerState,
    ZygoteState,
)


def draw(moves: Iterable[tuple[tuple[StrEnum, StrEnum], StrEnum]], first: StrEnum, last: StrEnum) -> str:
    """A Mermaid state diagram; arrows between the same two states are drawn once, with all their labels."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, trigger), target in moves:
        labels.setdefault((state.value, target.value), []).append(trigger.value)
    arrows = [f"    {state} --> {target}: {', '.join(why)}" for (state, target), why in labels.items()]
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {first.value}",
            *arrows,
            f"    {last.value} --> [*]",
            "```",
        ]
    )


def diagrams() -> dict[str, str]:
    """Every diagram, by what it shows."""
    return {
        "worker": draw(WORKER_MOVES.items(), WorkerState.BOOTING, WorkerState.GONE),
        "zygote": draw(ZYGOTE_MOVES.items(), ZygoteState.IMPORTING, ZygoteState.GONE),
        "whole": draw(PHASE_MOVES.items(), Phase.BOOTING, Phase.STOPPED),
    }


if __name__ == "__main__":
    for name, diagram in diagrams().items():
        sys.stdout.write(f"{name}\n\n{diagram}\n\n")
