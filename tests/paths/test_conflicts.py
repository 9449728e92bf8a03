"""Transactions that AWS cancels because two writes meet, or because the table is throttled; no local engine does."""

from collections import Counter
from typing import Any

import pytest

from tests.paths.test_agent_turn import fresh
from tests.world import World, scenario
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Fault, canceled

CONFLICT = canceled("None", "TransactionConflict")
THROTTLED = canceled("ThrottlingError", "None")


def states(world: World, agent_id: str) -> Counter[str]:
    return Counter(visit.state for visit in world.visited(agent_id))


@pytest.mark.parametrize("cause", [CONFLICT, THROTTLED], ids=["conflict", "throttling"])
def test_a_turn_closes_when_the_conflict_is_over(world: World, cause: dict[str, Any]) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CloseTurn", times=3, **cause))
    world.play(scenario("straight_booking"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    visited = states(world, name)
    assert (visited["CloseTurn"], visited["CloseLater"], visited["LoadTurn"]) == (4, 3, 2)
    world.assert_sound(name)


def test_an_input_that_comes_before_the_close_is_read_at_once(world: World) -> None:
    name = fresh()
    with world.faults.held(name, "CloseTurn") as until_held:
        world.start(scenario("ask_the_user"), name)
        until_held()
        world.stack.wait_for(world.stack.send_input(name, "Tomorrow."))
    assert world.settle(name, Status.COMPLETED)["inbox"] == "1"
    refused, closed = [visit for visit in world.visited(name) if visit.state == "CloseTurn"]
    assert (refused.attempts, closed.attempts) == (1, 1)
    assert "[ConditionalCheckFailed]" in refused.cause
    assert states(world, name)["CloseLater"] == 0
    world.assert_sound(name)


def test_a_close_that_cannot_succeed_ends_the_turn(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CloseTurn", **canceled("ValidationError")))
    world.start(scenario("straight_booking"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert [step["reason"] for step in world.items(name, "STEP#") if step["who"] == "RECOVERY"] == [CONFLICT["error"]]


def test_a_failure_is_recorded_when_the_conflict_is_over(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="RecordFailure", times=2, **CONFLICT))
    world.faults.put(Fault(agent_id=name, state="RecordRecovery", times=2, **THROTTLED))
    world.play(scenario("give_up"), name)
    state = world.settle(name)
    assert (state["status"], state["error"], state["errorCount"]) == (Status.FAILED, "GivenUp", "1")
    assert states(world, name)["RecordLater"] == 2
    recovery = world.items(name, "STEP#")[-1]["execution"]
    assert Counter(visit.state for visit in world.history(recovery))["RecordLater"] == 2
    world.assert_sound(name)


def test_a_call_whose_writes_conflict_is_made_once(world: World) -> None:
    name = fresh()
    single = "DynamoDb.TransactionConflictException"
    world.faults.put(Fault(agent_id=name, state="ReserveEffect", times=4, **CONFLICT))
    world.faults.put(Fault(agent_id=name, state="CommitEffect", times=5, error=single))
    world.play(scenario("straight_booking"), name)
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]
    attempts = {visit.state: visit.attempts for visit in world.visited(name)}
    assert (attempts["ReserveEffect"], attempts["CommitEffect"]) == (5, 6)
    world.assert_inventory_agrees()
    world.assert_sound(name)
