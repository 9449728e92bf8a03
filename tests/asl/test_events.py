"""The events that machines put on the bus match the contract."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import stepfunctions
from pydantic import ValidationError

from tests.asl.dynamodb import STATE, writes
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_agents.events import EVENTS, ChildRequested
from turnstile_agents.load_watch.load import Stale
from turnstile_agents.record import Child, Status
from turnstile_cli.machines.definition import Machine

STATE_IMAGE = {
    "agentId": {"S": "agent-1"},
    "step": {"N": "7"},
    "status": {"S": "FAILED"},
    "nextAction": {"S": "PLANNING"},
    "error": {"S": "States.Timeout"},
    "errorMessage": {"S": "No answer came."},
    "currentState": {"S": "PLANNING"},
    "lastUpdated": {"S": "2026-01-01T00:00:00.000Z"},
    "lastUpdatedBy": {"S": "arn:aws:states:us-east-1:000000000000:execution:turnstile-AgentTurn:1"},
    "parent": {"S": "agent-0"},
    "children": {"S": '["child-1", "child-2"]'},
}
"""STATE, in the format of the table's stream."""
STALE = Stale(
    agent_id="agent-1",
    step=7,
    status=Status.PLANNING,
    next_action="NONE",
    owner=STATE_IMAGE["lastUpdatedBy"]["S"],
    waits_for="7",
    reminded=False,
    parent="a-0",
    error="",
    error_message="",
)
CHILD = Child(
    tool_use_id="use-1",
    agent_id="child-1",
    agent="travel",
    goal="A flight",
    prompt="Book a flight.",
    step="STEP#000002",
    place=0,
    depth=1,
    tokens=1000,
    cost_micro_usd=1000,
)
CARRIED: dict[str, dict[str, Any]] = {
    "agent_notify": {"child": "child-1", "parent": "agent-1", "status": "FAILED"},
    "agent_publish": {"dynamodb": {"NewImage": STATE_IMAGE}},
    "agent_turn": {"child": CHILD.dump(), "parent": "agent-1"},
    "agent_watch": {"agent": STALE.dump(), "failure": {"error": "TurnDied", "message": "It ended."}},
}
"""The values of each machine where it puts an event on the bus."""
DETAILS = EVENTS | {"AgentRequested": ChildRequested}
"""The events of the machines by detail-type. Machines request only child agents."""


def details_are_the_contracts(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        for entry in task.fields.get("Parameters", {}).get("Entries", []):
            detail = json.dumps(stepfunctions._resolve_params_obj(entry["Detail"], CARRIED[machine.name]))
            try:
                DETAILS[entry["DetailType"]].model_validate_json(detail, strict=True)
            except ValidationError as error:
                for wrong in error.errors():
                    place = ".".join(map(str, wrong["loc"]))
                    yield problem(
                        machine,
                        task,
                        f"{entry['DetailType']} in turnstile_agents/events.py: {place}: {wrong['msg']}",
                    )


def announcements_are_published(machine: Machine) -> Iterator[str]:
    published = {
        entry["DetailType"]
        for task in MACHINES["agent_publish"].tasks()
        for entry in task.fields["Parameters"].get("Entries", [])
    }
    for write in writes(machine):
        if write.record == STATE and "announce" in write.written:
            announced = next(iter(write.written["announce"].values()))
            if announced not in published:
                yield problem(machine, write.state, f"agent_publish does not publish {announced}")


@holds(details_are_the_contracts, announcements_are_published)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


def _only(items: list[Any]) -> Any:
    [item] = items
    return item


def _detail(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda state: change(_only(state["Parameters"]["Entries"])["Detail"])


@catches(
    Broken(
        details_are_the_contracts,
        "agent_publish",
        "PublishRecords/PublishError",
        _detail(lambda d: d.pop("executionArn.$")),
    ),
    Broken(
        details_are_the_contracts,
        "agent_publish",
        "PublishRecords/PublishUpdate",
        _detail(lambda d: d.update({"goal.$": "$.dynamodb.NewImage.error.S"})),
    ),
    Broken(
        details_are_the_contracts,
        "agent_publish",
        "PublishRecords/PublishUpdate",
        _detail(lambda d: d.update({"step.$": "$.dynamodb.NewImage.step.N"})),
    ),
    Broken(
        details_are_the_contracts,
        "agent_watch",
        "LookAfterAgents/SendToRecovery",
        _detail(lambda d: d.update({"executionArn.$": "$.agent.step"})),
    ),
    Broken(
        details_are_the_contracts,
        "agent_publish",
        "PublishRecords/PublishUpdate",
        _detail(lambda d: d.update({"children.$": "States.StringToJson($.dynamodb.NewImage.children.S)"})),
    ),
    Broken(
        details_are_the_contracts,
        "agent_turn",
        "StartChildren/StartChild",
        _detail(lambda d: d["parent"].pop("agentId.$") and d["parent"].update({"id.$": "$.parent"})),
    ),
    Broken(
        details_are_the_contracts,
        "agent_watch",
        "LookAfterAgents/ExpireApproval",
        _detail(lambda d: d.update(decision="EXPIRED")),
    ),
    Broken(
        details_are_the_contracts,
        "agent_notify",
        "CancelChildren/CancelChild",
        _detail(lambda d: d.pop("agentId.$")),
    ),
    Broken(
        announcements_are_published,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["Parameters"].update(UpdateExpression="SET announce = :planning"),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
