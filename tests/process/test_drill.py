"""Reloads in a row under clients of every kind: nothing fails. `make drill` does 200 of them."""

import asyncio
import os
import signal

import pytest

from fleet import PATIENCE, Fleet
from mixed_clients import MixedClients

RELOADS = int(os.environ.get("DRILL_RELOADS", "3"))


@pytest.mark.timeout(60 + 20 * RELOADS)
def test_reloads_in_a_row(fleet: Fleet) -> None:
    # The old zygote is held for a moment, and let go by the next reload.
    fleet.serve("probe:app", "--rollback-window", "1", workers=3)
    clients = MixedClients(fleet.port)

    async def reload() -> None:
        for number in range(RELOADS):
            fleet.send(signal.SIGHUP)
            committed = rf"reloaded: 3 workers serving generation {number + 2}\b"
            await asyncio.to_thread(fleet.wait_line, committed, 2 * PATIENCE)
            assert not clients.failures, clients.failures

    with fleet.keeping_descriptors():
        asyncio.run(clients.run_while(reload()))
    assert not clients.failures
    assert len(clients.answers) == 7, f"some kind of client had no answer: {clients.answers}"
    print(f"{RELOADS} reloads, no failure: {dict(clients.answers)}")
    fleet.stop()
