"""agent_notify: approvers are told, and the children of an ended agent end too."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.paths.test_agent_watch import ago, change, fresh, lose, standing, until_lost, watch
from tests.paths.test_notifications import received
from tests.world import World, scenario
from turnstile_agents.record import FINISHED, Status, Verdict
from turnstile_cli.chaos.tools import OPEN
from turnstile_cli.engines.faults import Fault

HANDLED = [Status.WAITING_FOR_APPROVAL, Status.COMPLETED, Status.FAILED, Status.CANCELLED]


def changed(agent_id: str, status: Status, **more: Any) -> dict[str, Any]:
    return {"agentId": agent_id, "step": 5, "status": status, "parent": "", "children": 0, **more}


@pytest.fixture
def operator(world: World) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Subscribe to the operators' topic; yield a function that returns the published message about an agent."""
    sqs, sns, topic = world.client("sqs"), world.client("sns"), world.stack.outputs.operator_topic_arn
    url = sqs.create_queue(QueueName=fresh("operator"), Attributes=OPEN)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscribed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, ReturnSubscriptionArn=True)
    yield lambda agent_id: json.loads(received(world, url, agent_id)["Body"])
    sns.unsubscribe(SubscriptionArn=subscribed["SubscriptionArn"])


def states_of(world: World, execution: dict[str, Any]) -> list[str]:
    return [visit.state for visit in world.history(execution["executionArn"])]


