"""Names that must be the same elsewhere: errors, statuses, actions, detail-types, intrinsic functions."""

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, get_args

from tests.asl.dynamodb import ENTRY, Request, requests
from tests.asl.services import called, execution_statuses
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, picked, problem
from turnstile_agents import errors
from turnstile_agents.events import EVENTS, SOURCE
from turnstile_agents.failures import ERRORS
from turnstile_agents.journal import Entry
from turnstile_agents.load_recovery.shapes import Unsettled
from turnstile_agents.operator import OperatorDecision
from turnstile_agents.record import (
    FREE,
    Action,
    Call,
    EffectStatus,
    NextAction,
    Outcome,
    RecoveryAction,
    Status,
    Verdict,
)
from turnstile_agents.turn import Turn
from turnstile_cli.machines.definition import Machine, State

OURS = {name for name, value in vars(errors).items() if isinstance(value, type)}
LEFT_TO_ALL = {
    "TurnOutdated": "like any other error of ReadReply, it ends the turn; its kind is in failures.ERRORS",
    "RecordTooNew": "like any other error of LoadTurn, it ends the turn; its kind is in failures.ERRORS",
    "ToolOutcomeUnknown": "like any other error of a call that writes, it makes the call UNCERTAIN",
}
"""Errors of ours that no machine names, because States.ALL handles them correctly."""
OF_STEP_FUNCTIONS = {"States.ALL", "States.DataLimitExceeded", "States.IntrinsicFailure", "States.Timeout"}
OF_ANY_SDK = {"SdkClientException": "the service did not answer", "ThrottlingException": "any API may throttle"}
"""Errors of every SDK integration that its API's model does not name."""
OF_A_SERVICE = {
    "EventBridge": {"EventBridge.FailedEntry"},  # an entry was refused, although the request succeeded
    "Lambda": {
        # Step Functions' own names for a failure of the call or of the function's process.
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.Unknown",
        "Runtime.ExitError",
        "Runtime.OutOfMemory",
        "Sandbox.Failure",
        "Sandbox.Timedout",
    },
    "SNS": {"SNS.ThrottledException"},  # the API's model names it, but not for this operation
}
"""Errors of one service's integration that the API's model does not name."""
CANCEL = "CANCEL"
"""The answer that agent_input gives to an operator's question after a cancellation."""
INTRINSICS = {
    "States.Array",
    "States.ArrayContains",
    "States.ArrayGetItem",
    "States.ArrayLength",
    "States.ArrayPartition",
    "States.ArrayRange",
    "States.ArrayUnique",
    "States.Base64Decode",
    "States.Base64Encode",
    "States.Format",
    "States.Hash",
    "States.JsonMerge",
    "States.JsonToString",
    "States.MathAdd",
    "States.MathRandom",
    "States.StringSplit",
    "States.StringToJson",
    "States.UUID",
}
LITERALS: dict[str, set[str]] = {
    "status": {*Status},
    "closesAs": {*Status},
    "currentState": {*Status, ""},
    "nextAction": {*NextAction, FREE},
    "outcome": {*Outcome},
    "action": {*get_args(Action), *get_args(RecoveryAction)},
    "effect": {*get_args(Call.model_fields["effect"].annotation)},
    "entry": {*get_args(Turn.model_fields["entry"].annotation)},
    "onUnknown": {*get_args(Unsettled.model_fields["on_unknown"].annotation)},
    "order": {*OperatorDecision, "ASK", ""},
    "decision": {*Verdict, CANCEL},
    "who": {*get_args(Entry.model_fields["who"].annotation)},
    "announce": {*EVENTS},
    "DetailType": {*EVENTS},
    "$['detail-type']": {*EVENTS},
    "type": {*EVENTS},
    "Source": {SOURCE},
}
"""The values that a field of this name may hold, anywhere in a machine."""
LEDGER = {"status": {*EffectStatus}}
"""The values that it may hold in a ledger entry instead."""
EXECUTION = {"status": execution_statuses() | {"FORGOTTEN"}}
"""The values for an execution instead. FORGOTTEN is ours, for an execution that Step Functions has forgotten."""


