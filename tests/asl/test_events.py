"""What the machines put on the bus is what the contract promises."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from agent.events import EVENTS
from agent.record import Status
from load_watch.load import Stale
from tests.asl.dynamodb import STATE, writes
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from workflows.machines import Machine

SAMPLE = {
    "agentId": "agent-1",
    "step": "7",
    "status": "FAILED",
    "nextAction": "PLANNING",
    "error": "States.Timeout",
    "errorMessage": "Nobody answered.",
    "currentState": "PLANNING",
    "lastUpdatedBy": "arn:aws:states:us-east-1:000000000000:execution:turnstile-AgentTurn:1",
}
"""STATE, as the table's stream has it: every value is a text."""
STALE = Stale(
    agent_id="agent-1",
    step=7,
    status=Status.PLANNING,
    next_action="NONE",
    owner=SAMPLE["lastUpdatedBy"],
    error="",
    error_message="",
).dump()
CARRIED: dict[str, dict[str, Any]] = {"agent": STALE, "failure": {"error": "TurnDied", "message": "It ended."}}
"""What agent_watch carries of an agent."""


def details_are_the_contracts(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        for entry in task.fields.get("Parameters", {}).get("Entries", []):
            detail = json.dumps(_filled(entry["Detail"]))
            try:
                EVENTS[entry["DetailType"]].model_validate_json(detail, strict=True)
            except ValidationError as error:
                for wrong in error.errors():
                    place = ".".join(map(str, wrong["loc"]))
                    yield problem(
                        machine, task, f"{entry['DetailType']} in functions/agent/events.py: {place}: {wrong['msg']}"
                    )


def announcements_are_published(machine: Machine) -> Iterator[str]:
    published = {
        entry["DetailType"]
        for task in MACHINES["agent_publish"].tasks()
        for entry in task.fields["Parameters"]["Entries"]
    }
    for write in writes(machine):
        if write.record == STATE and "announce" in write.written:
            announced = next(iter(write.written["announce"].values()))
            if announced not in published:
                yield problem(machine, write.state, f"agent_publish does not publish {announced}")


def _filled(detail: dict[str, Any]) -> dict[str, Any]:
    """The detail that Step Functions makes for the samples."""
    filled = {}
    for key, value in detail.items():
        if carried := re.fullmatch(r"\$\.(agent|failure)\.(\w+)", value):
            filled[key.removesuffix(".$")] = CARRIED[carried[1]][carried[2]]
            continue
        path = re.fullmatch(r"(States\.StringToJson\()?\$\.dynamodb\.NewImage\.(\w+)\.[SN]\)?", value)
        assert path, f"{value}: teach tests/asl/test_events.py how it is evaluated"
        text = SAMPLE[path[2]]
        filled[key.removesuffix(".$")] = json.loads(text) if path[1] else text
    return filled


@holds(details_are_the_contracts, announcements_are_published)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


def _detail(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda state: change(state["Parameters"]["Entries"][0]["Detail"])


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
        announcements_are_published,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["Parameters"].update(UpdateExpression="SET announce = :planning"),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
