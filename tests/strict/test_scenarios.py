"""Every scenario on the strict engine too: the same states with the same data, and the same records as on the embedded.

Two interpreters of different making have to agree on what a definition means.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import pytest

from agent.record import Status
from tests.engines.sample_stack import wait_for
from tests.paths.conftest import World, in_order, scenario
from tests.strict.conftest import Both, await_question
from workflows.operator import OperatorDecision, decide, wait_for_decision
from workflows.scenarios import Scenario, load_scenarios
from workflows.trace import visits

pytestmark = pytest.mark.xdist_group("strict")

CHANGING = {
    "ID": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "TIME": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"),
    "CODE": re.compile(r"/[^\" ]*/ministack-lambda-[^\" /]*/code"),
}
"""What no two runs have in common: ids, times, and where a function's code was unpacked, as its stack trace tells."""


@pytest.mark.parametrize("played", load_scenarios(), ids=lambda each: each.name)
def test_both_engines_do_the_same(both: Both, played: Scenario) -> None:
    agent_id = both.play(played.name)
    found = list(differences(list(told(both.embedded, agent_id)), list(told(both.strictly, agent_id))))
    assert found == []
    assert [visit.state for visit in both.strictly.visited(agent_id)] == played.expect.states
    both.strictly.assert_sound(agent_id)


def test_a_change_of_status_comes_back_to_the_bus(both: Both) -> None:
    stack = both.strictly.stack
    died = both.strictly.run("agent_start", {"prompt": ""})
    assert died["status"] == "FAILED"

    def recovered() -> list[str]:
        recoveries = map(stack.execution, stack.execution_arns(stack.outputs.agent_recovery_arn))
        return [each.event["detail"]["executionArn"] for each in recoveries if each]

    wait_for(lambda: died["executionArn"] in recovered(), "the recovery of the request that died")


def test_a_person_is_asked_and_decides(both: Both) -> None:
    world = both.strictly
    agent_id = world.play(scenario("done_in_words_only"))
    await_question(world, agent_id)
    before = decide(world.stack, agent_id, OperatorDecision.ABORT, "Enough of it.")
    wait_for_decision(world.stack, before)
    assert world.settle(agent_id)["status"] == Status.FAILED


def told(world: World, agent_id: str) -> Iterator[Mapping[str, Any]]:
    """What came of an agent: its items, and each state that its executions visited, with its data."""
    items = world.items(agent_id)
    yield from items
    for execution in world.stack.executions(items):
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
    """A text without what changes from run to run, or what it holds if it is JSON."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if isinstance(found, dict | list):
        return found
    for name, pattern in CHANGING.items():
        value = pattern.sub(name, value)
    return value
