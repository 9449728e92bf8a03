"""What came of an agent, told so that two engines can be compared: its items, and what each execution did."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from tests.paths.conftest import in_order
from tests.strict.conftest import Observed
from workflows.stack_shapes import Execution
from workflows.trace import Visit, visits

CHANGING = {
    "ID": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "TIME": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"),
    "CODE": re.compile(r"/[^\" ]*/ministack-lambda-[^\" /]*/code"),
}
"""What no two runs have in common: ids, times, and where a function's code was unpacked, as its stack trace tells."""
REPORT = "INPUT#child-"
"""What the report of a child is called in its parent's record."""
LOOK = ["LoadTurn", "RouteEntry", "CloseTurn"]
"""A round that only finds that not all children have reported."""


def told(world: Observed, agent_id: str) -> Iterator[Mapping[str, Any]]:
    """What came of an agent.

    Which of several children reports first is chance. So of an agent that has several it is not told how often it
    looked, which of their reports woke it, and what its payload held when it looked again.
    """
    items = world.items(agent_id)
    by_chance = len(world.children(agent_id)) > 1
    for item in items:
        yield {name: value for name, value in item.items() if not (by_chance and name == "invocationCount")}
    executions = [*world.stack.executions(items), *world.notifications(agent_id)]
    reports = [each for each in executions if by_chance and is_report(each)]
    for execution in [each for each in executions if each not in reports]:
        yield _outcome(execution)
        found = in_order(visits(world.stack.history(execution.arn)))
        for visit in without_looks(found) if by_chance else found:
            yield {
                "state": visit.state,
                "iteration": visit.iteration,
                "attempts": visit.attempts,
                "error": visit.error,
                "input": None if by_chance and visit.state == LOOK[0] else visit.input,
                "output": visit.output,
            }
    for execution in sorted(reports, key=lambda each: str(each.event["detail"]["agentId"])):
        yield _outcome(execution)


def is_report(execution: Execution) -> bool:
    """Whether it brings an agent the end of one of its children."""
    return execution.machine.endswith("AgentInput") and execution.event["detail-type"] == "AgentStateUpdated"


def without_looks(found: Sequence[Visit]) -> list[Visit]:
    """The visits without the rounds that only find that not all children have reported."""
    rest = list(found)
    for place in reversed(range(len(rest) - len(LOOK) + 1)):
        if [visit.state for visit in rest[place : place + len(LOOK)]] == LOOK:
            del rest[place : place + len(LOOK)]
    return rest


def _outcome(execution: Execution) -> Mapping[str, Any]:
    return {"machine": execution.machine, "status": execution.status, "error": execution.error}


def differences(embedded: Any, strictly: Any, place: str = "") -> Iterator[str]:
    """Where two values differ, in what two runs can have in common; JSON in a text is compared as what it holds."""
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
    """A text without what changes from run to run, or what it holds if it is JSON; reports in any order."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, str):
        for name, pattern in CHANGING.items():
            value = pattern.sub(name, value)
    if isinstance(value, list) and all(isinstance(each, str) and each.startswith(REPORT) for each in value):
        return sorted(value)
    return value


def _parsed(text: str) -> Any:
    """What a text holds as JSON, or the text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, dict | list) else text
