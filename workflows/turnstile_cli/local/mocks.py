"""Mocks for Step Functions Local: each path of the scenarios without any service, not even the embedded stack.

A scenario is played once, and the answers to its tasks become a MockConfigFile. It has a case for each execution that
wrote into the record of one of its agents: `...:stateMachine:turnstile-AgentTurn#straight_booking`, and for the second
execution of the same machine `#undo_then_another_2`.

The image numbers the invocations of a state over all iterations of a Map. So on mocks, a Map runs one iteration after
the other, and the mocks are in the same order:
https://docs.aws.amazon.com/step-functions/latest/dg/sfn-local-test-sm-exec.html
"""

import copy
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from turnstile_agents.items import Record
from turnstile_cli.engines.elsewhere import Registered, adapted
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.machines.trace import Event, json_value, visits
from turnstile_cli.stack.client import Stack

END_SECONDS = 300
"""Seconds that a case may run: the image waits before each retry as AWS does."""


@dataclass(frozen=True)
class MockedAnswer:
    """The answer to one attempt of a task."""

    state: str
    result: Any
    """The service's whole answer, before the state selects parts of it."""
    error: str = ""
    cause: str = ""


Ways = dict[int | None, list[str]]
"""The states that an execution visited: outside of Maps (key None), and in each iteration."""


@dataclass(frozen=True)
class MockedCase:
    """One execution of a scenario that has ended."""

    machine: str
    name: str
    input: Any
    status: str
    ways: Ways
    answers: list[MockedAnswer]


def cases(stack: Stack, scenario: str, agent_id: str) -> Iterator[MockedCase]:
    """Yield the cases of a played scenario: the executions of the agent, then those of the agents below it."""
    count: dict[str, int] = defaultdict(int)
    found = [execution for record in _family(stack, agent_id) for execution in stack.executions(record)]
    for execution in [each for each in found if each.status != "RUNNING"]:
        count[execution.machine] += 1
        number = count[execution.machine]
        history = stack.history(execution.arn)
        yield MockedCase(
            execution.machine,
            scenario if number == 1 else f"{scenario}_{number}",
            execution.input,
            execution.status,
            ways(history),
            answers(history),
        )


def _family(stack: Stack, agent_id: str) -> Iterator[Record]:
    state, record = stack.read_agent(agent_id)
    yield record
    for child in state.children:
        yield from _family(stack, child)


def ways(history: Iterable[Event]) -> Ways:
    """Return the states that an execution visited."""
    found: Ways = defaultdict(list)
    for visit in visits(history):
        found[visit.iteration].append(visit.state)
    return dict(found)


def run_mocked(client: Any, machine_arn: str, case: MockedCase) -> tuple[str, Ways]:
    """Run a case on a Step Functions that has the mocks. Return its status, and the states that it visited.

    Raise EngineError if it does not end within `END_SECONDS`.
    """
    started = client.start_execution(
        stateMachineArn=f"{machine_arn}#{case.name}", name=str(uuid.uuid4()), input=json.dumps(case.input)
    )
    arn = started["executionArn"]
    deadline = time.monotonic() + END_SECONDS
    while (status := client.describe_execution(executionArn=arn)["status"]) == "RUNNING":
        if time.monotonic() > deadline:
            raise EngineError(f"{case.machine}#{case.name} still runs after {END_SECONDS} seconds")
        time.sleep(0.02)
    pages = client.get_paginator("get_execution_history").paginate(executionArn=arn)
    return status, ways(event for page in pages for event in page["events"])


def on_mocks(machine: Registered) -> Registered:
    """Return the machine, adapted for mocks: its Maps run one iteration after the other."""
    found = adapted(machine)
    changed = copy.deepcopy(found.machine)
    for state in changed.states():
        if state.type == "Map":
            state.fields["MaxConcurrency"] = 1
    return replace(found, adapted=replace(found.adapted, machine=changed))


def answers(history: Iterable[Event]) -> list[MockedAnswer]:
    """Return the answers to an execution's tasks, in order; in a Map, one iteration after the other."""
    found: list[tuple[tuple[int, int], MockedAnswer]] = []
    places = {0: ("", 0)}
    maps = 0
    for event in history:
        kind, (state, iteration) = event["type"], places[event.get("previousEventId", 0)]
        maps += kind == "MapStateEntered"
        if kind.endswith("StateEntered"):
            state = event["stateEnteredEventDetails"]["name"]
        elif kind == "MapIterationStarted":
            iteration = event["mapIterationStartedEventDetails"]["index"]
        elif kind in ("MapStateSucceeded", "MapStateFailed"):
            iteration = 0
        places[event["id"]] = state, iteration
        details: Mapping[str, Any] = next((each for name, each in event.items() if name.endswith("EventDetails")), {})
        if kind in ("TaskSucceeded", "LambdaFunctionSucceeded"):
            found.append(((maps, iteration), MockedAnswer(state, json_value(details["output"]))))
        elif kind.startswith(("Task", "LambdaFunction")) and details.get("error"):
            found.append(((maps, iteration), MockedAnswer(state, None, details["error"], details.get("cause", ""))))
    return [answer for _, answer in sorted(found, key=lambda each: each[0])]


def mock_config(found: Iterable[MockedCase]) -> dict[str, Any]:
    """Build the MockConfigFile of some cases."""
    machines: dict[str, Any] = {}
    mocks: dict[str, Any] = {}
    for case in found:
        by_state: dict[str, list[MockedAnswer]] = defaultdict(list)
        for answer in case.answers:
            by_state[answer.state].append(answer)
        names = {state: f"{case.machine}.{case.name}.{state}" for state in by_state}
        machines.setdefault(case.machine, {"TestCases": {}})["TestCases"][case.name] = names
        for state, given in by_state.items():
            mocks[names[state]] = {str(number): _mock(answer) for number, answer in enumerate(given)}
    return {"StateMachines": machines, "MockedResponses": mocks}


def _mock(answer: MockedAnswer) -> Mapping[str, Any]:
    if answer.error:
        return {"Throw": {"Error": answer.error, "Cause": answer.cause}}
    return {"Return": answer.result}
