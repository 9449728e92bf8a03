"""Every path that a machine reads is there, whichever way the execution came."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.model import StructureShape

from agent import errors
from agent.record import CallResult
from agent.turn import Reading, Turn
from tests.asl import template
from tests.asl.dynamodb import STATE, Request, created, writes
from tests.asl.services import called
from tests.asl.shapes import NOTHING, Flow, Maybe, Shape, of_model, of_value, record
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from workflows.machines import Machine, State

GIVES = {"${LoadTurnArn}": Turn, "${ReadReplyArn}": Reading}
"""What each function answers. Any other is a tool, and nothing is known of its answer."""
REGISTERED = {'{"S": "LATEST"}': {"agentId": "S", "record": "S", "version": "N", "definition": "S", "registeredAt": "S"}}
"""The attributes of items that no machine creates."""
REMOVED = {name for machine in MACHINES.values() for write in writes(machine) for name in write.removed}
ATTRIBUTES = REGISTERED | {
    kind: {name: type_ for name, type_ in item.items() if name not in REMOVED}
    for kind, item in created(MACHINES.values()).items()
}
"""What every item of a kind has, at any time, with types."""
ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
"""What every event from EventBridge has."""


def paths_are_proven(machine: Machine) -> Iterator[str]:
    for (_, text), state in _follow(machine).problems.items():
        yield problem(machine, state, text)


def outcomes_are_call_results(machine: Machine) -> Iterator[str]:
    wanted = of_model(CallResult).fields.keys()
    ends = _follow(machine).ends
    for state in machine.states():
        if state.path.startswith("CallTools/") and state.path in ends:
            found = ends[state.path].fields.keys()
            if "outcome" not in found or found - wanted:
                yield problem(machine, state, f"give an outcome and nothing but {sorted(wanted)}, not {sorted(found)}")


def _follow(machine: Machine) -> Flow:
    flow = Flow(machine, _result, _error)
    flow.run(_start(machine))
    return flow


def _start(machine: Machine) -> Shape:
    """The execution's input: an event that the rule lets pass, or what the outbox pipe delivers."""
    pattern = template.event_pattern(machine.name)
    if pattern:
        return Shape(dict.fromkeys(ENVELOPE, NOTHING)).put(("detail",), _demanded(pattern.get("detail", {})))
    # Only STATE is ever announced, and then it has this attribute for once.
    state = Maybe(_stored(ATTRIBUTES[STATE] | {"announce": "S"}), proof="announce")
    return Shape(items=record(dynamodb=Shape(maybe={"NewImage": state})))


def _demanded(pattern: dict[str, Any]) -> Shape:
    """What an event has that matches a pattern."""
    return Shape(
        {
            name: _demanded(values) if isinstance(values, dict) else NOTHING
            for name, values in pattern.items()
            if {"exists": False} not in values
        }
    )


def _result(task: State) -> Shape:
    """What a Task gives; nothing of it may be read that is not here."""
    parameters = task.fields.get("Parameters", {})
    match called(task).operation.name:
        case "Invoke":
            return record(Payload=of_model(GIVES.get(parameters.get("FunctionName"))))
        case "GetItem":
            return Shape(maybe={"Item": Maybe(_item(Request(task, "Get", parameters)))})
        case "UpdateItem" if parameters.get("ReturnValues") == "ALL_NEW":
            return record(Attributes=_item(Request(task, "Update", parameters)))
    return NOTHING


def _item(request: Request) -> Shape:
    """An item that exists: all of its attributes, or those that the request asks for."""
    attributes = ATTRIBUTES[request.record]
    if "ProjectionExpression" in request.fields:
        asked = {request.attribute(token) for token in request.tokens}
        attributes = {name: type_ for name, type_ in attributes.items() if name in asked}
    return _stored(attributes)


def _stored(attributes: dict[str, str]) -> Shape:
    return Shape({name: record(**{type_: NOTHING}) for name, type_ in attributes.items()})


def _error(task: State, names: list[str]) -> Shape:
    """What a Catch puts. The cause of an exception of a function is JSON."""
    raised = all(hasattr(errors, name) for name in names)
    return record(Error=NOTHING, Cause=Shape(text=of_value({"errorType": "", "errorMessage": ""}) if raised else None))