def test_an_approver_learns_what_to_decide_and_how(world: World, operator: Callable[[str], dict[str, Any]]) -> None:
    agent_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4", goal="A flight\u202e\x1b[2J")
    detail = changed(agent_id, Status.WAITING_FOR_APPROVAL)
    assert world.run("agent_notify", detail, kind="AgentStateUpdated")["status"] == "SUCCEEDED"
    message = operator(agent_id)
    assert message["Subject"] == f"Turnstile: agent {agent_id} needs an approval"
    assert message["Message"].startswith(f"Agent {agent_id} waits for the approval 4.\n\nSee what it wants to do with")
    assert "flight" not in message["Message"]
    assert f"turnstile approve {agent_id} 4 [--refuse]" in message["Message"]
    attributes = {key: value["Value"] for key, value in message["MessageAttributes"].items()}
    assert attributes == {"agentId": agent_id, "approvalId": "4"}


def test_an_approver_without_a_message_gets_one_when_half_of_the_time_is_over(
    world: World, operator: Callable[[str], dict[str, Any]]
) -> None:
    lost = lose(world, agent_id := fresh("untold"), "AgentNotify")
    world.start(scenario("approved"), agent_id)
    world.settle(agent_id, Status.WAITING_FOR_APPROVAL)
    until_lost(lost)
    asked = change(world, agent_id, lastUpdated=ago(days=3, hours=12, minutes=1))
    assert watch(world)[0] == "SUCCEEDED"
    assert operator(agent_id)["Subject"] == f"Turnstile: agent {agent_id} needs an approval"
    [state] = world.items(agent_id, "STATE")
    assert (state["status"], state["lastUpdated"]) == (Status.WAITING_FOR_APPROVAL, asked["lastUpdated"])
    world.stack.wait_for(world.stack.decide_approval(agent_id, state["waitsFor"], Verdict.APPROVE))
    world.settle(agent_id, Status.COMPLETED)
    world.assert_sound(agent_id)


def test_an_agent_with_a_decision_asks_no_approver(world: World) -> None:
    agent_id = standing(world, Status.PLANNING, waitsFor="4")
    execution = world.run("agent_notify", changed(agent_id, Status.WAITING_FOR_APPROVAL), kind="AgentStateUpdated")
    assert states_of(world, execution) == ["ReadAgent", "RouteAgent", "NothingToDo"]


@pytest.mark.parametrize("status", HANDLED)
def test_a_status_that_is_not_the_records_does_nothing(world: World, status: Status) -> None:
    """Check an event that was forged, or that came too late."""
    others = [other for other in (Status.PLANNING, Status.WAITING_FOR_AGENT, *HANDLED) if other != status]
    parent, children = family(world, others[0])
    for other in others:
        change(world, parent, status=other)
        execution = world.run("agent_notify", changed(parent, status, children=3), kind="AgentStateUpdated")
        assert states_of(world, execution) == ["ReadAgent", "RouteAgent", "NothingToDo"]
    assert [world.items(child, "STATE")[0]["cancels"] for child in children] == ["0", "0", "0"]


def test_an_event_about_an_unknown_agent_does_nothing(world: World) -> None:
    execution = world.run("agent_notify", changed(fresh("unknown"), Status.COMPLETED), kind="AgentStateUpdated")
    assert states_of(world, execution) == ["ReadAgent", "RouteAgent", "NothingToDo"]


# ---- Children


def family(world: World, status: Status) -> tuple[str, list[str]]:
    """Put a parent with three children: the first works, the second waits, and the third has ended."""
    parent = standing(world, status)
    stands = [Status.PLANNING, Status.WAITING_FOR_INPUT, Status.COMPLETED]
    children = [standing(world, each, fresh("below"), parent=parent) for each in stands]
    change(world, parent, children=json.dumps(children))
    return parent, children


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_children_end_with_their_parent(world: World, status: Status) -> None:
    parent, [working, waits, done] = family(world, status)
    before = world.items(done)
    execution = world.run("agent_notify", changed(parent, status, children=3), kind="AgentStateUpdated")
    assert execution["status"] == "SUCCEEDED"
    for child in (working, waits):
        world.wait(child, lambda state: state["cancels"] == "1")
        [item] = world.items(child, "INPUT#")
        assert json.loads(item["detail"])["note"] == f"Its parent {parent} is {status}."
    assert world.items(done) == before


def test_children_of_a_parent_that_waits_go_on(world: World) -> None:
    parent, children = family(world, Status.WAITING_FOR_APPROVAL)
    detail = changed(parent, Status.WAITING_FOR_APPROVAL, children=3)
    execution = world.run("agent_notify", detail, kind="AgentStateUpdated")
    assert execution["status"] == "SUCCEEDED"
    assert "CancelChildren" not in states_of(world, execution)
    assert [world.items(child, "STATE")[0]["cancels"] for child in children] == ["0", "0", "0"]


def test_a_child_that_could_not_be_cancelled_is_cancelled_by_the_next_delivery(world: World) -> None:
    parent, [working, waits, _] = family(world, Status.CANCELLED)
    # Only this child's iteration has this text in its input, so only its cancellation fails.
    world.faults.put(Fault(agent_id=f'"child": "{working}"', state="CancelChild", error="AccessDenied"))
    execution = world.run("agent_notify", changed(parent, Status.CANCELLED, children=3), kind="AgentStateUpdated")
    assert execution["error"] == "ChildrenMissed"
    # agent_redeliver has heard of the failure and delivered the event again. A second cancellation changes nothing.
    for child in (working, waits):
        world.wait(child, lambda state: state["cancels"] == "1")
        assert len(world.items(child, "INPUT#")) == 1


def test_an_end_without_children_starts_no_machine(world: World) -> None:
    rules = patterns(world)
    assert [status for status in Status if passes(world, rules, changed("agent-1", status))] == HANDLED[:1]
    assert [status for status in Status if passes(world, rules, changed("agent-1", status, children=1))] == HANDLED


def patterns(world: World) -> list[str]:
    """Return the patterns of the rules that start agent_notify."""
    events, bus = world.stack.events, world.stack.outputs.bus_name
    return [
        rule["EventPattern"]
        for rule in events.list_rules(EventBusName=bus)["Rules"]
        for target in events.list_targets_by_rule(Rule=rule["Name"], EventBusName=bus)["Targets"]
        if target["Arn"] == world.stack.outputs.agent_notify_arn
    ]


def passes(world: World, rules: list[str], detail: dict[str, Any]) -> bool:
    event = {
        "id": "1",
        "account": "000000000000",
        "source": "com.agent.workflow",
        "time": "2026-01-01T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail-type": "AgentStateUpdated",
        "detail": detail,
    }
    text = json.dumps(event)
    return any(world.stack.events.test_event_pattern(EventPattern=rule, Event=text)["Result"] for rule in rules)
