"""Final is final: late and repeated events and the watch leave an ended agent as it is."""

import json
import time
import uuid

import pytest

from tests.paths.test_agent_recovery import asked, decide, decisions
from tests.paths.test_agent_watch import set_state
from tests.world import World, scenario
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Fault
from turnstile_cli.stack.client import StackError
from turnstile_cli.stack.settle import settle
from turnstile_cli.verify import findings


def fresh() -> str:
    return f"final-{uuid.uuid4().hex[:8]}"


def asking(world: World) -> str:
    """Start an agent whose recovery waits for an operator; return its name."""
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    asked(world, name)
    return name


def recovery_of(world: World, owner: str) -> str:
    """Wait for the recovery that started after `owner` had ended; return its ARN once it is over."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        machine = world.stack.outputs.agent_recovery_arn
        for each in world.stack.stepfunctions.list_executions(stateMachineArn=machine)["executions"]:
            execution = world.stack.execution(each["executionArn"])
            if execution and execution.event["detail"].get("executionArn") == owner:
                world.ended(execution.arn)
                return execution.arn
        time.sleep(0.05)
    raise TimeoutError(f"no recovery was started for {owner}")


@pytest.mark.parametrize(
    ("answer", "status"),
    [("ABORT", Status.FAILED), ("COMPENSATE", Status.WAITING_FOR_INPUT), ("CANCEL", Status.CANCELLED)],
)
def test_a_watch_that_read_the_record_before_the_end_revives_nothing(world: World, answer: str, status: Status) -> None:
    agent_id = asking(world)
    owner = set_state(world, agent_id)["owner"].split("#")[0]
    with world.faults.held(agent_id, "AskOwner", machine="AgentWatch") as until_held:
        run = world.deliver("agent_watch", {})
        until_held()
        if answer == "CANCEL":
            world.run("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
        else:
            decide(world, agent_id, answer)
        world.ended(owner)
        [left] = world.items(agent_id, "STATE")
    assert world.ended(run)["status"] == "SUCCEEDED"
    assert world.history(recovery_of(world, owner))[-1].state == "NothingToDo"
    assert left["status"] == status
    assert world.items(agent_id, "STATE") == [left]
    assert decisions(world, agent_id) == [(answer, "AccessDenied")]
    assert findings(world.items(agent_id)) == []
    world.assert_sound(agent_id)


def test_late_truth_comes_into_the_ledger_of_an_agent_that_was_aborted(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", when="after", error="States.Timeout"))
    world.faults.put(Fault(agent_id=name, state="LookUp", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    asked(world, name)
    decide(world, name, "ABORT")
    ended = world.settle(name, Status.FAILED)
    [call] = world.stack.view(name).plan
    assert (call.status, call.unsettled) == ("UNCERTAIN", "EFFECT#000002#0")
    [booking] = world.bookings(name)
    settle(world.stack, name, "EFFECT#000002#0", True, json.dumps({"booking_id": booking["bookingId"]}))
    [call] = world.stack.view(name).plan
    assert (call.status, call.unsettled) == ("COMMITTED", None)
    assert call.result == {"booking_id": booking["bookingId"]}
    assert world.items(name, "STATE") == [ended]
    assert findings(world.items(name)) == []
    with pytest.raises(StackError, match="is settled already: it is COMMITTED"):
        settle(world.stack, name, "EFFECT#000002#0", False)
    world.assert_inventory_agrees()
    world.assert_sound(name)
