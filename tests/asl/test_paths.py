"""Every path that a machine reads is present on every way to that state."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.model import StructureShape
from pydantic import BaseModel

from tests.asl import template
from tests.asl.dynamodb import JOURNAL, STATE, Request, created, writes
from tests.asl.services import called
from tests.asl.shapes import NOTHING, Flow, Maybe, Shape, meet, of_model, of_value, record
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, picked, problem, without
from turnstile_agents import errors
from turnstile_agents.load_recovery.shapes import Situation
from turnstile_agents.load_watch.load import Watch
from turnstile_agents.record import CallResult, Decision
from turnstile_agents.turn import Reading, Turn
from turnstile_cli.machines.definition import Machine, State

GIVES: dict[str, type[BaseModel]] = {
    "${LoadTurnArn}": Turn,
    "${ReadReplyArn}": Reading,
    "${LoadRecoveryArn}": Situation,
    "${LoadWatchArn}": Watch,
}
"""The output model of each function. Any other function is a tool, and its answer is unknown."""
REGISTERED = {
    '{"S": "LATEST"}': {"agentId": "S", "record": "S", "version": "N", "definition": "S", "registeredAt": "S"}
}
"""The attributes of items that no machine creates."""
REMOVED = {name for machine in MACHINES.values() for write in writes(machine) for name in write.removed}
ATTRIBUTES = REGISTERED | {
    kind: {name: type_ for name, type_ in item.items() if name not in REMOVED}
    for kind, item in created(MACHINES.values()).items()
}
"""The attributes, with types, that every item of a kind always has."""
SOMETIMES: dict[str, dict[str, type[BaseModel]]] = {JOURNAL: {"decision": Decision}}
"""The attributes that only some items of a kind have: JSON of a model, as text."""
ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
"""The fields of every event from EventBridge."""


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
    """Return the execution's input: an event that the rule lets pass, a schedule's event, or the outbox pipe's."""
    envelope = record(dict.fromkeys(ENVELOPE, NOTHING))
    if template.is_scheduled(machine.name):
        return envelope
    if patterns := template.event_patterns(machine.name):
        return envelope.put(("detail",), meet([_demanded(pattern.get("detail", {})) for pattern in patterns]))
    # Only STATE is ever announced, and only then does it have this attribute.
    state = Maybe(_stored(ATTRIBUTES[STATE] | {"announce": "S"}), proof="announce")
    change = Shape({"Keys": _stored({"agentId": "S", "record": "S"})}, maybe={"NewImage": state})
    return Shape(items=Shape({"eventID": NOTHING, "dynamodb": change}))


def _demanded(pattern: dict[str, Any]) -> Shape:
    """Return the fields that an event has if it matches a pattern."""
    return Shape(
        {
            name: _demanded(values) if isinstance(values, dict) else NOTHING
            for name, values in pattern.items()
            if {"exists": False} not in values
        }
    )


def _result(task: State) -> Shape:
    """Return the result of a Task. A machine may read no other fields of it."""
    parameters = task.fields.get("Parameters", {})
    match called(task).operation.name:
        case "Invoke":
            return Shape({"Payload": of_model(GIVES.get(parameters.get("FunctionName")))})
        case "DescribeExecution":
            return Shape({"Status": NOTHING})
        case "GetItem":
            return Shape(maybe={"Item": Maybe(_item(Request(task, "Get", parameters)))})
        case "UpdateItem" if parameters.get("ReturnValues") == "ALL_NEW":
            return Shape({"Attributes": _item(Request(task, "Update", parameters))})
    return NOTHING


def _item(request: Request) -> Shape:
    """Return the shape of an existing item: all of its attributes, or the attributes that the request names."""
    attributes, models = ATTRIBUTES[request.record], SOMETIMES.get(request.record, {})
    if "ProjectionExpression" in request.fields:
        asked = {request.attribute(token) for token in request.tokens}
        attributes = {name: type_ for name, type_ in attributes.items() if name in asked}
        models = {name: model for name, model in models.items() if name in asked}
    maybe = {name: Maybe(record({"S": Shape(text=of_model(model))})) for name, model in models.items()}
    return replace(_stored(attributes), maybe=maybe)


