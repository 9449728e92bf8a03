"""Approvals: a call that needs one is carried out as it was shown, once, and only if it was approved."""

import json
import uuid
from typing import Any

import pytest

from tests.world import World, scenario
from turnstile_agents.items import Attributes
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Delivery, Fault


def fresh() -> str:
    return f"approval-{uuid.uuid4().hex[:8]}"


def held(world: World, play: str = "approved") -> tuple[str, Attributes]:
    """Start an agent that waits for an approval; return its id and its STATE."""
    agent_id = world.start(scenario(play), fresh())
    return agent_id, world.settle(agent_id, Status.WAITING_FOR_APPROVAL)


def decide(world: World, agent_id: str, approval_id: str, decision: str, **more: str) -> dict[str, Any]:
    """Deliver a decision as the rule would; return the execution that accepted or refused it."""
    detail = {"agentId": agent_id, "approvalId": approval_id, "decision": decision, **more}
    return world.run("agent_input", detail, kind="AgentDecisionGiven")


def told(world: World, agent_id: str) -> str:
    """Return all messages to the model as one text."""
    return "".join(step.get("messages", "") for step in world.items(agent_id, "STEP#"))


def test_nothing_happens_before_an_approval(world: World) -> None:
    agent_id, state = held(world)
    assert (state["owner"], state["nextAction"], state["waitsFor"]) == ("NONE", "NONE", "2")
    assert (world.items(agent_id, "EFFECT#"), world.bookings(agent_id)) == ([], [])
    world.assert_sound(agent_id)


def test_what_is_carried_out_is_what_was_shown(world: World) -> None:
    agent_id, state = held(world)
    approval = world.stack.view(agent_id).approval
    assert approval and approval.approval_id == state["waitsFor"]
    [shown] = approval.calls
    assert (shown.tool_name, shown.parameters["passengers"]) == ("book_flight", 6)
    world.stack.wait_for(world.stack.decide_approval(agent_id, approval.approval_id, "APPROVE", "Go."))  # type: ignore[arg-type]
    world.settle(agent_id, Status.COMPLETED)
    [effect] = world.items(agent_id, "EFFECT#")
    assert (effect["record"], effect["status"]) == ("EFFECT#000002#0", "COMMITTED")
    assert json.loads(effect["input"]) == shown.parameters
    [booking] = world.bookings(agent_id)
    assert (booking["passengers"], booking["toCity"]) == ("6", shown.parameters["to_city"])
    assert "The approver of the calls says: Go." in told(world, agent_id)


def test_what_is_refused_does_not_happen_and_the_model_reads_why(world: World) -> None:
    agent_id, state = held(world, "refused")
    assert decide(world, agent_id, state["waitsFor"], "REFUSE", note="Four at most.")["status"] == "SUCCEEDED"
    world.settle(agent_id, Status.COMPLETED)
    assert [json.loads(effect["input"])["passengers"] for effect in world.items(agent_id, "EFFECT#")] == [4]
    assert "it needed an approval, and was refused. Four at most." in told(world, agent_id)


def test_an_approval_without_a_decision_expires(world: World) -> None:
    agent_id, state = held(world, "refused")
    assert decide(world, agent_id, state["waitsFor"], "EXPIRE")["status"] == "SUCCEEDED"
    world.settle(agent_id, Status.COMPLETED)
    assert "it needed an approval, and was not decided in time" in told(world, agent_id)
    assert [json.loads(effect["input"])["passengers"] for effect in world.items(agent_id, "EFFECT#")] == [4]


def test_a_second_decision_is_refused_and_changes_nothing(world: World) -> None:
    agent_id, state = held(world)
    with world.faults.held(agent_id, "CallWriteTool") as until_held:
        assert decide(world, agent_id, state["waitsFor"], "APPROVE")["status"] == "SUCCEEDED"
        until_held()
        second = decide(world, agent_id, state["waitsFor"], "REFUSE")
        assert (second["status"], second["error"]) == ("FAILED", "DecisionRefused")
    done = world.settle(agent_id, Status.COMPLETED)
    assert (done["inbox"], len(world.bookings(agent_id))) == ("1", 1)
    assert decide(world, agent_id, state["waitsFor"], "REFUSE")["error"] == "DecisionRefused"
    assert world.item(agent_id, "STATE") == done


@pytest.mark.parametrize("approval_id", ["1", "20", "x"])
def test_a_decision_about_something_else_is_refused(world: World, approval_id: str) -> None:
    agent_id, before = held(world)
    assert decide(world, agent_id, approval_id, "APPROVE")["error"] == "DecisionRefused"
    assert world.item(agent_id, "STATE") == before


def test_a_decision_sent_twice_is_taken_once(world: World) -> None:
    agent_id, state = held(world)
    for _ in range(2):
        assert decide(world, agent_id, state["waitsFor"], "APPROVE", inputId="click-1")["status"] == "SUCCEEDED"
    assert world.settle(agent_id, Status.COMPLETED)["inbox"] == "1"
    world.faults.put(Delivery(agent_id=(other := fresh()), machine="AgentInput", how="twice"))
    world.play(scenario("approved"), other)
    assert (len(world.bookings(agent_id)), len(world.bookings(other))) == (1, 1)


def test_words_do_not_approve_and_are_heard_after(world: World) -> None:
    agent_id, state = held(world)
    world.stack.wait_for(world.stack.send_input(agent_id, "Yes, do it!"))
    same = world.item(agent_id, "STATE")
    assert same and (same["status"], same["inbox"]) == (Status.WAITING_FOR_APPROVAL, "1")
    decide(world, agent_id, state["waitsFor"], "APPROVE")
    world.settle(agent_id, Status.COMPLETED)
    assert "Yes, do it!" in world.items(agent_id, "STEP#")[-1]["messages"]
    world.assert_sound(agent_id)


def test_words_that_come_as_the_turn_closes_do_not_approve_either(world: World) -> None:
    agent_id = fresh()
    with world.faults.held(agent_id, "CloseTurn") as until_held:
        world.start(scenario("approved"), agent_id)
        until_held()
        world.stack.wait_for(world.stack.send_input(agent_id, "Yes, do it!"))
    world.settle(agent_id, Status.WAITING_FOR_APPROVAL)
    assert [visit.state for visit in world.visited(agent_id)][-5:] == [
        "CloseTurn",
        "RouteUnclosed",
        "LoadTurn",
        "RouteEntry",
        "CloseTurn",
    ]
    assert world.items(agent_id, "EFFECT#") == []
    world.assert_sound(agent_id)


@pytest.mark.parametrize("state", ["ReserveEffect", "CallWriteTool", "CommitEffect", "CheckpointResults"])
def test_a_turn_that_dies_over_approved_calls_needs_no_second_approval(world: World, state: str) -> None:
    agent_id, before = held(world)
    world.faults.put(Fault(agent_id=agent_id, state=state, when="left", dies="stopped"))
    decide(world, agent_id, before["waitsFor"], "APPROVE")
    world.settle(agent_id, Status.COMPLETED)
    assert [item["action"] for item in world.items(agent_id, "STEP#") if item["who"] == "RECOVERY"] == ["RETRY"]
    assert len(world.bookings(agent_id)) == 1
    world.assert_inventory_agrees()
    world.assert_sound(agent_id)
