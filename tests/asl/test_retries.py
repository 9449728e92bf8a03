"""Retries: only errors that may pass by themselves, all of these errors, in bounds, and the same everywhere."""

import heapq
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asl.services import called, modelled_errors, unmodelled_errors
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_agents import errors
from turnstile_cli.machines.definition import Machine, State

TRANSIENT = {
    "DynamoDb": {
        "InternalServerErrorException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceededException",
        "SdkClientException",
        "ThrottlingException",
        "TransactionConflictException",
        "TransactionInProgressException",
    },
    "BedrockRuntime": {
        "InternalServerException",
        "ModelErrorException",
        "ModelNotReadyException",
        "ModelTimeoutException",
        "SdkClientException",
        "ServiceUnavailableException",
        "ThrottlingException",
    },
    "EventBridge": {"FailedEntry", "InternalException", "SdkClientException", "ThrottlingException"},
    "Sfn": {"ExecutionLimitExceededException", "SdkClientException"},
    "Sqs": {"KmsThrottledException", "RequestThrottledException", "SdkClientException"},
    "SNS": {"InternalErrorException", "SdkClientException", "ThrottledException"},
    "Lambda": {
        "ClientExecutionTimeoutException",
        "SdkClientException",
        "ServiceException",
        "TooManyRequestsException",
        "Unknown",
    },
}
"""The errors that the API of each service names, and that may pass by themselves."""
BESIDE_THE_API = {
    "DynamoDb.SdkClientException",
    "BedrockRuntime.SdkClientException",
    "EventBridge.FailedEntry",
    "EventBridge.SdkClientException",
    "EventBridge.ThrottlingException",
    "Sfn.SdkClientException",
    "Sqs.SdkClientException",
    "SNS.SdkClientException",
    "SNS.ThrottledException",
} | {f"Lambda.{name}" for name in TRANSIENT["Lambda"]}
"""The transient errors that Step Functions or its SDK makes, so that any operation may raise them."""
ENDED_EARLY = {"Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Failure", "Sandbox.Timedout"}
"""The errors of a function's process that ended without an answer."""
MAY_BE_TRANSIENT = {"DynamoDb.TransactionCanceledException"}
"""The cause is a conflict or a condition: a machine may retry it, or look first."""
NOTHING_HAPPENED = {"ToolUnavailable", "Lambda.TooManyRequestsException"}
"""The only errors after which a call that writes may be repeated."""
THROTTLED = "BedrockRuntime.ThrottlingException"
SCARCE = "DescribeExecution"
"""The operation with a far smaller quota than the others: it is retried for longer."""
QUOTAS = ((250, 10), (300, 15))
"""Its quotas: requests at once, and further requests per second; the second in us-east-1, us-west-2 and eu-west-1."""
STORM = 1000
"""Recoveries that ask about their agents' owners at once."""
READ_CALLS = {"CallReadTool", "LookUp"}
"""The tasks that call a tool which only reads; any other call of a tool may write."""


