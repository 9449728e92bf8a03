"""Every scenario through the real machines: the states visited, the record, the ledger and the inventory."""

import pytest

from tests.paths.conftest import World
from workflows.scenarios import Scenario, load_scenarios


@pytest.mark.parametrize("scenario", load_scenarios(), ids=lambda scenario: scenario.name)
def test_scenario(world: World, scenario: Scenario) -> None:
    agent_id = world.play(scenario)
    state = world.stack.item(agent_id, "STATE")
    assert state
    assert (state["status"], state["error"]) == (scenario.expect.status, scenario.expect.error or "")
    assert [visit.state for visit in world.visited(agent_id)] == scenario.expect.states
    effects = [(item["tool"], item["status"]) for item in world.items(agent_id, "EFFECT#")]
    assert effects == [(effect.tool, effect.status) for effect in scenario.expect.effects]
    recoveries = [item["action"] for item in world.items(agent_id, "STEP#") if item["who"] == "RECOVERY"]
    assert recoveries == scenario.expect.recoveries
    standing = [booking for booking in world.bookings(agent_id) if booking["status"] == "BOOKED"]
    assert len(standing) == scenario.expect.bookings
    world.assert_inventory_agrees()
    world.assert_sound(agent_id)