def _stored(attributes: dict[str, str]) -> Shape:
    return Shape({name: record({type_: NOTHING}) for name, type_ in attributes.items()})


def _error(names: list[str]) -> Shape:
    """Return the value that a Catch puts. The cause of a function's exception is JSON."""
    raised = all(hasattr(errors, name) for name in names)
    cause = of_value({"errorType": "", "errorMessage": ""}) if raised else None
    return record({"Error": NOTHING, "Cause": Shape(text=cause)})


@holds(paths_are_proven, outcomes_are_call_results)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize(
    ("machine", "task", "member"),
    [
        ("agent_turn", "LoadTurn", "Payload"),
        ("agent_turn", "ReadClaim", "Item"),
        ("agent_turn", "ClaimTurn", "Attributes"),
        ("agent_recovery", "AskOwner", "Status"),
    ],
)
def test_what_is_read_of_a_result_exists_in_the_api(machine: str, task: str, member: str) -> None:
    state = next(state for state in MACHINES[machine].states() if state.path == task)
    shape = called(state).operation.output_shape
    assert isinstance(shape, StructureShape)
    assert member in {name[0].upper() + name[1:] for name in shape.members}


def _read(name: str, path: str, *way: str) -> Callable[[dict[str, Any]], object]:
    """Return a change that makes a state read a path, in its Parameters or at another place in it."""

    def change(state: dict[str, Any]) -> None:
        picked(state, *(way or ("Parameters",)))[name] = path

    return change


