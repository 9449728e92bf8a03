"""agent_redeliver: an event whose execution failed is delivered again, or reported as lost."""

import json
import uuid
from typing import Any

import pytest

from tests.world import World
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Fault

REQUEST = {"prompt": "Between which cities can you book flights?"}


def fresh() -> str:
    return f"redelivered-{uuid.uuid4().hex[:8]}"


def death(world: World, machine: str, **fields: Any) -> dict[str, Any]:
    """Return the detail of a status change: an execution of a machine has failed."""
    arn = getattr(world.stack.outputs, f"{machine}_arn")
    execution = f"{arn.replace('stateMachine', 'execution')}:{uuid.uuid4()}"
    return {"executionArn": execution, "stateMachineArn": arn, "status": "FAILED", **fields}


def redeliver(world: World, detail: dict[str, Any]) -> tuple[str, list[str]]:
    """Run the machine; return its error, or its status, and the states that it visited."""
    execution = world.run("agent_redeliver", detail)
    visited = [visit.state for visit in world.history(execution["executionArn"])]
    return execution.get("error", execution["status"]), visited


def test_a_request_that_died_is_made_again(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadDefinition", error="AccessDenied"))
    world.faults.put(Fault(agent_id=name, state="DeliverAgain", error="Sfn.SfnException", times=2))
    world.deliver("agent_start", {**REQUEST, "agentId": name})
    assert world.settle(name)["status"] == Status.COMPLETED


def test_a_request_that_keeps_dying_is_reported_as_lost(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadDefinition", error="AccessDenied", times=99))
    first = world.deliver("agent_start", {**REQUEST, "agentId": name})
    arn = world.stack.outputs.agent_redeliver_arn
    sfn = world.stack.stepfunctions

    def lost() -> list[dict[str, Any]]:
        failed = sfn.list_executions(stateMachineArn=arn, statusFilter="FAILED")["executions"]
        described = (sfn.describe_execution(executionArn=each["executionArn"]) for each in failed)
        return [dict(each) for each in described if name in each["input"]]

    [execution] = world.until(lost)
    assert execution["error"] == "EventLost"
    died = json.loads(execution["input"])["detail"]["executionArn"]
    assert died != first and died in execution["cause"]
    assert json.loads(sfn.describe_execution(executionArn=died)["input"])["attempt"] == 3
    assert world.item(name, "STATE") is None


@pytest.mark.parametrize("machine", ["agent_start", "agent_input", "agent_notify"])
def test_an_event_that_is_too_large_is_reported_as_lost(world: World, machine: str) -> None:
    assert redeliver(world, death(world, machine)) == ("EventLost", ["RouteDeath", "EventLost"])


def test_a_turns_event_that_is_too_large_is_not_lost(world: World) -> None:
    execution = world.run("agent_recovery", death(world, "agent_turn"))
    assert execution["status"] == "SUCCEEDED"


@pytest.mark.parametrize("fields", [{"error": "RequestInvalid"}, {"error": "AgentExists", "input": "{}"}])
def test_a_refusal_is_an_answer(world: World, fields: dict[str, str]) -> None:
    ended, visited = redeliver(world, death(world, "agent_start", **fields))
    assert (ended, visited[-1]) == ("SUCCEEDED", "EventAnswered")


def test_an_execution_that_was_started_by_hand_is_left_to_its_caller(world: World) -> None:
    ended, visited = redeliver(world, death(world, "agent_start", input='{"detail": {}}'))
    assert (ended, visited[-1]) == ("SUCCEEDED", "NotAnEvent")
