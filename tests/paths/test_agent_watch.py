"""agent_watch: it starts the agents again that no execution works on although one should, and touches no others."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit import records
from tests.world import World, scenario, waiting
from turnstile_agents.events import AgentDecisionGiven
from turnstile_agents.items import OPERATOR, Attributes, item_of, stored
from turnstile_agents.operator import OperatorDecision
from turnstile_agents.record import Status, Verdict
from turnstile_cli.engines.faults import Delivery, Fault, met_at
from turnstile_cli.stack.operator import decide

LONG_AGO = "2026-01-01T00:00:00Z"


def lose(world: World, agent_id: str, machine: str, skip: int = 0) -> Path:
    """Lose an event for a machine: the next event, or a later one."""
    return world.faults.put(Delivery(agent_id=agent_id, machine=machine, how="lost", skip=skip))


def until_lost(*events: Path) -> None:
    """Wait until these events are lost."""
    deadline = time.monotonic() + 20
    while missing := [file for file in events if met_at(file) is None]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no event came to {missing}")
        time.sleep(0.05)


def change(world: World, agent_id: str, **values: str | int) -> Attributes:
    """Change STATE without an event on the bus."""
    world.stack.dynamodb.update_item(
        TableName=world.stack.outputs.table_name,
        Key={"agentId": {"S": agent_id}, "record": {"S": "STATE"}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values) + " REMOVE announce",
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={
            f":{name}": {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in values.items()
        },
    )
    return world.items(agent_id, "STATE")[0]


def set_state(world: World, agent_id: str, **values: str | int) -> Attributes:
    """Change STATE in the same way, with a last change that is long ago."""
    return change(world, agent_id, **({"lastUpdated": LONG_AGO} | values))


def standing(world: World, status: Status, name: str = "", **values: str | int) -> str:
    """Put an agent with this status; its next turn will not begin."""
    name = name or fresh("standing")
    lost = [lose(world, name, "AgentTurn", skip) for skip in range(2)]
    world.run("agent_start", {"prompt": "Fly", "agentId": name})
    until_lost(lost[0])
    change(world, name, **({"status": status, "nextAction": "NONE"} | values))
    return name


def watch(world: World) -> tuple[str, list[str]]:
    """Run the watch; return its error or status, and the states that it visited."""
    execution = world.run("agent_watch", {})
    ended = execution.get("error", execution["status"])
    return ended, [visit.state for visit in world.history(execution["executionArn"])]


def fresh(name: str = "watched") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def not_started(world: World) -> str:
    """Start an agent whose first event is lost; return its name."""
    name = fresh()
    lost = lose(world, name, "AgentTurn")
    world.start(scenario("straight_booking"), name)
    until_lost(lost)
    set_state(world, name)
    return name


def stopped(world: World) -> str:
    """Start an agent and stop its turn without any event of it; return the agent's name."""
    name = fresh()
    lost = lose(world, name, "AgentRecovery")
    with world.faults.held(name, "CommitEffect", error="Stopped") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        stop_owner(world, name)
    until_lost(lost)
    set_state(world, name)
    return name


def stop_owner(world: World, agent_id: str) -> str:
    [state] = world.items(agent_id, "STATE")
    owner = state["owner"].split("#")[0]
    world.stack.stepfunctions.stop_execution(executionArn=owner)
    return owner


def recoveries(world: World, agent_id: str) -> list[tuple[str, str]]:
    entries = [step for step in world.items(agent_id, "STEP#") if step["who"] == "RECOVERY"]
    return [(step["action"], step["reason"]) for step in entries]


def test_a_turn_whose_event_was_lost_is_announced_again(world: World) -> None:
    agent_id = not_started(world)
    ended, states = watch(world)
    assert (ended, "AnnounceTurn" in states) == ("SUCCEEDED", True)
    state = world.settle(agent_id)
    assert (state["status"], state["invocationCount"]) == (Status.COMPLETED, "1")
    assert recoveries(world, agent_id) == []
    assert len(world.bookings(agent_id)) == 1
    world.assert_sound(agent_id)


def test_an_input_whose_wake_up_was_lost_is_heard(world: World) -> None:
    agent_id = waiting(world)
    lost = lose(world, agent_id, "AgentTurn")
    world.run("agent_input", {"agentId": agent_id, "text": "Tomorrow."})
    until_lost(lost)
    set_state(world, agent_id)
    assert watch(world)[0] == "SUCCEEDED"
    assert world.settle(agent_id, Status.COMPLETED)["invocationCount"] == "2"


def test_a_turn_that_died_unheard_is_recovered(world: World) -> None:
    agent_id = stopped(world)
    assert watch(world)[0] == "SUCCEEDED"
    assert world.settle(agent_id)["status"] == Status.COMPLETED
    assert recoveries(world, agent_id) == [("RETRY", "TurnDied")]
    assert len(world.bookings(agent_id)) == 1
    world.assert_inventory_agrees()
    world.assert_sound(agent_id)


