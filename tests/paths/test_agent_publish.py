"""agent_publish: what a rule uses of the record's announcements comes to the bus, in the contract's shape."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.world import World, scenario
from turnstile_agents.events import EVENTS
from turnstile_cli.engines.faults import Fault


@pytest.fixture
def heard(world: World) -> Iterator[Any]:
    """Listen to the bus; yield a function that returns an agent's events, in order of their steps."""
    name = f"listener-{uuid.uuid4().hex[:8]}"
    sqs, events = world.client("sqs"), world.stack.events
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = world.stack.outputs.bus_name
    events.put_rule(Name=name, EventBusName=bus, EventPattern='{"source": ["com.agent.workflow"]}')
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "q", "Arn": queue}])

    def of(agent_id: str, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5).get("Messages", [])
            assert messages, f"only {found}"
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                event = json.loads(message["Body"])
                if event["detail"].get("agentId") == agent_id and event["detail-type"] != "AgentRequested":
                    found.append(event)
        return sorted(found, key=lambda event: event["detail"]["step"])

    yield of
    events.remove_targets(Rule=name, EventBusName=bus, Ids=["q"])
    events.delete_rule(Name=name, EventBusName=bus)


def test_a_checkpoint_that_no_rule_uses_is_no_event(world: World, heard: Any) -> None:
    agent_id = world.play(scenario("straight_booking"))
    events = heard(agent_id, 2)
    for event in events:
        EVENTS[event["detail-type"]].model_validate(event["detail"])
    # A bus does not keep the order.
    assert {(e["detail"]["step"], e["detail"]["status"], e["detail"].get("nextAction")) for e in events} == {
        (1, "INITIATED", "PLANNING"),
        (4, "COMPLETED", None),
    }


def test_a_failure_is_an_event_of_its_own(world: World, heard: Any) -> None:
    agent_id = world.play(scenario("give_up"))
    [event] = [event for event in heard(agent_id, 3) if event["detail-type"] == "AgentError"]
    EVENTS["AgentError"].model_validate(event["detail"])
    assert event["detail"] == {
        "agentId": agent_id,
        "step": 2,
        "error": "GivenUp",
        "errorMessage": "Nothing flies to the moon.",
        "currentState": "PLANNING",
        "executionArn": world.items(agent_id, "STEP#000002")[0]["execution"],
    }


def test_a_bus_that_is_busy_gets_the_event_later(world: World) -> None:
    name = f"busy-{uuid.uuid4().hex[:8]}"
    world.faults.put(Fault(agent_id=name, state="PublishNextAction", error="EventBridge.ThrottlingException", times=2))
    assert world.play(scenario("give_up"), name)


def record(agent_id: str, **values: str) -> dict[str, Any]:
    """Return the outbox pipe's input for an agent that has ended."""
    texts = {
        "agentId": agent_id,
        "status": "COMPLETED",
        "nextAction": "NONE",
        "announce": "AgentStateUpdated",
        "parent": "",
        "children": "[]",
    }
    image = {name: {"S": value} for name, value in (texts | values).items()}
    return {"dynamodb": {"NewImage": {**image, "step": {"N": "1"}}}}


def test_an_end_tells_whose_child_it_was_and_how_many_it_has(world: World, heard: Any) -> None:
    name = f"family-{uuid.uuid4().hex[:8]}"
    batch = [record(name, parent="agent-0", children=json.dumps(["child-1", "child-2"]))]
    arn = world.stack.stepfunctions.start_execution(
        stateMachineArn=world.stack.outputs.agent_publish_arn, input=json.dumps(batch)
    )["executionArn"]
    assert world.ended(arn)["status"] == "SUCCEEDED"
    [event] = heard(name, 1)
    EVENTS["AgentStateUpdated"].model_validate(event["detail"])
    assert (event["detail"]["parent"], event["detail"]["children"]) == ("agent-0", 2)


def test_records_that_cannot_be_published_fail_the_batch_after_the_others(world: World) -> None:
    lost, kept = f"lost-{uuid.uuid4().hex[:8]}", f"kept-{uuid.uuid4().hex[:8]}"
    world.faults.put(Fault(agent_id=lost, state="PublishUpdate", error="AccessDenied"))
    arn = world.stack.stepfunctions.start_execution(
        stateMachineArn=world.stack.outputs.agent_publish_arn, input=json.dumps([record(lost), record(kept)])
    )["executionArn"]
    execution = world.ended(arn)
    assert (execution["status"], execution["error"]) == ("FAILED", "RecordsMissed")
    published = [visit for visit in world.history(arn) if visit.state == "PublishUpdate"]
    assert [bool(visit.error) for visit in published] == [True, False]