@holds(paths_are_proven, outcomes_are_call_results)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize(("machine", "task", "member"), [
    ("agent_turn", "LoadTurn", "Payload"),
    ("agent_turn", "ReadClaim", "Item"),
    ("agent_turn", "ClaimTurn", "Attributes"),
])
def test_what_is_read_of_a_result_exists_in_the_api(machine: str, task: str, member: str) -> None:
    state = next(state for state in MACHINES[machine].states() if state.path == task)
    shape = called(state).operation.output_shape
    assert isinstance(shape, StructureShape)
    assert member in shape.members


def _read(name: str, path: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state["Parameters"].update({f"{name}.$": path})


@catches(
    # the event
    Broken(paths_are_proven, "agent_turn", "ClaimTurn", lambda s: s.update(InputPath="$.detail.status")),
    Broken(paths_are_proven, "agent_turn", "AgentUnknown", lambda s: s.update(CausePath="$.detail.text")),
    Broken(paths_are_proven, "agent_start", "FillDefaults", _read("goal", "$.detail.goal")),
    Broken(paths_are_proven, "agent_start", "FillDefaults", _read("agentId", "$.eventId")),
    Broken(paths_are_proven, "agent_start", "CheckPrompt", lambda s: s["Choices"][0]["And"].pop(0)),
    Broken(paths_are_proven, "agent_input", "CheckInput", lambda s: s.update(Default="ReadAgent")),
    # the table
    Broken(paths_are_proven, "agent_turn", "KeepClaim", _read("owner", "$.claim.Item.holder.S")),
    Broken(paths_are_proven, "agent_turn", "KeepClaim", _read("owner", "$.claim.Item.owner.N")),
    Broken(paths_are_proven, "agent_turn", "KeepClaim", _read("owner", "$.claim.Item.announce.S")),
    Broken(paths_are_proven, "agent_turn", "RouteClaim", lambda s: s["Choices"].pop(0)),
    Broken(paths_are_proven, "agent_turn", "RouteClaim", lambda s: s["Choices"][0].update(Next="KeepClaim")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "RouteClaim",
        lambda s: s["Choices"][0]["Not"].update(Variable="$.claim.Item.state.S"),
    ),
    Broken(
        paths_are_proven,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["ResultSelector"].update({"owner.$": "$.Attributes.holder.S"}),
    ),
    Broken(paths_are_proven, "agent_turn", "ClaimTurn", lambda s: s["Parameters"].pop("ReturnValues")),
    Broken(
        paths_are_proven,
        "agent_start",
        "CreateAgent",
        lambda s: s["Parameters"].update({"ClientRequestToken.$": "$.definition.Item.definition.S"}),
    ),
    Broken(paths_are_proven, "agent_publish", "PublishRecords/RouteRecord", lambda s: s["Choices"].pop(0)),
    Broken(
        paths_are_proven,
        "agent_publish",
        "PublishRecords/PublishUpdate",
        lambda s: s["Parameters"]["Entries"][0]["Detail"].update({"step.$": "$.dynamodb.NewImage.step.S"}),
    ),
    # what the machine carries
    Broken(paths_are_proven, "agent_turn", "RouteAction", lambda s: s["Choices"][2].update(Variable="$.agent.used.bad")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "RouteAction",
        lambda s: s["Choices"][2].update(NumericGreaterThanEqualsPath="$.agent.limits.wrong"),
    ),
    Broken(paths_are_proven, "agent_turn", "CallTools", lambda s: s.update(ItemsPath="$.decision.toolCalls")),
    Broken(paths_are_proven, "agent_turn", "CallTools/CallReadTool", lambda s: s.update(TimeoutSecondsPath="$.timeout")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "CallTools/CallRejected",
        _read("message", "$.call.message"),
    ),
    Broken(paths_are_proven, "agent_turn", "CallTools", lambda s: s["ItemSelector"].pop("owner.$")),
    # what it forgets to carry
    Broken(paths_are_proven, "agent_turn", "LoadTurn", _forgotten_by("KeepClaim", "Parameters", "claimedStep.$")),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