def test_an_owner_that_step_functions_has_forgotten_is_dead(world: World) -> None:
    agent_id = stopped(world)
    gone = Fault(agent_id=agent_id, state="AskOwner", machine="AgentWatch", error="Sfn.ExecutionDoesNotExistException")
    world.faults.put(gone)
    ended, states = watch(world)
    assert (ended, "OwnerForgotten" in states) == ("SUCCEEDED", True)
    assert world.settle(agent_id)["status"] == Status.COMPLETED


def test_a_failure_whose_events_were_lost_is_announced_again(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="AskModel", error="AccessDenied"))
    # One by the bus, the other by the execution's status.
    lost = [lose(world, name, "AgentRecovery", skip) for skip in range(2)]
    world.start(scenario("straight_booking"), name)
    until_lost(*lost)
    turn = set_state(world, name)["lastUpdatedBy"]
    ended, states = watch(world)
    assert (ended, "AnnounceError" in states) == ("SUCCEEDED", True)
    state = world.settle(name)
    assert (state["status"], state["error"]) == (Status.WAITING_FOR_OPERATOR, "AccessDenied")
    recovery = world.stack.execution(state["lastUpdatedBy"])
    assert recovery and recovery.event["detail"]["executionArn"] == turn  # the execution that failed


def test_a_turn_that_runs_is_left_alone_however_long(world: World) -> None:
    name = fresh()
    with world.faults.held(name, "AskModel") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        set_state(world, name)
        before = world.items(name)
        ended, states = watch(world)
        assert (ended, states.count("SendToRecovery")) == ("SUCCEEDED", 0)
        assert world.items(name) == before
    assert world.settle(name)["invocationCount"] == "1"
    assert recoveries(world, name) == []


