"""The engine enforces IAM: each permission is needed, and without it the call is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.paths.permissions import SITUATIONS, unexplained
from tests.paths.test_agent_watch import fresh
from tests.paths.test_notifications import put, received, subscribed
from tests.world import World, scenario
from turnstile_agents.events import AgentRequested
from turnstile_agents.record import Status
from turnstile_cli.engines.embedded import Connection
from turnstile_cli.engines.faults import Faults
from turnstile_cli.local.permissions import read_grants
from turnstile_cli.local.stack import Local

pytestmark = pytest.mark.xdist_group("permissions")


@pytest.fixture
def engine(local: tuple[Local, Faults]) -> Connection:
    return local[0].engine


@contextmanager
def without(engine: Connection, role: str, action: str) -> Iterator[None]:
    """Take a permission from a role, and give it back when the context ends."""
    [grant] = [each for each in read_grants(engine) if (each.role, each.action) == (role, action)]
    iam = engine.client("iam")
    names = iam.list_role_policies(RoleName=grant.name)["PolicyNames"]
    before = {name: iam.get_role_policy(RoleName=grant.name, PolicyName=name)["PolicyDocument"] for name in names}
    for name in names:
        iam.put_role_policy(RoleName=grant.name, PolicyName=name, PolicyDocument=grant.rest)
    try:
        yield
    finally:
        for name, document in before.items():
            iam.put_role_policy(RoleName=grant.name, PolicyName=name, PolicyDocument=json.dumps(document))


def refused(world: World, engine: Connection, action: str) -> None:
    """Wait until the engine has refused an action."""
    world.until(lambda: any(ask.action == action and not ask.allowed for ask in engine.asked()))


def test_each_permission_is_needed_or_explained(world: World, engine: Connection) -> None:
    for name in ("undo_then_another", "no_seats", "approved", "look_up", "two_flights"):
        world.play(scenario(name))
    for situation in SITUATIONS.values():
        situation(world)
    assert unexplained(read_grants(engine), engine.asked()) == []


@pytest.mark.parametrize(
    ("role", "action"), [("LoadTurnRole", "dynamodb:Query"), ("AgentTurnRole", "bedrock:InvokeModel")]
)
def test_an_agent_does_not_go_on_without_it(world: World, engine: Connection, role: str, action: str) -> None:
    with without(engine, role, action):
        agent_id = world.start(scenario("answer_only"))
        state = world.settle(agent_id)
        assert state["status"] == Status.WAITING_FOR_OPERATOR
    question = world.until(lambda: world.item(agent_id, "OPERATOR"))
    assert f"is not authorized to perform: {action}" in question["question"]


def test_a_rule_without_it_starts_nothing(world: World, engine: Connection) -> None:
    agent_id = fresh("ruled")
    with without(engine, "AgentStartRequestedRole", "states:StartExecution"):
        world.stack.request(AgentRequested(prompt=scenario("answer_only").prompt, agent_id=agent_id))
        refused(world, engine, "states:StartExecution")
    assert world.item(agent_id, "STATE") is None


def test_a_rule_without_it_tells_no_subscriber(world: World, engine: Connection) -> None:
    with subscribed(world) as url:
        with without(engine, "AgentTopicChangedRole", "sns:Publish"):
            put(world, Status.COMPLETED, mark := fresh("unheard"))
            refused(world, engine, "sns:Publish")
        put(world, Status.COMPLETED, heard := f"{mark}-heard")
        assert json.loads(received(world, url, mark)["Body"])["agentId"] == heard


def test_a_pipe_without_it_delivers_nothing_until_it_is_given_back(world: World, engine: Connection) -> None:
    with without(engine, "OutboxPipeRole", "states:StartSyncExecution"):
        agent_id = world.start(scenario("answer_only"))
        refused(world, engine, "states:StartSyncExecution")
        assert world.items(agent_id, "STATE")[0]["status"] == Status.INITIATED
    world.settle(agent_id, Status.COMPLETED)


def test_only_the_api_speaks_for_its_callers(world: World, engine: Connection) -> None:
    iam, name = engine.client("iam"), fresh("caller")
    iam.create_user(UserName=name)
    anything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName="anything", PolicyDocument=json.dumps(anything))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    events = boto3.client(
        "events",
        endpoint_url=engine.url,
        region_name="us-east-1",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )

    def put(source: str) -> None:
        bus = world.stack.outputs.bus_name
        events.put_events(Entries=[{"Source": source, "DetailType": "Nothing", "Detail": "{}", "EventBusName": bus}])

    put("com.agent.workflow")
    with pytest.raises(ClientError, match="not authorized to perform: events:PutEvents"):
        put("com.agent.api")
