"""Notifications: subscribers of AgentTopic are told by a rule, without a machine."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.paths.test_agent_watch import fresh
from tests.world import World, scenario
from turnstile_agents.events import AgentStateUpdated
from turnstile_agents.record import Status
from turnstile_cli.chaos.tools import OPEN

TOLD = [
    Status.WAITING_FOR_INPUT,
    Status.WAITING_FOR_APPROVAL,
    Status.WAITING_FOR_OPERATOR,
    Status.COMPLETED,
    Status.FAILED,
    Status.CANCELLED,
]


def received(world: World, url: str, agent_id: str) -> dict[str, Any]:
    """Wait for the message about an agent; put other messages aside."""
    sqs, deadline = world.client("sqs"), time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2)
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            if agent_id in message["Body"]:
                return dict(message)
    raise TimeoutError(f"nothing about {agent_id}")


@contextmanager
def subscribed(world: World, **attributes: str) -> Iterator[str]:
    """Subscribe a new queue to AgentTopic; yield its URL."""
    sqs, sns = world.client("sqs"), world.client("sns")
    url = sqs.create_queue(QueueName=fresh("subscriber"), Attributes=OPEN)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscription = sns.subscribe(
        TopicArn=world.stack.outputs.agent_topic_arn,
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"RawMessageDelivery": "true", **attributes},
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    try:
        yield url
    finally:
        sns.unsubscribe(SubscriptionArn=subscription)


def put(world: World, status: Status, name: str = "") -> str:
    """Put the event of an agent on the bus that has no record; return its id."""
    agent_id = name or fresh("told")
    world.stack.put("AgentStateUpdated", AgentStateUpdated(agent_id=agent_id, step=7, status=status, parent="agent-0"))
    return agent_id


@pytest.mark.parametrize("status", TOLD)
def test_the_queue_has_what_the_event_says(world: World, status: Status) -> None:
    agent_id = put(world, status)
    message = received(world, world.stack.outputs.agent_changes_url, agent_id)
    assert json.loads(message["Body"]) == {"agentId": agent_id, "status": status, "step": 7, "parent": "agent-0"}


def test_only_the_announced_statuses_are_told(world: World) -> None:
    with subscribed(world) as url:
        mark = fresh("each")
        for status in Status:
            put(world, status, f"{mark}-{status}")
        put(world, Status.COMPLETED, f"{mark}-last")
        found: list[str] = []
        while f"{mark}-last" not in found:
            found.append(json.loads(received(world, url, mark)["Body"])["agentId"])
    assert sorted(found) == sorted([*(f"{mark}-{status}" for status in TOLD), f"{mark}-last"])


@pytest.mark.parametrize("field", ["agentId", "step", "status", "parent"])
def test_an_event_without_a_field_is_not_told(world: World, field: str) -> None:
    detail = {"agentId": (mark := fresh("half")), "step": 7, "status": "COMPLETED", "parent": mark, "children": 0}
    entry: Any = {
        "Source": "com.agent.workflow",
        "DetailType": "AgentStateUpdated",
        "Detail": json.dumps({name: value for name, value in detail.items() if name != field}),
        "EventBusName": world.stack.outputs.bus_name,
    }
    with subscribed(world) as url:
        world.stack.events.put_events(Entries=[entry])
        put(world, Status.COMPLETED, last := f"{mark}-last")
        assert json.loads(received(world, url, mark)["Body"])["agentId"] == last


def test_a_subscription_filters_by_the_body(world: World) -> None:
    policy = json.dumps({"status": ["FAILED"], "agentId": [{"prefix": (mark := fresh("filtered"))}]})
    with subscribed(world, FilterPolicyScope="MessageBody", FilterPolicy=policy) as url:
        put(world, Status.COMPLETED, mark)
        put(world, Status.FAILED, failed := f"{mark}-failed")
        assert json.loads(received(world, url, mark)["Body"])["agentId"] == failed


def test_an_agent_that_ends_is_told_of_by_itself(world: World) -> None:
    agent_id = world.play(scenario("give_up"))
    message = json.loads(received(world, world.stack.outputs.agent_changes_url, agent_id)["Body"])
    assert message == {"agentId": agent_id, "status": "FAILED", "step": 3, "parent": ""}


def test_an_end_starts_no_machine(world: World) -> None:
    before = world.stack.execution_arns(world.stack.outputs.agent_notify_arn)
    agent_id = world.play(scenario("answer_only"))
    received(world, world.stack.outputs.agent_changes_url, agent_id)
    assert world.stack.execution_arns(world.stack.outputs.agent_notify_arn) == before
