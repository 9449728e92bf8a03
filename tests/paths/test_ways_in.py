"""The examples of docs/ways-in.md, deployed beside the stack."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.world import World, scenario
from turnstile_agents.record import Status

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@contextmanager
def deployed(world: World, name: str, **parameters: str) -> Iterator[None]:
    """Deploy an example as its own stack."""
    cloudformation, stack = world.client("cloudformation"), f"example-{uuid.uuid4().hex[:8]}"
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=(EXAMPLES / name).read_text("utf-8"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    try:
        yield
    finally:
        cloudformation.delete_stack(StackName=stack)


def put(world: World, source: str, detail_type: str, detail: dict[str, str], bus: str = "default") -> str:
    """Put an event on a bus; return its id."""
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail), "EventBusName": bus}
    answer = world.client("events").put_events(Entries=[entry])
    return str(answer["Entries"][0]["EventId"])


def test_another_systems_event_starts_an_agent(world: World) -> None:
    wish = scenario("answer_only").prompt
    with deployed(world, "order_event.yaml", AgentStartArn=world.stack.outputs.agent_start_arn):
        agent_id = put(world, "com.example.orders", "OrderPlaced", {"wish": wish})
        state = world.settle(agent_id, Status.COMPLETED)
    assert world.items(agent_id, "STEP#000001")[0]["text"] == wish
    assert (state["by"], state["source"]) == ("", "com.example.orders")


def test_a_wish_with_quotes_comes_through_as_it_is(world: World) -> None:
    wish = 'A "window" seat,\nplease \\ thank you'
    with deployed(world, "order_event.yaml", AgentStartArn=world.stack.outputs.agent_start_arn):
        agent_id = put(world, "com.example.orders", "OrderPlaced", {"wish": wish})
        world.wait(agent_id, lambda state: state["goal"] == wish)


def test_another_account_asks_on_a_bus_of_its_own(world: World) -> None:
    events = world.client("events")
    own = events.create_event_bus(Name=f"own-{uuid.uuid4().hex[:8]}")["EventBusArn"].rpartition("/")[2]
    bus = events.describe_event_bus(Name=world.stack.outputs.bus_name)["Arn"]
    agent_id = f"asked-{uuid.uuid4().hex[:8]}"
    with deployed(world, "another_account.yaml", AgentBusArn=bus, SourceBusName=own):
        detail = {"prompt": scenario("answer_only").prompt, "agentId": agent_id}
        put(world, "com.agent.workflow", "AgentRequested", detail, own)
        world.settle(agent_id, Status.COMPLETED)


def test_a_schedule_is_a_rule_with_the_same_target(world: World) -> None:
    """Deliver the rule's event by hand: EventBridge is trusted to fire rules by time; its event must start an agent."""
    with deployed(world, "every_morning.yaml", AgentStartArn=world.stack.outputs.agent_start_arn):
        events = world.client("events")
        rule = next(
            rule for rule in events.list_rules()["Rules"] if rule.get("ScheduleExpression", "").startswith("cron")
        )
        (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    template = target["InputTransformer"]["InputTemplate"]
    event_id = str(uuid.uuid4())
    filled = {"<id>": event_id, "<time>": "2026-01-01T07:00:00Z", "<source>": "aws.events"}
    for name, value in filled.items():
        template = template.replace(name, json.dumps(value))
    event = json.loads(template)
    assert target["Arn"] == world.stack.outputs.agent_start_arn
    assert world.run("agent_start", event["detail"], event_id, source=event["source"])["status"] == "SUCCEEDED"
    world.settle(event_id, Status.COMPLETED)
