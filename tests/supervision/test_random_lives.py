"""The invariants of `FleetMachine` hold in random lives."""

import pytest
from hypothesis import settings

from fleet_machine import FleetMachine

# Seven seconds of CPU, which take more than a minute where many processes share the machine.
TestFleet = pytest.mark.timeout(300)(FleetMachine.TestCase)
TestFleet.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
