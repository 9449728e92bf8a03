"""agent_publish: what a rule uses of the record's announcements comes to the bus, in the contract's shape.

What cannot be published does not stop the rest, and `turnstile republish` announces it again.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.world import World, scenario
from turnstile_agents.events import EVENTS, AgentRequested
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Fault
from turnstile_cli.stack import republish

REFUSED = json.dumps({"Entries": [{"ErrorCode": "MalformedDetail"}], "FailedEntryCount": 1})
"""The cause of EventBridge.FailedEntry, when the bus will never take the event."""


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
    """Return a record of the outbox pipe for an agent that has ended."""
    texts = {
        "agentId": agent_id,
        "status": "COMPLETED",
        "nextAction": "NONE",
        "announce": "AgentStateUpdated",
        "parent": "",
        "children": "[]",
        "error": "",
        "errorMessage": "",
        "currentState": "",
        "lastUpdated": "2026-01-01T00:00:00.000Z",
        "lastUpdatedBy": "arn:execution",
    }
    image = {name: {"S": value} for name, value in (texts | values).items()}
    keys = {"agentId": {"S": agent_id}, "record": {"S": "STATE"}}
    return {"eventID": f"id-{agent_id}", "dynamodb": {"Keys": keys, "NewImage": {**image, "step": {"N": "1"}}}}


def publish(world: World, batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Run AgentPublish as the pipe does; return its output."""
    arn = world.stack.stepfunctions.start_execution(
        stateMachineArn=world.stack.outputs.agent_publish_arn, input=json.dumps(batch)
    )["executionArn"]
    execution = world.ended(arn)
    assert execution["status"] == "SUCCEEDED"
    output: dict[str, Any] = json.loads(execution["output"])
    return output


def bodies(world: World, agent_id: str) -> list[dict[str, Any]]:
    """Return the messages of the outbox's dead letters about an agent, and take them out of the queue."""
    sqs, queue = world.client("sqs"), world.stack.outputs.outbox_dead_letters_url
    found = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
        for message in messages:
            if agent_id in message["Body"]:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                found.append(json.loads(message["Body"]))
    return found


@pytest.fixture
def republished(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs `turnstile republish` until it announces an agent."""
    monkeypatch.setattr(republish, "WAIT", 0)

    def until(agent_id: str) -> republish.Republished:
        return world.until(
            lambda: next((each for each in republish.republish(world.stack) if agent_id in each.announced), None)
        )

    return until


def request(world: World, name: str) -> None:
    world.register("travel", {})
    world.stack.request(AgentRequested(prompt=scenario("answer_only").prompt, agent="travel", agent_id=name))


def test_an_end_tells_whose_child_it_was_and_how_many_it_has(world: World, heard: Any) -> None:
    name = f"family-{uuid.uuid4().hex[:8]}"
    publish(world, [record(name, parent="agent-0", children=json.dumps(["child-1", "child-2"]))])
    [event] = heard(name, 1)
    EVENTS["AgentStateUpdated"].model_validate(event["detail"])
    assert (event["detail"]["parent"], event["detail"]["children"]) == ("agent-0", 2)


def test_a_batch_reports_what_may_be_published_later_and_keeps_what_may_not(world: World, heard: Any) -> None:
    mark = uuid.uuid4().hex[:8]
    lost, poison, busy, late, good = (f"{name}-{mark}" for name in ("lost", "poison", "busy", "late", "good"))
    fault = {"state": "PublishUpdate", "error": "EventBridge.FailedEntry", "times": 5}
    world.faults.put(Fault(agent_id=poison, cause=REFUSED, **fault))
    world.faults.put(Fault(agent_id=busy, cause=REFUSED.replace("MalformedDetail", "ThrottlingException"), **fault))
    world.faults.put(Fault(agent_id=late, state="PublishUpdate", error="EventBridge.EventBridgeException", times=5))
    broken = record(lost)
    del broken["dynamodb"]["NewImage"]["status"]
    silent = record("silent")
    del silent["dynamodb"]["NewImage"]["announce"]
    output = publish(world, [broken, record(poison), record(busy), silent, record(late), record(good)])
    assert output == {"batchItemFailures": [{"itemIdentifier": f"id-{busy}"}, {"itemIdentifier": f"id-{late}"}]}
    assert heard(good, 1)
    letter = {"step": "1", "lastUpdated": "2026-01-01T00:00:00.000Z", "announce": "AgentStateUpdated"}
    kept = sorted(bodies(world, mark), key=lambda body: body["agentId"])
    assert kept == [
        {"agentId": lost, "error": "RecordMalformed"},
        {"agentId": poison, **letter, "error": "EventBridge.FailedEntry"},
    ]


def test_a_queue_that_takes_no_message_leaves_the_record_to_the_pipe(world: World) -> None:
    name = f"unkept-{uuid.uuid4().hex[:8]}"
    world.faults.put(Fault(agent_id=name, state="KeepRecord", error="Sqs.QueueDoesNotExistException"))
    assert publish(world, [record(name, announce="Anything")]) == {
        "batchItemFailures": [{"itemIdentifier": f"id-{name}"}]
    }


def test_a_poison_record_stops_only_its_agent_until_it_is_published(world: World, republished: Any) -> None:
    mark = uuid.uuid4().hex[:8]
    poison, good = f"poison-{mark}", f"good-{mark}"
    refused = {"state": "PublishNextAction", "error": "EventBridge.FailedEntry", "cause": REFUSED}
    world.faults.put(Fault(agent_id=poison, times=10, **refused))  # twice, with the retries
    request(world, poison)
    request(world, good)
    world.settle(good, Status.COMPLETED)
    first = republished(poison)
    assert first.what == f"agent {poison} is announced again: INITIATED at step 1"
    # The bus refuses it again: another message, and another command.
    assert republished(poison).message_id != first.message_id
    world.settle(poison, Status.COMPLETED)
    assert bodies(world, poison) == []


def test_records_that_the_pipe_gave_up_are_found_in_the_stream(world: World, republished: Any) -> None:
    name = f"given-up-{uuid.uuid4().hex[:8]}"
    world.faults.put(Fault(agent_id=name, state="PublishNextAction", error="EventBridge.Unknown", times=21))
    request(world, name)
    done = republished(name)
    assert (done.announced, done.kept) == ([name], False)
    world.settle(name, Status.COMPLETED)


def test_an_end_that_was_not_published_is_told_after_it(world: World, heard: Any, republished: Any) -> None:
    name = f"ended-{uuid.uuid4().hex[:8]}"
    world.faults.put(
        Fault(agent_id=name, state="PublishUpdate", error="EventBridge.FailedEntry", cause=REFUSED, times=5)
    )
    world.play(scenario("answer_only"), name)
    republished(name)
    assert [event["detail"]["status"] for event in heard(name, 2)] == ["INITIATED", "COMPLETED"]
    assert all(not each.announced for each in republish.republish(world.stack))
