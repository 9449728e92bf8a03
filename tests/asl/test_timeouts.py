"""Every task has a timeout, and no timeout ends while its function still runs."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.asl import template
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_agents.load_recovery.load import CALL_ATTEMPTS, CALL_PAUSES, RESERVATION
from turnstile_cli.machines.definition import SUBSTITUTION, Machine, State

CALLS = ("$.call", "$.effect", "$.effect.lookUp", "$.undo")
"""The values that name a tool's function and its `timeoutSeconds`: the function's own timeout plus TIMEOUT_MARGIN,
as the tests of ReadReply and LoadRecovery prove."""
PATIENCE = "$.operator.reminderSeconds"
"""The wait for a person, before the machine asks the question again."""
UNBOUNDED = {"agent_recovery": "a stack parameter sets how long it waits for a person; every wait in it has an end"}
"""Standard machines without a timeout of their own."""


GUARDS = {("agent_recovery", "WaitForCalls"): "until then a call may still act"}
"""The waits that correctness depends on, with the reason: they end at a moment, which no test engine shortens."""
PAUSES = {
    ("agent_input", "Pause"): "the agent moves",
    ("agent_recovery", "BackOff"): "a later attempt may succeed",
    ("agent_recovery", "RecordLater"): "a conflict or throttling passes",
    ("agent_start", "Pause"): "two requests met",
    ("agent_turn", "CloseLater"): "a conflict or throttling passes",
    ("agent_turn", "RecordLater"): "a conflict or throttling passes",
}
"""The other waits: they last some seconds, which the test engines scale."""


def what_guards_waits_until_a_moment(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        if state.type != "Wait":
            continue
        place, seconds = (machine.name, state.path), any(name.startswith("Seconds") for name in state.fields)
        if place not in GUARDS | PAUSES:
            yield problem(machine, state, f"say in {__name__} whether correctness depends on this wait")
        elif seconds == (place in GUARDS):
            yield problem(machine, state, "wait for TimestampPath where correctness depends on it, else for seconds")


def tasks_time_out(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        named = re.search(r"(\$\.[\w.]+)\.function\b", task.fields.get("Parameters", {}).get("FunctionName.$", ""))
        function = named[1] if named else ""
        fitting = PATIENCE if task.waits_for_token else f"{function}.timeoutSeconds" if function in CALLS else None
        if "TimeoutSeconds" in task.fields and not fitting:
            continue
        if not fitting or task.fields.get("TimeoutSecondsPath") != fitting:
            yield problem(machine, task, f"add TimeoutSeconds{f'Path: {fitting}' if fitting else ''}")


def functions_end_first(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        function = SUBSTITUTION.fullmatch(task.fields.get("Parameters", {}).get("FunctionName", ""))
        if not function:
            continue
        timeout = template.function_timeout(machine.name, function[1])
        if timeout is None:
            yield problem(
                machine, task, f"{function[0]} is not a function of template.yaml: fill it with !GetAtt NAME.Arn"
            )
        elif task.fields.get("TimeoutSeconds", 0) <= timeout:
            yield problem(machine, task, f"wait longer than the function's own timeout in template.yaml, {timeout} s")


def machines_time_out(machine: Machine) -> Iterator[str]:
    if machine.name in UNBOUNDED:
        return
    if "TimeoutSeconds" not in machine.definition and template.state_machine(machine.name).get("Type") != "EXPRESS":
        yield problem(machine, None, "add TimeoutSeconds: a Standard execution may run for a year")


@holds(tasks_time_out, functions_end_first, machines_time_out, what_guards_waits_until_a_moment)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


def _pauses(state: State) -> list[int]:
    """Return the longest pause before each further attempt of a Task, in seconds."""
    return [
        min(retrier["IntervalSeconds"] * int(retrier["BackoffRate"]) ** count, retrier["MaxDelaySeconds"])
        for retrier in state.fields["Retry"]
        for count in range(retrier["MaxAttempts"])
    ]


@pytest.mark.parametrize(
    ("machine", "path"), [("agent_turn", "CallTools/ReserveEffect"), ("agent_recovery", "Compensate/ReserveUndo")]
)
def test_a_recovery_counts_how_long_a_reservation_may_take(machine: str, path: str) -> None:
    [state] = [state for state in MACHINES[machine].tasks() if state.path == path]
    pauses = _pauses(state)
    longest = state.fields["TimeoutSeconds"] * (1 + len(pauses)) + sum(pauses)
    assert timedelta(seconds=longest) == RESERVATION, "change RESERVATION in turnstile_agents/load_recovery/load.py"


@pytest.mark.parametrize(
    ("machine", "path"),
    [
        ("agent_turn", "CallTools/CallWriteTool"),
        ("agent_recovery", "Compensate/CallUndo"),
        ("agent_recovery", "SettleEffects/CallAgain"),
    ],
)
def test_a_recovery_counts_the_attempts_of_a_call_that_writes(machine: str, path: str) -> None:
    [state] = [state for state in MACHINES[machine].tasks() if state.path == path]
    pauses = _pauses(state)
    assert (1 + len(pauses), timedelta(seconds=sum(pauses))) == (CALL_ATTEMPTS, CALL_PAUSES), (
        "change CALL_ATTEMPTS and CALL_PAUSES in functions/turnstile_agents/load_recovery/load.py"
    )


@pytest.mark.parametrize("name", UNBOUNDED)
def test_every_machine_without_a_timeout_needs_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(task.waits_for_token for task in MACHINES[name].tasks()), "no task of it waits for a person"
    monkeypatch.delitem(UNBOUNDED, name)
    assert list(machines_time_out(MACHINES[name])), "take it out of UNBOUNDED: it has a timeout"


@catches(
    Broken(
        what_guards_waits_until_a_moment,
        "agent_recovery",
        "WaitForCalls",
        lambda s: s.update(SecondsPath=s.pop("TimestampPath")),
    ),
    Broken(
        what_guards_waits_until_a_moment,
        "agent_recovery",
        "BackOff",
        lambda s: s.update(TimestampPath=s.pop("SecondsPath")),
    ),
    Broken(tasks_time_out, "agent_turn", "LoadTurn", lambda s: s.pop("TimeoutSeconds")),
    Broken(tasks_time_out, "agent_turn", "CallTools/CallReadTool", lambda s: s.update(TimeoutSecondsPath="$.call.x")),
    Broken(
        tasks_time_out,
        "agent_recovery",
        "SettleEffects/LookUp",
        lambda s: s.update(TimeoutSecondsPath="$.effect.timeoutSeconds"),
    ),
    Broken(
        tasks_time_out,
        "agent_recovery",
        "AskOperator",
        lambda s: s.update(TimeoutSeconds=s.pop("TimeoutSecondsPath") and 86400),
    ),
    Broken(functions_end_first, "agent_turn", "LoadTurn", lambda s: s.update(TimeoutSeconds=30)),
    Broken(functions_end_first, "agent_turn", "ReadReply", lambda s: s.update(TimeoutSeconds=10)),
    Broken(
        functions_end_first, "agent_turn", "LoadTurn", lambda s: s["Parameters"].update(FunctionName="${TableName}")
    ),
    Broken(machines_time_out, "agent_turn", "", lambda m: m.pop("TimeoutSeconds")),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
