"""The invariants of `FleetMachine` hold in random lives."""

from hypothesis import settings

from fleet_machine import FleetMachine

TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