THE_EVENT = (
    Broken(paths_are_proven, "agent_turn", "AgentUnknown", lambda s: s.update(CausePath="$.detail.status")),
    Broken(paths_are_proven, "agent_recovery", "ReadDeath", _read("step.$", "$.detail.step")),
    Broken(
        paths_are_proven,
        "agent_redeliver",
        "RouteAttempt",
        lambda s: s.update(Default="CountAttempt"),
        named="CountAttempt",
    ),
    Broken(paths_are_proven, "agent_start", "FillDefaults", _read("goal.$", "$.detail.goal")),
    Broken(paths_are_proven, "agent_start", "FillDefaults", _read("agentId.$", "$.eventId")),
    Broken(
        paths_are_proven,
        "agent_start",
        "RouteRequest",
        lambda s: without(
            s, "Choices", "Next=PromptMissing", "Not", "And", "Variable=$.detail.prompt & IsPresent=True"
        ),
    ),
    Broken(
        paths_are_proven,
        "agent_start",
        "CheckParent",
        lambda s: without(
            s, "Choices", "Next=ReadDecision", "And", "Variable=$.detail.parent.agentId & IsPresent=True"
        ),
    ),
    Broken(
        paths_are_proven, "agent_start", "RouteEntry", lambda s: s.update(Default="ReadChildren"), named="ReadChildren"
    ),
    Broken(paths_are_proven, "agent_start", "FillChild", _read("a.$", "$.child.name")),
    Broken(paths_are_proven, "agent_input", "CheckText", lambda s: s.update(Default="KeepText"), named="KeepText"),
    Broken(
        paths_are_proven,
        "agent_input",
        "CheckDecision",
        lambda s: without(s, "Choices", "Next=KeepDecision", "And", "Variable=$.detail.approvalId & IsPresent=True"),
    ),
    Broken(
        paths_are_proven,
        "agent_input",
        "CheckChildEnd",
        lambda s: without(s, "Choices", "Next=ReadChild", "And", "Variable=$.detail.agentId & IsPresent=True"),
    ),
    Broken(paths_are_proven, "agent_notify", "NotifyApprover", _read("Subject.$", "$.detail.goal")),
)
THE_TABLE = (
    Broken(paths_are_proven, "agent_turn", "KeepClaim", _read("owner.$", "$.claim.Item.holder.S")),
    Broken(paths_are_proven, "agent_turn", "KeepClaim", _read("owner.$", "$.claim.Item.owner.N")),
    Broken(paths_are_proven, "agent_turn", "KeepClaim", _read("owner.$", "$.claim.Item.announce.S")),
    Broken(paths_are_proven, "agent_turn", "RouteClaim", lambda s: without(s, "Choices", "Next=AgentUnknown")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "RouteClaim",
        lambda s: picked(s, "Choices", "Next=AgentUnknown").update(Next="KeepClaim"),
        named="KeepClaim",
    ),
    Broken(
        paths_are_proven,
        "agent_turn",
        "RouteClaim",
        _read("Variable", "$.claim.Item.state.S", "Choices", "Next=AgentUnknown", "Not"),
    ),
    Broken(paths_are_proven, "agent_turn", "ClaimTurn", _read("owner.$", "$.Attributes.holder.S", "ResultSelector")),
    Broken(paths_are_proven, "agent_turn", "ClaimTurn", lambda s: s["Parameters"].pop("ReturnValues")),
    Broken(paths_are_proven, "agent_start", "CreateAgent", _read("a.$", "$.definition.Item.definition.S")),
    Broken(paths_are_proven, "agent_input", "RouteChild", lambda s: without(s, "Choices", "Next=ChildUnknown")),
    Broken(
        paths_are_proven,
        "agent_input",
        "RouteQuestion",
        lambda s: s.update(Default="OrderCancel"),
        named="AnswerQuestion",
    ),
    Broken(
        paths_are_proven,
        "agent_notify",
        "RouteAgent",
        lambda s: without(s, "Choices", "Variable=$.state.Item.status.S & IsPresent=True"),
    ),
    Broken(
        paths_are_proven,
        "agent_notify",
        "RouteAgent",
        _read("Variable", "$.state.Item.childs.S", "Choices", "Next=ListChildren", "And", "StringEquals=[]", "Not"),
    ),
    Broken(
        paths_are_proven,
        "agent_publish",
        "PublishRecords/RouteRecord",
        lambda s: without(s, "Choices", "Next=NothingToPublish"),
    ),
    Broken(
        paths_are_proven,
        "agent_publish",
        "PublishRecords/PublishUpdate",
        _read(
            "step.$", "$.dynamodb.NewImage.step.S", "Parameters", "Entries", "DetailType=AgentStateUpdated", "Detail"
        ),
    ),
)
WHAT_IS_CARRIED = (
    Broken(
        paths_are_proven, "agent_turn", "RouteAction", _read("Variable", "$.agent.used.x", "Choices", "Next=Misaligned")
    ),
    Broken(
        paths_are_proven,
        "agent_turn",
        "RouteAction",
        _read("NumericGreaterThanEqualsPath", "$.agent.limits.x", "Choices", "Next=Misaligned"),
    ),
    Broken(paths_are_proven, "agent_turn", "CheckpointDecision", _read("a.$", "States.Format('{}', $.step.last)")),
    Broken(paths_are_proven, "agent_turn", "CallTools", lambda s: s.update(ItemsPath="$.decision.toolCalls")),
    Broken(
        paths_are_proven, "agent_turn", "CallTools/CallReadTool", lambda s: s.update(TimeoutSecondsPath="$.timeout")
    ),
    Broken(paths_are_proven, "agent_turn", "CallTools/CallRejected", _read("message.$", "$.call.message")),
    Broken(paths_are_proven, "agent_turn", "PlanningFailed", _read("error.$", "$.error.Cause.trace")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "StartChildren/StartChild",
        _read("a.$", "$.child.name", "Parameters", "Entries", "DetailType=AgentRequested", "Detail"),
    ),
    Broken(paths_are_proven, "agent_input", "StoreInput", _read("a.$", "$.input.words")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "CallTools/RouteRefusal",
        lambda s: s.update(Default="UseAlternative"),
        named="RouteCall",
    ),
    Broken(
        paths_are_proven,
        "agent_turn",
        "CallTools/RouteRefusal",
        _read("Variable", "$.call.alternative.id", "Choices", "Next=UseAlternative"),
    ),
    Broken(paths_are_proven, "agent_turn", "CallTools/UseAlternative", lambda s: s.update(InputPath="$.call.other")),
    Broken(paths_are_proven, "agent_turn", "NextFallback", lambda s: s.update(InputPath="$.fallback.other")),
    Broken(
        paths_are_proven,
        "agent_turn",
        "RouteFallback",
        lambda s: s.update(Default="UseFallback"),
        named="UseFallback",
    ),
    Broken(paths_are_proven, "agent_recovery", "TryAgain", _read("text.$", "$.texts.again")),
    Broken(paths_are_proven, "agent_recovery", "WaitForCalls", lambda s: s.update(TimestampPath="$.callsEnd")),
    Broken(paths_are_proven, "agent_recovery", "SettleEffects/CallAgain", _read("a.$", "$.effect.arguments")),
    Broken(
        paths_are_proven,
        "agent_recovery",
        "Compensate",
        _read("missed.$", "States.ArrayContains($[*].done, false)", "ResultSelector"),
    ),
    Broken(paths_are_proven, "agent_recovery", "MarkWaiting", _read("a.$", "$$.Task.Token")),
    Broken(paths_are_proven, "agent_turn", "ClaimTurn", _read("a.$", "$$.Execution.Name")),
    Broken(paths_are_proven, "agent_turn", "ClaimTurn", _read("a.$", "$$.Execution.Id", "ResultSelector")),
)
WHAT_IS_LOST = (
    Broken(
        paths_are_proven,
        "agent_turn",
        "KeepClaim",
        lambda s: s["Parameters"].pop("claimedStep.$"),
        named="LoadTurn",
    ),
    Broken(
        paths_are_proven,
        "agent_turn",
        "CallTools",
        lambda s: s["ItemSelector"].pop("owner.$"),
        named="ReserveEffect",
    ),
    Broken(paths_are_proven, "agent_turn", "LoadTurn", lambda s: s.pop("OutputPath"), named="RouteEntry"),
    Broken(
        paths_are_proven,
        "agent_turn",
        "CheckpointResults",
        lambda s: s.pop("ResultPath"),
        named="LoadTurn",
    ),
    Broken(
        paths_are_proven,
        "agent_recovery",
        "CountReminder",
        lambda s: s["Parameters"].pop("reminderSeconds.$"),
        named="AskOperator",
    ),
    Broken(
        paths_are_proven,
        "agent_recovery",
        "Compensate/NotUndone",
        lambda s: s.update(Result={}),
        named="Compensate",
    ),
    Broken(paths_are_proven, "agent_turn", "HandOver", lambda s: s["Result"].pop("closesAs"), named="CloseTurn"),
    Broken(paths_are_proven, "agent_turn", "HandOver", lambda s: s["Result"].pop("waitsFor"), named="CloseTurn"),
    Broken(
        paths_are_proven,
        "agent_input",
        "KeepCancel",
        lambda s: s["Parameters"]["input"].pop("approvalId"),
        named="RouteInput",
    ),
    Broken(paths_are_proven, "agent_input", "LookAgain", lambda s: s["Parameters"].pop("input.$"), named="ReadAgent"),
    Broken(
        paths_are_proven,
        "agent_recovery",
        "LoadRecovery",
        lambda s: picked(s, "Catch", "ErrorEquals=LeaseLost").pop("ResultPath"),
        named="RecoveryLost",
    ),
    Broken(
        paths_are_proven,
        "agent_turn",
        "AskModel",
        lambda s: picked(s, "Catch", "ErrorEquals=States.DataLimitExceeded").pop("ResultPath"),
        named="PlanningFailed",
    ),
    Broken(outcomes_are_call_results, "agent_turn", "CallTools/CommitEffect", lambda s: s.pop("OutputPath")),
    Broken(outcomes_are_call_results, "agent_turn", "CallTools/EffectKnown", _read("status", "COMMITTED")),
)


@catches(*THE_EVENT, *THE_TABLE, *WHAT_IS_CARRIED, *WHAT_IS_LOST)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
