"""Every scenario through the real machines: the states visited, the record, the ledger and the inventory."""

import pytest

from tests.world import World
from turnstile_cli.models.scenarios import Scenario, load_scenarios


@pytest.mark.parametrize("scenario", load_scenarios(), ids=lambda scenario: scenario.name)
def test_scenario(world: World, scenario: Scenario) -> None:
    agent_id = world.play(scenario)
    state = world.item(agent_id, "STATE")
    assert state
    assert (state["status"], state["error"]) == (scenario.expect.status, scenario.expect.error or "")
    states = [visit.state for visit in world.visited(agent_id)]
    assert (without_looks(states) if scenario.children else states) == scenario.expect.states
    effects = [(item["tool"], item["status"]) for item in world.items(agent_id, "EFFECT#")]
    assert effects == [(effect.tool, effect.status) for effect in scenario.expect.effects]
    recoveries = [item["action"] for item in world.items(agent_id, "STEP#") if item["who"] == "RECOVERY"]
    assert recoveries == scenario.expect.recoveries
    children = world.children(agent_id)
    assert [world.settle(child)["status"] for child in children] == scenario.expect.children
    family = world.family(agent_id)
    standing = [booking for member in family for booking in world.bookings(member) if booking["status"] == "BOOKED"]
    assert len(standing) == scenario.expect.bookings
    world.assert_inventory_agrees()
    for member in family:
        world.assert_sound(member)


def without_looks(states: list[str]) -> list[str]:
    """Return the states without the rounds that only find that a child has not reported: their number is chance."""
    text = " ".join(states).replace("RouteUnclosed ", "").replace("LoadTurn RouteEntry CloseTurn ", "")
    while "ClaimTurn ClaimTurn" in text:
        text = text.replace("ClaimTurn ClaimTurn", "ClaimTurn")
    return text.split()