def test_a_question_whose_recovery_died_is_asked_again(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="AskModel", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    world.settle(name, Status.WAITING_FOR_OPERATOR)
    world.wait(name, lambda _: bool(world.items(name, OPERATOR)))
    [asked] = world.items(name, OPERATOR)
    set_state(world, name)
    before = world.items(name)
    assert watch(world)[0] == "SUCCEEDED"
    assert world.items(name) == before  # it waits, and needs no help
    dead = stop_owner(world, name)
    assert watch(world)[0] == "SUCCEEDED"
    world.wait(name, lambda _: world.items(name, OPERATOR) != [asked])
    [state] = world.items(name, "STATE")
    assert (state["status"], state["error"]) == (Status.WAITING_FOR_OPERATOR, "AccessDenied")
    assert not state["owner"].startswith(dead)
    decide(world.stack, name, OperatorDecision.RETRY)
    assert world.settle(name, Status.COMPLETED)
    assert recoveries(world, name) == [("RETRY", "AccessDenied")]


def test_an_agent_that_has_moved_meanwhile_is_left_alone(world: World) -> None:
    agent_id = not_started(world)
    with world.faults.held(agent_id, "AnnounceTurn") as until_held:
        execution = world.deliver("agent_watch", {})
        until_held()
        world.run("agent_turn", {"agentId": agent_id, "step": 1, "nextAction": "PLANNING"})
        before = world.items(agent_id)
    assert world.ended(execution)["status"] == "SUCCEEDED"
    assert world.items(agent_id) == before


@pytest.mark.parametrize("state", ["AskOwner", "SendToRecovery"])
def test_an_agent_that_cannot_be_helped_is_reported_and_does_not_stop_the_others(world: World, state: Any) -> None:
    hopeless, other = stopped(world), not_started(world)
    world.faults.put(Fault(agent_id=hopeless, state=state, machine="AgentWatch", error="AccessDenied"))
    assert watch(world)[0] == "AgentsMissed"
    assert world.settle(other)["status"] == Status.COMPLETED
    assert watch(world)[0] == "SUCCEEDED"
    assert world.settle(hopeless)["status"] == Status.COMPLETED


def test_a_record_that_nothing_explains_is_told_of(world: World) -> None:
    agent_id = waiting(world)
    set_state(world, agent_id, status=Status.PLANNING)
    before = world.items(agent_id)
    assert watch(world)[0] == "AgentsMissed"
    assert world.items(agent_id) == before
    set_state(world, agent_id, status=Status.WAITING_FOR_INPUT)


def test_where_nothing_stands_still_nothing_is_done(world: World) -> None:
    agent_id = waiting(world)
    set_state(world, agent_id)
    before = world.items(agent_id)
    assert watch(world) == ("SUCCEEDED", ["LoadWatch", "RouteFound", "NothingStale"])
    assert world.items(agent_id) == before


# ---- Agents that wait in vain


def ago(**time_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**time_ago)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def family(world: World, *children: str) -> str:
    """Put a parent that has waited for these children for long."""
    parent = standing(world, Status.WAITING_FOR_AGENT, fresh("parent"), waitsFor="4", children=json.dumps(children))
    asked = records.decision("DELEGATE", children=[records.child("u1", child) for child in children])
    step = item_of({**records.decided(4, asked), "agentId": parent})
    world.stack.dynamodb.put_item(TableName=world.stack.outputs.table_name, Item=stored(step))
    set_state(world, parent)
    return parent


def test_an_approval_without_a_decision_expires_after_a_reminder(world: World) -> None:
    agent_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4", lastUpdated=ago(days=7, minutes=1))
    ended, states = watch(world)
    assert (ended, states.count("RemindApprover"), states.count("ExpireApproval")) == ("SUCCEEDED", 1, 0)
    ended, states = watch(world)
    assert (ended, states.count("ExpireApproval")) == ("SUCCEEDED", 1)
    state = world.wait(agent_id, lambda state: state["inbox"] == "1")
    assert (state["status"], state["nextAction"]) == (Status.PLANNING, "PLANNING")
    [item] = world.items(agent_id, "INPUT#")
    assert (item["record"], item["type"]) == ("INPUT#expire-4", "AgentDecisionGiven")
    given = AgentDecisionGiven.model_validate_json(item["detail"])
    assert (given.approval_id, given.decision) == ("4", Verdict.EXPIRE)


def test_an_approval_may_take_its_time(world: World) -> None:
    agent_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4", lastUpdated=ago(days=6, hours=23))
    before = world.items(agent_id)
    ended, states = watch(world)
    assert (ended, states.count("ExpireApproval")) == ("SUCCEEDED", 0)
    assert world.items(agent_id) == before


def test_two_runs_at_once_remind_once(world: World) -> None:
    half = ago(days=3, hours=12, minutes=1)
    agent_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4", remindedOf="2", lastUpdated=half)
    with world.faults.held(agent_id, "RemindApprover") as until_held:
        execution = world.deliver("agent_watch", {})
        until_held()
        assert watch(world)[1].count("RemindApprover") == 1
        [state] = world.items(agent_id, "STATE")
        assert [state[name] for name in ("remindedOf", "announce", "lastUpdated")] == ["4", "AgentStateUpdated", half]
        before = change(world, agent_id, remindedOf="4")
    assert world.ended(execution)["status"] == "SUCCEEDED"
    assert world.items(agent_id, "STATE") == [before]
    assert "RemindApprover" not in watch(world)[1]


def test_an_end_that_the_parent_has_not_heard_of_is_announced_again(world: World) -> None:
    child = standing(world, Status.FAILED, fresh("below"), outputTokens=80)
    parent = family(world, child)
    change(world, child, parent=parent)
    ended, states = watch(world)
    assert (ended, states.count("AnnounceEnd")) == ("SUCCEEDED", 1)
    state = world.wait(parent, lambda state: state["inbox"] == "1")
    assert (state["status"], state["outputTokens"]) == (Status.PLANNING, "80")
    assert [item["record"] for item in world.items(parent, "INPUT#")] == [f"INPUT#{child}"]
    # It has heard: the watch has nothing to do, although it waits again.
    set_state(world, parent, status=Status.WAITING_FOR_AGENT, nextAction="NONE")
    assert watch(world)[1].count("AnnounceEnd") == 0


def test_a_parent_whose_child_was_never_made_asks_for_it_again(world: World) -> None:
    child = standing(world, Status.PLANNING, fresh("below"))
    parent = family(world, child, fresh("below"))
    ended, states = watch(world)
    assert (ended, states.count("WakeParent")) == ("SUCCEEDED", 1)
    [state] = world.items(parent, "STATE")
    assert [state[name] for name in ("status", "nextAction", "waitsFor")] == [Status.PLANNING, "PLANNING", ""]
    assert world.items(parent, "INPUT#") == []


def test_a_parent_that_has_gone_on_meanwhile_is_left_alone(world: World) -> None:
    parent = family(world, fresh("below"))
    with world.faults.held(parent, "WakeParent") as until_held:
        execution = world.deliver("agent_watch", {})
        until_held()
        change(world, parent, waitsFor="9")
        before = world.items(parent)
    assert world.ended(execution)["status"] == "SUCCEEDED"
    assert world.items(parent) == before
    change(world, parent, status=Status.CANCELLED)


def test_a_parent_whose_children_work_is_left_alone(world: World) -> None:
    children = [standing(world, each) for each in (Status.PLANNING, Status.WAITING_FOR_INPUT)]
    parent = family(world, *children)
    for child in children:
        change(world, child, parent=parent)
    before = world.items(parent)
    assert watch(world) == ("SUCCEEDED", ["LoadWatch", "RouteFound", "NothingStale"])
    assert world.items(parent) == before
