"""Cancelling: an agent stops in every state, does nothing new, and reports the effects that stand."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.world import World, scenario
from turnstile_agents.events import AgentRequested
from turnstile_agents.items import Attributes
from turnstile_agents.record import Status
from turnstile_cli.chaos.plays import write_agents
from turnstile_cli.engines.faults import Fault
from turnstile_cli.stack.registry import register


def fresh() -> str:
    return f"cancel-{uuid.uuid4().hex[:8]}"


def cancel(world: World, agent_id: str, **more: str) -> dict[str, Any]:
    """Deliver the cancellation as the rule would; return the execution that accepted it."""
    return world.run("agent_input", {"agentId": agent_id, **more}, kind="AgentCancelRequested")


def cancelled(world: World, agent_id: str) -> Attributes:
    """Wait for the end, and check the cancelled record."""
    state = world.settle(agent_id, Status.CANCELLED)
    assert state["nextAction"] == "NONE"
    world.assert_inventory_agrees()
    world.assert_sound(agent_id)
    return state


def ledger(world: World, agent_id: str) -> list[tuple[str, str]]:
    return [(item["tool"], item["status"]) for item in world.items(agent_id, "EFFECT#")]


@pytest.mark.parametrize("state", ["LoadTurn", "AskModel", "ReadReply", "CheckpointDecision", "ReserveEffect"])
def test_an_agent_cancelled_before_it_acts_does_not_act(world: World, state: str) -> None:
    agent_id = fresh()
    with world.faults.held(agent_id, state) as until_held:
        world.start(scenario("straight_booking"), agent_id)
        until_held()
        assert cancel(world, agent_id, note="Not needed.")["status"] == "SUCCEEDED"
    cancelled(world, agent_id)
    assert (ledger(world, agent_id), world.bookings(agent_id)) == ([], [])


@pytest.mark.parametrize("state", ["CallWriteTool", "CommitEffect", "CheckpointResults"])
def test_what_had_begun_is_finished_and_told(world: World, state: str) -> None:
    agent_id = fresh()
    with world.faults.held(agent_id, state) as until_held:
        world.start(scenario("straight_booking"), agent_id)
        until_held()
        cancel(world, agent_id)
    cancelled(world, agent_id)
    assert ledger(world, agent_id) == [("book_flight", "COMMITTED")]
    [call] = world.stack.view(agent_id).plan
    assert (call.tool_name, call.status) == ("book_flight", "COMMITTED")
    assert call.result["status"] == "BOOKED"
    assert "AskModel" not in [visit.state for visit in world.visited(agent_id)][7:]  # the model was not asked again


def test_an_agent_cancelled_as_it_closes_does_not_complete(world: World) -> None:
    agent_id = fresh()
    with world.faults.held(agent_id, "CloseTurn") as until_held:
        world.start(scenario("answer_only"), agent_id)
        until_held()
        cancel(world, agent_id)
    cancelled(world, agent_id)


@pytest.mark.parametrize(
    ("play", "status"),
    [("ask_the_user", Status.WAITING_FOR_INPUT), ("approved", Status.WAITING_FOR_APPROVAL)],
)
def test_a_waiting_agent_is_cancelled(world: World, play: str, status: Status) -> None:
    agent_id = world.start(scenario(play), fresh())
    world.settle(agent_id, status)
    assert cancel(world, agent_id)["status"] == "SUCCEEDED"
    assert cancelled(world, agent_id)["waitsFor"] == ""
    assert [visit.state for visit in world.visited(agent_id)][-4:] == [
        "ClaimTurn",
        "LoadTurn",
        "RouteEntry",
        "CloseTurn",
    ]
    assert world.bookings(agent_id) == []


def test_an_agent_that_waits_for_an_operator_is_cancelled(world: World) -> None:
    agent_id = world.start(scenario("done_in_words_only"), fresh())
    world.settle(agent_id, Status.WAITING_FOR_OPERATOR)
    assert cancel(world, agent_id, note="Leave it.")["status"] == "SUCCEEDED"
    cancelled(world, agent_id)
    last = world.items(agent_id, "STEP#")[-1]
    assert (last["who"], last["action"]) == ("RECOVERY", "CANCEL")


def test_a_recovery_of_a_cancelled_agent_settles_unknown_outcomes_first(world: World) -> None:
    agent_id = fresh()
    world.faults.put(Fault(agent_id=agent_id, state="CallWriteTool", when="after", error="States.Timeout"))
    with world.faults.held(agent_id, "LoadRecovery") as until_held:
        world.start(scenario("straight_booking"), agent_id)
        until_held()
        cancel(world, agent_id)
    cancelled(world, agent_id)
    assert ledger(world, agent_id) == [("book_flight", "COMMITTED")]


def test_an_uncertain_call_is_not_made_again_after_a_cancellation(world: World, tmp_path: Path) -> None:
    """Check that a tool is not called again, although its key allows it, and that the operator is told to look."""
    agent_id = fresh()
    [again] = [file for file in write_agents(tmp_path) if file.stem == "travel-retry"]
    register(world.stack, again)
    requested = AgentRequested(prompt=scenario("straight_booking").prompt, agent_id=agent_id, agent="travel-retry")
    world.faults.put(Fault(agent_id=agent_id, state="CallWriteTool", error="States.Timeout"))
    with world.faults.held(agent_id, "LoadRecovery") as until_held:
        world.stack.request(requested)
        until_held()
        cancel(world, agent_id)
    state = world.settle(agent_id, Status.CANCELLED)
    assert (ledger(world, agent_id), world.bookings(agent_id)) == ([("book_flight", "UNCERTAIN")], [])
    visited = [visit.state for visit in world.history(state["lastUpdatedBy"])]
    assert ("CallAgain" in visited, visited.count("NotifyUnsettled")) == (False, 1)


def test_a_failure_that_would_be_retried_ends_a_cancelled_agent(world: World) -> None:
    agent_id = fresh()
    with world.faults.held(agent_id, "LoadRecovery") as until_held:
        world.faults.put(Fault(agent_id=agent_id, state="ReadReply", when="left", dies="stopped"))
        world.start(scenario("straight_booking"), agent_id)
        until_held()
        cancel(world, agent_id)
    cancelled(world, agent_id)
    assert world.bookings(agent_id) == []


def test_cancelling_twice_is_cancelling_once_and_the_end_is_the_end(world: World) -> None:
    agent_id = world.start(scenario("ask_the_user"), fresh())
    world.settle(agent_id, Status.WAITING_FOR_INPUT)
    for _ in range(2):
        assert cancel(world, agent_id, inputId="click-1")["status"] == "SUCCEEDED"
    before = cancelled(world, agent_id)
    assert (before["inbox"], before["cancels"]) == ("1", "1")
    assert cancel(world, agent_id)["status"] == "SUCCEEDED"  # the agent has ended, and there is nothing to cancel
    assert world.run("agent_input", {"agentId": agent_id, "text": "Hello?"})["error"] == "AgentFinished"
    assert world.item(agent_id, "STATE") == before


def test_a_finished_agent_is_not_cancelled(world: World) -> None:
    agent_id = world.play(scenario("answer_only"))
    assert cancel(world, agent_id)["status"] == "SUCCEEDED"
    state = world.item(agent_id, "STATE")
    assert state and (state["status"], state["cancels"]) == (Status.COMPLETED, "0")


def test_an_unknown_agent_is_not_cancelled(world: World) -> None:
    assert cancel(world, "unknown")["error"] == "AgentUnknown"