def transient_errors_are_retried(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        if missing := sorted(_worth_a_retry(task) - _retried(task)):
            yield problem(machine, task, f"add to Retry, since they may pass by themselves: {', '.join(missing)}")


def nothing_else_is_retried(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        allowed = _worth_a_retry(task)
        if not _may_write(task):
            allowed |= MAY_BE_TRANSIENT & called(task).errors
        if wrong := sorted(_retried(task) - allowed):
            yield problem(
                machine,
                task,
                f"remove from Retry: these errors are permanent, or the call may have acted: {', '.join(wrong)}",
            )


def retries_are_bounded(machine: Machine) -> Iterator[str]:
    for state, retrier in _retriers(machine):
        if not 1 <= retrier.get("MaxAttempts", 0) <= 10:
            yield problem(machine, state, "give the Retry MaxAttempts from 1 to 10")
        if retrier.get("BackoffRate", 1) <= 1 or not retrier.get("MaxDelaySeconds"):
            yield problem(machine, state, "give the Retry a BackoffRate above 1, and MaxDelaySeconds")
        if retrier.get("JitterStrategy") != "FULL":
            yield problem(
                machine, state, "give the Retry JitterStrategy FULL: else calls that failed together return together"
            )


def the_same_errors_are_retried_alike(machine: Machine) -> Iterator[str]:
    first: dict[tuple[str, ...], dict[str, Any]] = {}
    for other in MACHINES.values():
        for state, retrier in _retriers(other):
            first.setdefault(_alike(state, retrier), retrier)
    for state, retrier in _retriers(machine):
        if first.get(_alike(state, retrier), retrier) != retrier:
            yield problem(machine, state, "make this Retry the same as the others with these errors")
        if retrier["ErrorEquals"] != sorted(retrier["ErrorEquals"]):
            yield problem(machine, state, "sort the errors of this Retry, so that equal ones look equal")


def _alike(state: State, retrier: dict[str, Any]) -> tuple[str, ...]:
    operation = called(state).operation.name
    return (*retrier["ErrorEquals"], *([operation] if operation == SCARCE else []))


def each_error_has_one_retrier(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        names = [name for retrier in task.fields.get("Retry", []) for name in retrier["ErrorEquals"]]
        if hidden := sorted(name for name, count in Counter(names).items() if count > 1):
            yield problem(machine, task, f"name in one Retry only, since the first one is used: {', '.join(hidden)}")


def a_redriven_execution_calls_no_tool_that_writes(machine: Machine) -> Iterator[str]:
    fence = re.compile(r"States\.ArrayGetItem\(States\.Array\(\$\.\w+\.function\), \$\$\.Execution\.RedriveCount\)")
    for task in machine.tasks():
        if _may_write(task) and not fence.fullmatch(task.fields["Parameters"]["FunctionName.$"]):
            yield problem(
                machine, task, "name the function as item RedriveCount of a list of one: a redrive must not call it"
            )


def _worth_a_retry(task: State) -> set[str]:
    if _may_write(task):
        return NOTHING_HAPPENED
    call = called(task)
    worth = {f"{call.prefix}.{name}" for name in TRANSIENT[call.prefix]} & (call.errors | BESIDE_THE_API)
    # Step Functions gives every error that the API's model does not name, throttling too, the name of the service.
    worth |= call.unmodelled
    if call.prefix == "Lambda":
        worth |= ENDED_EARLY
    if _calls_tool(task):
        worth |= {"ToolUnavailable"}
    # A timeout of a task that waits for a person only means that no answer came.
    return worth if task.waits_for_token else worth | {"States.Timeout"}


def _calls_tool(task: State) -> bool:
    return "FunctionName.$" in task.fields.get("Parameters", {})


def _may_write(task: State) -> bool:
    return _calls_tool(task) and task.name not in READ_CALLS


def _retried(state: State) -> set[str]:
    return {name for retrier in state.fields.get("Retry", []) for name in retrier["ErrorEquals"]}


def _call(function: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state["Parameters"].update({"FunctionName.$": function})


def _retriers(machine: Machine) -> Iterator[tuple[State, dict[str, Any]]]:
    for state in machine.states():
        for retrier in state.fields.get("Retry", []):
            yield state, retrier


@holds(
    transient_errors_are_retried,
    nothing_else_is_retried,
    retries_are_bounded,
    the_same_errors_are_retried_alike,
    each_error_has_one_retrier,
    a_redriven_execution_calls_no_tool_that_writes,
)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize(
    ("machine", "path"), [("agent_recovery", "AskOwner"), ("agent_watch", "LookAfterAgents/AskOwner")]
)
@pytest.mark.parametrize(("burst", "per_second"), QUOTAS)
def test_in_a_storm_each_recovery_is_answered(machine: str, path: str, burst: int, per_second: int) -> None:
    [state] = [state for state in MACHINES[machine].tasks() if state.path == path]
    [retrier] = state.fields["Retry"]
    for seed in range(5):
        answered = _storm(retrier, burst, per_second, random.Random(seed))
        assert len(answered) == STORM
        assert max(answered) < 130, "change the comment beside the Retry"


def _storm(retrier: dict[str, Any], burst: int, per_second: int, chance: random.Random) -> list[float]:
    """Return the seconds after which each of `STORM` executions is answered; leave out those without an answer."""
    asking = [(chance.uniform(0, 2), 0) for _ in range(STORM)]
    heapq.heapify(asking)
    answered, tokens, last = [], float(burst), 0.0
    while asking:
        now, retries = heapq.heappop(asking)
        tokens, last = min(burst, tokens + (now - last) * per_second), now
        if tokens >= 1:
            tokens -= 1
            answered.append(now)
        elif retries < retrier["MaxAttempts"]:
            longest = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** retries
            heapq.heappush(asking, (now + chance.uniform(0, min(longest, retrier["MaxDelaySeconds"])), retries + 1))
    return answered


def test_a_name_for_unmodelled_errors_stands_for_no_modelled_one() -> None:
    assert unmodelled_errors() & modelled_errors() == set()


@pytest.mark.parametrize("error", [name for name in vars(errors) if name[0].isupper()])
def test_an_error_says_whether_it_is_retried(error: str) -> None:
    says_never = "Never retried" in getattr(errors, error).__doc__
    retried = any(error in _retried(task) for machine in MACHINES.values() for task in machine.tasks())
    assert says_never != retried, (
        f"functions/turnstile_agents/errors.py: {error}'s docstring and the machines disagree on its retry"
    )


def _without(error: str) -> Callable[[dict[str, Any]], object]:
    """Return a change that removes an error from the retrier that names it."""

    def change(state: dict[str, Any]) -> None:
        next(each["ErrorEquals"] for each in state["Retry"] if error in each["ErrorEquals"]).remove(error)

    return change


def _retry(state: dict[str, Any]) -> dict[str, Any]:
    """Return the only retrier of a state; for a state that asks the model, the one for throttling."""
    [retrier] = [each for each in state["Retry"] if len(state["Retry"]) == 1 or THROTTLED in each["ErrorEquals"]]
    found: dict[str, Any] = retrier
    return found


@catches(
    *(
        Broken(
            a_redriven_execution_calls_no_tool_that_writes,
            machine,
            path,
            _call(f"{item}.function"),
        )
        for machine, path, item in (
            ("agent_turn", "CallTools/CallWriteTool", "$.call"),
            ("agent_recovery", "SettleEffects/CallAgain", "$.effect"),
            ("agent_recovery", "Compensate/CallUndo", "$.undo"),
        )
    ),
    Broken(transient_errors_are_retried, "agent_turn", "AskModel", lambda s: s.pop("Retry")),
    Broken(
        transient_errors_are_retried,
        "agent_turn",
        "LoadTurn",
        lambda s: _retry(s)["ErrorEquals"].remove("Lambda.AWSLambdaException"),
    ),
    Broken(
        transient_errors_are_retried,
        "agent_start",
        "CreateAgent",
        lambda s: _retry(s)["ErrorEquals"].remove("DynamoDb.InternalServerErrorException"),
    ),
    *(
        Broken(transient_errors_are_retried, machine, path, _without(error))
        for machine, path, error in (
            ("agent_turn", "ClaimTurn", "DynamoDb.DynamoDbException"),
            ("agent_turn", "CheckpointDecision", "DynamoDb.DynamoDbException"),
            ("agent_turn", "AskModel", "BedrockRuntime.BedrockRuntimeException"),
            ("agent_turn", "StartChildren/StartChild", "EventBridge.EventBridgeException"),
            ("agent_publish", "PublishRecords/PublishError", "EventBridge.AmazonEventBridgeException"),
            ("agent_recovery", "NotifyOperator", "SNS.AmazonSNSException"),
            ("agent_watch", "LookAfterAgents/AskOwner", "Sfn.SfnException"),
            ("agent_recovery", "LoadRecovery", "Runtime.OutOfMemory"),
            ("agent_turn", "CallTools/CallReadTool", "Sandbox.Failure"),
        )
    ),
    *(
        Broken(
            nothing_else_is_retried,
            machine,
            path,
            lambda s: _retry(s)["ErrorEquals"].append("Runtime.OutOfMemory"),
        )
        for machine, path in (
            ("agent_turn", "CallTools/CallWriteTool"),
            ("agent_recovery", "SettleEffects/CallAgain"),
            ("agent_recovery", "Compensate/CallUndo"),
        )
    ),
    Broken(
        nothing_else_is_retried,
        "agent_turn",
        "ClaimTurn",
        lambda s: _retry(s)["ErrorEquals"].append("DynamoDb.ConditionalCheckFailedException"),
    ),
    Broken(nothing_else_is_retried, "agent_turn", "LoadTurn", lambda s: _retry(s)["ErrorEquals"].append("LeaseLost")),
    Broken(nothing_else_is_retried, "agent_turn", "AskModel", lambda s: _retry(s).update(ErrorEquals=["States.ALL"])),
    Broken(
        nothing_else_is_retried,
        "agent_turn",
        "AskModel",
        lambda s: _retry(s)["ErrorEquals"].append("BedrockRuntime.ValidationException"),
    ),
    Broken(
        nothing_else_is_retried,
        "agent_turn",
        "CallTools/CallWriteTool",
        lambda s: _retry(s)["ErrorEquals"].append("States.Timeout"),
    ),
    Broken(
        nothing_else_is_retried,
        "agent_turn",
        "CallTools/ReadEffect",
        lambda s: _retry(s)["ErrorEquals"].append("DynamoDb.TransactionCanceledException"),
    ),
    Broken(
        nothing_else_is_retried,
        "agent_recovery",
        "SettleEffects/CallAgain",
        lambda s: _retry(s)["ErrorEquals"].append("States.Timeout"),
    ),
    Broken(
        nothing_else_is_retried,
        "agent_recovery",
        "Compensate/CallUndo",
        lambda s: _retry(s)["ErrorEquals"].append("Lambda.Unknown"),
    ),
    Broken(
        nothing_else_is_retried,
        "agent_recovery",
        "AskOperator",
        lambda s: s.update(Retry=[{"ErrorEquals": ["States.Timeout"]}]),
    ),
    Broken(
        transient_errors_are_retried,
        "agent_redeliver",
        "DeliverAgain",
        lambda s: _retry(s)["ErrorEquals"].remove("Sfn.ExecutionLimitExceededException"),
    ),
    Broken(
        transient_errors_are_retried,
        "agent_input",
        "AnswerQuestion",
        lambda s: _retry(s)["ErrorEquals"].remove("Sfn.SfnException"),
    ),
    Broken(transient_errors_are_retried, "agent_turn", "StartChildren/StartChild", lambda s: s.pop("Retry")),
    Broken(
        transient_errors_are_retried,
        "agent_recovery",
        "NotifyOperator",
        lambda s: _retry(s)["ErrorEquals"].remove("SNS.InternalErrorException"),
    ),
    Broken(retries_are_bounded, "agent_turn", "AskModel", lambda s: _retry(s).pop("MaxAttempts")),
    Broken(retries_are_bounded, "agent_turn", "AskModel", lambda s: _retry(s).update(MaxAttempts=99)),
    Broken(retries_are_bounded, "agent_turn", "AskModel", lambda s: _retry(s).update(BackoffRate=1.0)),
    Broken(retries_are_bounded, "agent_turn", "AskModel", lambda s: _retry(s).pop("MaxDelaySeconds")),
    Broken(retries_are_bounded, "agent_turn", "AskModel", lambda s: _retry(s).pop("JitterStrategy")),
    Broken(the_same_errors_are_retried_alike, "agent_turn", "LoadTurn", lambda s: _retry(s).update(IntervalSeconds=9)),
    Broken(
        the_same_errors_are_retried_alike,
        "agent_watch",
        "LookAfterAgents/AskOwner",
        lambda s: _retry(s).update(MaxAttempts=9),
    ),
    Broken(the_same_errors_are_retried_alike, "agent_input", "ReadAgent", lambda s: _retry(s).update(MaxAttempts=9)),
    Broken(the_same_errors_are_retried_alike, "agent_turn", "LoadTurn", lambda s: _retry(s)["ErrorEquals"].reverse()),
    Broken(each_error_has_one_retrier, "agent_turn", "AskModel", lambda s: s["Retry"].append(_retry(s))),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
