"""No task waits for ever, and none gives up on a function that still runs."""

from collections.abc import Iterator

from tests.asl import template
from tests.asl.support import Broken, Rule, assert_holds, catches, holds, problem
from workflows.machines import SUBSTITUTION, Machine

CALL_TIMEOUT = "$.call.timeoutSeconds"
"""A tool's own timeout and TIMEOUT_MARGIN more: ReadReply's tests prove it."""


def tasks_time_out(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        seconds = task.fields.get("TimeoutSeconds")
        if seconds is None and task.fields.get("TimeoutSecondsPath") != CALL_TIMEOUT:
            yield problem(machine, task, f"add TimeoutSeconds, or TimeoutSecondsPath: {CALL_TIMEOUT}")


def functions_end_first(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        function = SUBSTITUTION.fullmatch(task.fields.get("Parameters", {}).get("FunctionName", ""))
        if not function:
            continue
        timeout = template.function_timeout(machine.name, function[1])
        if timeout is None:
            yield problem(
                machine, task, f"{function[0]} is no function of template.yaml: fill it with !GetAtt NAME.Arn"
            )
        elif task.fields.get("TimeoutSeconds", 0) <= timeout:
            yield problem(machine, task, f"wait longer than the function's own timeout in template.yaml, {timeout} s")


def machines_time_out(machine: Machine) -> Iterator[str]:
    if "TimeoutSeconds" not in machine.definition and template.state_machine(machine.name).get("Type") != "EXPRESS":
        yield problem(machine, None, "add TimeoutSeconds: a Standard execution may run for a year")


@holds(tasks_time_out, functions_end_first, machines_time_out)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@catches(
    Broken(tasks_time_out, "agent_turn", "LoadTurn", lambda s: s.pop("TimeoutSeconds")),
    Broken(tasks_time_out, "agent_turn", "CallTools/CallReadTool", lambda s: s.update(TimeoutSecondsPath="$.call.x")),
    Broken(functions_end_first, "agent_turn", "LoadTurn", lambda s: s.update(TimeoutSeconds=30)),
    Broken(functions_end_first, "agent_turn", "ReadReply", lambda s: s.update(TimeoutSeconds=10)),
    Broken(
        functions_end_first, "agent_turn", "LoadTurn", lambda s: s["Parameters"].update(FunctionName="${TableName}")
    ),
    Broken(machines_time_out, "agent_turn", "", lambda m: m.pop("TimeoutSeconds")),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
