"""An agent's items, and the steps of each of its executions, in a form that two engines can be compared by."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from tests.engines.sample_stack import wait_for
from tests.strict.conftest import Observed
from tests.world import World, in_order
from turnstile_cli.machines.trace import Execution, visits

CHANGING = {
    "ID": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "TIME": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"),
    "CODE": re.compile(r"/[^\" ]*/ministack-lambda-[^\" /]*/code"),
}
"""The texts that differ in every run: ids, times, and the folder of a function's code in a stack trace."""
REPORT = "INPUT#child-"
"""The beginning of the record of a child's report at its parent."""


def told(world: Observed, agent_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield an agent's items and executions. Which child reports first is chance, so reports are sorted by child."""
    items = world.items(agent_id)
    yield from items
    executions = [*world.stack.executions(world.stack.table.record(agent_id)), *world.notifications(agent_id)]
    reports = sorted((each for each in executions if is_report(each)), key=lambda each: each.event["detail"]["agentId"])
    for execution in [*(each for each in executions if each not in reports), *reports]:
        yield {"machine": execution.machine, "status": execution.status, "error": execution.error}
        for visit in in_order(visits(world.stack.history(execution.arn))):
            yield {
                "state": visit.state,
                "iteration": visit.iteration,
                "attempts": visit.attempts,
                "error": visit.error,
                "input": visit.input,
                "output": visit.output,
            }


def await_change_of_status(world: World) -> None:
    """Let an execution die, and wait until agent_redeliver has heard of it: the change of status came to the bus."""
    died = world.run("agent_start", {"prompt": ""})
    assert died["status"] == "FAILED"
    stack = world.stack

    def redelivered() -> list[str]:
        executions = map(stack.execution, stack.execution_arns(stack.outputs.agent_redeliver_arn))
        return [each.event["detail"]["executionArn"] for each in executions if each]

    wait_for(lambda: died["executionArn"] in redelivered(), "agent_redeliver to hear of the request that died")


def is_report(execution: Execution) -> bool:
    """Return whether an execution brings an agent the end of one of its children."""
    return execution.machine.endswith("AgentInput") and execution.event["detail-type"] == "AgentStateUpdated"


def differences(embedded: Any, strictly: Any, place: str = "") -> Iterator[str]:
    """Yield the differences of two values, without texts that differ in every run; compare JSON in a text as JSON."""
    one, other = comparable(embedded), comparable(strictly)
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list):
        for index, (first, second) in enumerate(zip_longest(one, other)):
            name = first.get("state", first.get("record", "")) if isinstance(first, dict) else ""
            yield from differences(first, second, f"{place}[{index} {name}]")
    elif one != other:
        yield f"{place}: embedded {one!r}, strict {other!r}"


def comparable(value: Any) -> Any:
    """Return a value without texts that differ in every run, JSON in texts parsed, and reports in one order."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, str):
        for name, pattern in CHANGING.items():
            value = pattern.sub(name, value)
    if isinstance(value, list) and all(isinstance(each, str) and each.startswith(REPORT) for each in value):
        return sorted(value)
    return value


def _parsed(text: str) -> Any:
    """Return the JSON value of a text, or the text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, dict | list) else text