def caught_errors_exist(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        handlers = [*state.fields.get("Retry", []), *state.fields.get("Catch", [])]
        for name in sorted({name for handler in handlers for name in handler["ErrorEquals"]} - _errors(state)):
            yield problem(machine, state, f"{name} is not an error of this state; see tests/asl/test_names.py")


def failures_have_a_name_and_a_cause(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        for name in ("Error", "Cause"):
            if state.type == "Fail" and not {name, f"{name}Path"} & state.fields.keys():
                yield problem(machine, state, f"add {name}: an operator must see what was wrong")


def compared_errors_exist(machine: Machine) -> Iterator[str]:
    caught = OURS.union(*(_errors(state) for state in machine.states()))
    recorded = {"", *caught, *(name for other in MACHINES.values() for name in _recorded(other))}
    for state in machine.states():
        for variable, value in _comparisons(state.fields.get("Choices", [])):
            field = re.sub(r"\.[SN]$", "", variable).rpartition(".")[2]
            known = {"Error": caught, "error": recorded}.get(field)
            if known and not any(fnmatchcase(name, value) for name in known):
                yield problem(machine, state, f"{value} is an error of no state{' here' if known is caught else ''}")


def intrinsic_functions_exist(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        own = {key: value for key, value in state.fields.items() if key not in ("ItemProcessor", "Branches")}
        for name in sorted(set(re.findall(r"States\.\w+(?=\()", str(own))) - INTRINSICS):
            yield problem(machine, state, f"there is no intrinsic function {name}")


def states_are_named_after_their_function(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        function = re.fullmatch(r"\$\{(\w+)Arn\}", str(task.fields.get("Parameters", {}).get("FunctionName")))
        if function and not task.name.startswith(function[1]):
            yield problem(machine, task, f"begin its name with {function[1]}, the function that it runs")


def literals_are_the_contracts(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        found = _comparisons(state.fields.get("Choices", []))
        place = state.fields.get("ResultPath") or ""
        for part in ("Parameters", "ItemSelector", "Result", "ResultSelector"):
            found += [(f"{place}.{name}", text) for name, text in _constants(state.fields.get(part), "")]
        for path, text in found:
            meant = [allowed for start, allowed in _otherwise(machine) if path.startswith(f"{start}.")]
            yield from _complaint(machine, state, re.sub(r"\.[SN]$", "", path), text, *meant)
    for request in requests(machine):
        for name, value in [*request.written.items(), *request.compared]:
            if "S" in value:
                meant = [LEDGER] if request.record == ENTRY else []
                yield from _complaint(machine, request.state, name, value["S"], *meant)


def _otherwise(machine: Machine) -> Iterator[tuple[str, dict[str, set[str]]]]:
    """Yield the places in the data where a name has another meaning than in LITERALS, with its values there."""
    for task in machine.tasks():
        operation, place = called(task).operation.name, str(task.fields.get("ResultPath"))
        if operation == "GetItem" and Request(task, "Get", task.fields["Parameters"]).record == ENTRY:
            yield place, LEDGER
        if operation == "DescribeExecution":
            yield place, EXECUTION


def _complaint(machine: Machine, state: State, path: str, value: str, *meant: dict[str, set[str]]) -> Iterator[str]:
    name = path.rpartition(".")[2]
    allowed = LITERALS.get(name, {value})
    for other in meant:
        allowed = other.get(name, allowed)
    if value not in allowed and not any(fnmatchcase(each, value) for each in allowed):
        yield problem(machine, state, f"{name} is never {value!r}; it can be {', '.join(sorted(allowed))}")


def _recorded(machine: Machine) -> Iterator[str]:
    """Yield the errors that a machine may record or end with."""
    for state in machine.states():
        yield from _errors(state)
        yield from (text for name, text in _constants(state.fields.get("Parameters"), "") if name == "error")
        if "Error" in state.fields:
            yield state.fields["Error"]


def _comparisons(rules: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return each path that a rule compares with a text or a pattern, with that text."""
    found = []
    for rule in rules:
        found += [(rule["Variable"], rule[how]) for how in ("StringEquals", "StringMatches") if how in rule]
        found += _comparisons([*rule.get("And", []), *rule.get("Or", []), *([rule["Not"]] if "Not" in rule else [])])
    return found


def _constants(value: Any, name: str) -> list[tuple[str, str]]:
    """Return the fields that hold a text, with that text."""
    if isinstance(value, str):
        return [] if name.endswith(".$") else [(name, value)]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _constants(item, key)]
    return [found for item in value for found in _constants(item, name)] if isinstance(value, list) else []


def _errors(state: State) -> set[str]:
    """Return the errors that a state may fail with."""
    if state.type != "Task":
        return OF_STEP_FUNCTIONS
    call = called(state)
    names = OF_STEP_FUNCTIONS | call.errors | call.unmodelled | {f"{call.prefix}.{name}" for name in OF_ANY_SDK}
    return names | OF_A_SERVICE.get(call.prefix, set()) | (OURS if call.prefix == "Lambda" else set())


@holds(
    caught_errors_exist,
    compared_errors_exist,
    failures_have_a_name_and_a_cause,
    intrinsic_functions_exist,
    literals_are_the_contracts,
    states_are_named_after_their_function,
)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


def test_every_error_of_ours_is_named_in_a_machine() -> None:
    named = {
        name
        for machine in MACHINES.values()
        for state in machine.states()
        for handler in [*state.fields.get("Retry", []), *state.fields.get("Catch", [])]
        for name in handler["ErrorEquals"]
    }
    assert named & OURS == OURS - LEFT_TO_ALL.keys(), "handle it in a machine, or say in LEFT_TO_ALL why not"


def test_every_error_that_has_a_kind_exists() -> None:
    known = OURS.union(*(_errors(state) for machine in MACHINES.values() for state in machine.states()))
    known |= {name for machine in MACHINES.values() for name in _recorded(machine)}
    names = [name for several in ERRORS.values() for name in several]
    assert [name for name in names if not any(fnmatchcase(each, name) for each in known)] == []


def _set(name: str, value: Any, *way: str) -> Callable[[dict[str, Any]], object]:
    """Return a change that puts a value somewhere in a state."""

    def change(state: dict[str, Any]) -> None:
        place = picked(state, *way)
        assert name in place
        place[name] = value

    return change


@catches(
    Broken(
        caught_errors_exist,
        "agent_turn",
        "LoadTurn",
        _set("ErrorEquals", ["LeaseGone"], "Catch", "ErrorEquals=LeaseLost"),
    ),
    Broken(
        caught_errors_exist,
        "agent_turn",
        "ReadClaim",
        _set("ErrorEquals", ["LeaseLost"], "Retry", "ErrorEquals=DynamoDb.InternalServerErrorException"),
    ),
    Broken(
        caught_errors_exist,
        "agent_turn",
        "CloseTurn",
        _set(
            "ErrorEquals",
            ["DynamoDB.TransactionCanceledException"],
            "Catch",
            "ErrorEquals=DynamoDb.TransactionCanceledException",
        ),
    ),
    Broken(
        caught_errors_exist,
        "agent_turn",
        "RecordFailure",
        _set(
            "ErrorEquals",
            ["DynamoDb.ConditionalCheckFailedException"],
            "Catch",
            "ErrorEquals=DynamoDb.TransactionCanceledException",
        ),
    ),
    Broken(
        caught_errors_exist,
        "agent_turn",
        "AskModel",
        _set("ErrorEquals", ["BedrockRuntime.Throttled"], "Retry", "ErrorEquals=BedrockRuntime.ThrottlingException"),
    ),
    Broken(
        compared_errors_exist,
        "agent_turn",
        "RouteClaim",
        _set("StringEquals", "ConditionFailed", "Choices", "Next=CompareSteps"),
    ),
    Broken(
        compared_errors_exist,
        "agent_turn",
        "CallTools/RouteRefusal",
        _set("StringEquals", "Refused", "Choices", "Next=CallRejected"),
    ),
    Broken(
        compared_errors_exist,
        "agent_recovery",
        "RouteTooLarge",
        _set("StringEquals", "ContextTooBig", "Choices", "Next=RouteStanding", "And", "StringEquals=ContextTooLarge"),
    ),
    Broken(
        compared_errors_exist,
        "agent_redeliver",
        "RouteDeath",
        _set(
            "StringEquals",
            "AgentOver",
            "Choices",
            "Next=EventAnswered",
            "And",
            "StringEquals=AgentExists",
            "Or",
            "StringEquals=AgentFinished",
        ),
    ),
    Broken(failures_have_a_name_and_a_cause, "agent_turn", "TurnLost", lambda s: s.pop("Cause")),
    Broken(failures_have_a_name_and_a_cause, "agent_turn", "TurnFailed", lambda s: s.pop("ErrorPath")),
    Broken(
        intrinsic_functions_exist,
        "agent_turn",
        "KeepClaim",
        _set("owner.$", "States.Format('{}', States.Upper($.claim))", "Parameters"),
    ),
    Broken(
        states_are_named_after_their_function,
        "agent_turn",
        "ReadReply",
        _set("FunctionName", "${LoadTurnArn}", "Parameters"),
    ),
    Broken(literals_are_the_contracts, "agent_turn", "GivenUp", _set("status", "GIVEN_UP", "Parameters", "failure")),
    Broken(literals_are_the_contracts, "agent_turn", "HandOver", _set("nextAction", "PLAN", "Result")),
    Broken(
        literals_are_the_contracts, "agent_turn", "RouteEntry", _set("StringEquals", "ASK", "Choices", "Next=AskModel")
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "RouteAction",
        _set("StringEquals", "DONE", "Choices", "StringEquals=ASK_USER", "Or", "StringEquals=COMPLETE"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "CallTools/RouteCall",
        _set("StringEquals", "WRITE", "Choices", "Next=ReserveEffect"),
    ),
    Broken(
        literals_are_the_contracts, "agent_turn", "CallTools/CallRejected", _set("outcome", "REFUSED", "Parameters")
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "CallTools/RouteEffect",
        _set("StringEquals", "COMPLETED", "Choices", "Next=EffectKnown"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "RouteEntry",
        _set("StringMatches", "ASK*ALL", "Choices", "Next=HandOver", "And", "StringMatches=ASK_MODEL*"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_input",
        "RouteKind",
        _set("StringEquals", "AgentDecided", "Choices", "Next=CheckDecision"),
    ),
    Broken(literals_are_the_contracts, "agent_input", "KeepText", _set("type", "Words", "Parameters", "input")),
    Broken(
        literals_are_the_contracts,
        "agent_input",
        "CheckDecision",
        _set(
            "StringEquals",
            "ACCEPT",
            "Choices",
            "Next=KeepDecision",
            "And",
            "StringEquals=EXPIRE",
            "Or",
            "StringEquals=APPROVE",
        ),
    ),
    Broken(literals_are_the_contracts, "agent_input", "OrderCancel", _set("decision", "STOP", "Parameters")),
    Broken(literals_are_the_contracts, "agent_recovery", "TryAgain", _set("action", "AGAIN", "Parameters")),
    Broken(
        literals_are_the_contracts,
        "agent_recovery",
        "RouteOwnerStatus",
        _set("StringEquals", "ALIVE", "Choices", "Next=NothingToDo"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_recovery",
        "RouteUnsettled",
        _set("StringEquals", "END", "Choices", "Next=Aborted"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_recovery",
        "SettleEffects/RouteUnknown",
        _set("StringEquals", "guess", "Choices", "Next=ClaimEffect", "And", "StringEquals=retry"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_recovery",
        "Compensate/FailUndo",
        _set(
            ":failed",
            {"S": "REJECTED"},
            *("Parameters", "TransactItems", "record=$.undo.undoKey", "Update", "ExpressionAttributeValues"),
        ),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_recovery",
        "SettleEffects/SettleCommitted",
        _set(":committed", {"S": "COMPLETED"}, "Parameters", "ExpressionAttributeValues"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "CallTools/FailEffect",
        _set(":failed", {"S": "REJECTED"}, "Parameters", "ExpressionAttributeValues"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "ClaimTurn",
        _set(":planning", {"S": "PLANS"}, "Parameters", "ExpressionAttributeValues"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "ClaimTurn",
        _set(":none", {"S": ""}, "Parameters", "ExpressionAttributeValues"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_turn",
        "RecordFailure",
        _set(
            ":announce",
            {"S": "AgentFailed"},
            "Parameters",
            "TransactItems",
            "record=STATE",
            "Update",
            "ExpressionAttributeValues",
        ),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_start",
        "CreateAgent",
        _set("status", {"S": "NEW"}, "Parameters", "TransactItems", "record=STATE", "Put", "Item"),
    ),
    Broken(
        literals_are_the_contracts,
        "agent_publish",
        "PublishRecords/PublishError",
        _set("DetailType", "AgentFailed", "Parameters", "Entries", "DetailType=AgentError"),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
