"""Names that must be the same elsewhere: errors, statuses, actions, detail-types, intrinsic functions."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from agent import errors
from agent.events import EVENTS, SOURCE
from agent.record import FREE, Action, Call, EffectStatus, NextAction, Outcome, Status
from agent.turn import Turn
from tests.asl.dynamodb import STATE, requests
from tests.asl.services import called
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from workflows.machines import Machine, State

OURS = {name for name, value in vars(errors).items() if isinstance(value, type)}
LEFT_TO_ALL = {"ToolOutcomeUnknown": "like any other error of a call that writes, it makes the call UNCERTAIN"}
"""Our errors that no machine names, because States.ALL does what is right for them."""
OF_STEP_FUNCTIONS = {"States.ALL", "States.Timeout"}
OF_ANY_SDK = {"SdkClientException": "no answer of the service came", "ThrottlingException": "any API may throttle"}
"""Errors of every SDK integration that its API's model does not have."""
OF_A_SERVICE = {
    "EventBridge": {"EventBridge.FailedEntry"},  # an entry was refused, in an answer that is none
    "Lambda": {
        # Step Functions' own names for what befell the call, or the function's process.
        "Lambda.AWSLambdaException",
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.Unknown",
        "Runtime.ExitError",
        "Sandbox.Timedout",
    },
}
"""Errors of optimized integrations that the API's model does not have."""
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
    "action": {*get_args(Action)},
    "effect": {*get_args(Call.model_fields["effect"].annotation)},
    "entry": {*get_args(Turn.model_fields["entry"].annotation)},
    "announce": {*EVENTS},
    "DetailType": {*EVENTS},
    "Source": {SOURCE},
    "who": {"USER", "MODEL", "TOOLS"},
}
"""What a field of this name may hold, wherever it stands."""
LEDGER = {"status": {*EffectStatus}}
"""What it may hold instead in a ledger entry."""


def caught_errors_exist(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        handlers = [*task.fields.get("Retry", []), *task.fields.get("Catch", [])]
        for name in sorted({name for handler in handlers for name in handler["ErrorEquals"]} - _errors(task)):
            yield problem(machine, task, f"{name} is no error of this task")


def compared_errors_exist(machine: Machine) -> Iterator[str]:
    known = OURS.union(*(_errors(task) for task in machine.tasks()))
    for state in machine.states():
        for variable, value in _comparisons(state.fields.get("Choices", [])):
            if variable.endswith(".Error") and value not in known:
                yield problem(machine, state, f"{value} is no error of any task here")


def intrinsic_functions_exist(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        own = {key: value for key, value in state.fields.items() if key not in ("ItemProcessor", "Branches")}
        for name in sorted(set(re.findall(r"States\.\w+(?=\()", str(own))) - INTRINSICS):
            yield problem(machine, state, f"there is no intrinsic function {name}")


def literals_are_the_contracts(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        found = [*_constants(state.fields), *_comparisons(state.fields.get("Choices", []))]
        for path, value in found:
            name = re.sub(r"\.[SN]$", "", path).rpartition(".")[2]
            allowed = (LEDGER if path.startswith("$.effect.") else {}).get(name, LITERALS.get(name, {value}))
            if value not in allowed:
                yield problem(machine, state, f"{name} is never {value!r}; it can be {sorted(allowed)}")
    for request in requests(machine):
        in_ledger = request.kind != "Get" and request.record == '{"S.$": "$.call.key"}'
        for name, value in [*request.written.items(), *request.compared]:
            allowed = (LEDGER if in_ledger else {}).get(name, LITERALS.get(name))
            if allowed and "S" in value and value["S"] not in allowed:
                yield problem(machine, request.state, f"{name} is never {value['S']!r}; it can be {sorted(allowed)}")
