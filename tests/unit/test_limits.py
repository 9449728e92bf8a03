"""Executions are measured against the limits, and a value close to a limit is found."""

import datetime as dt
import json
from typing import Any

from turnstile_cli.machines.limits import EVENTS, EXPRESS_SECONDS, PAYLOAD, SHARE, breaches, closest, uses

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LARGE = "x" * int(PAYLOAD * 0.81)
SMALL = "x" * int(PAYLOAD * 0.79)


def entered(state: str, data: Any, kind: str = "Task") -> dict[str, Any]:
    return {"type": f"{kind}StateEntered", "stateEnteredEventDetails": {"name": state, "input": json.dumps(data)}}


def left(state: str, data: Any) -> dict[str, Any]:
    return {"type": "TaskStateExited", "stateExitedEventDetails": {"name": state, "output": json.dumps(data)}}


def found(*history: dict[str, Any], seconds: float | None = None) -> list[str]:
    took = None if seconds is None else dt.timedelta(seconds=seconds)
    return [str(use) for use in uses("turn-1", history, took, SHARE) if use.share > SHARE]


def test_what_stays_well_below_the_limits_is_not_found() -> None:
    assert found(entered("A", SMALL), left("A", SMALL), seconds=EXPRESS_SECONDS * 0.79) == []


def test_a_large_input_an_output_and_a_result_are_found_with_their_state() -> None:
    (line,) = found(entered("A", {}), entered("LoadTurn", LARGE))
    assert line == "turn-1, LoadTurn: bytes of input in TaskStateEntered 212,338 of 262,144 (81%)"
    (line,) = found(entered("A", {}), left("A", LARGE))
    assert "turn-1, A: bytes of output in TaskStateExited" in line
    result = {"type": "TaskSucceeded", "taskSucceededEventDetails": {"output": json.dumps(LARGE)}}
    (line,) = found(entered("AskModel", {}), result)
    assert "turn-1, AskModel: bytes of output in TaskSucceeded" in line
    started = {"type": "ExecutionStarted", "executionStartedEventDetails": {"input": json.dumps(LARGE)}}
    (line,) = found(started)
    assert "turn-1, start: bytes of input in ExecutionStarted" in line


def test_a_long_cause_is_found() -> None:
    failed = {"type": "ExecutionFailed", "executionFailedEventDetails": {"error": "E", "cause": "é" * 26_300}}
    assert found(entered("A", {}), failed) == [
        "turn-1, A: characters of the cause in ExecutionFailed 26,300 of 32,768 (80%)"
    ]


def test_bytes_count_and_not_characters_nor_escapes() -> None:
    third = "é" * (PAYLOAD // 3)
    assert found(entered("A", third)) == []  # as JSON escapes it, it is twice the limit
    assert found(entered("A", third + "é" * (PAYLOAD // 12))) != []


def test_a_long_history_is_found_with_the_events_that_are_left_out_here() -> None:
    task = [entered("A", {}), {"type": "TaskScheduled"}, {"type": "TaskSucceeded"}, left("A", {})]
    many = task * int(EVENTS * 0.81 / 5)
    (line,) = found(*many)
    assert line.startswith("turn-1: events 20,250 of 25,000")
    started = [*task[:2], {"type": "TaskStarted"}, *task[2:]]
    assert found(*started * int(EVENTS * 0.79 / 5)) == []


def test_a_slow_express_execution_is_found() -> None:
    assert found(entered("A", {}), seconds=241) == ["turn-1: seconds 241 of 300 (80%)"]


class Machines:
    """A client of Step Functions with a Standard and an Express machine, each with one execution of 250 seconds."""

    def list_state_machines(self) -> Any:
        return {"stateMachines": [self.machine("STANDARD"), self.machine("EXPRESS")]}

    def machine(self, kind: str) -> dict[str, str]:
        return {"stateMachineArn": kind, "name": kind.lower(), "type": kind}

    def get_paginator(self, operation: str) -> Any:
        return self if operation == "list_executions" else self.Histories()

    def paginate(self, stateMachineArn: str) -> Any:  # noqa: N803
        execution = {"executionArn": stateMachineArn, "name": "1", "startDate": NOON}
        yield {"executions": []}
        yield {"executions": [execution | {"stopDate": NOON + dt.timedelta(seconds=250)}]}

    class Histories:
        def paginate(self, executionArn: str, **_: Any) -> Any:  # noqa: N803
            yield {"events": [entered("A", {})]}
            yield {"events": [entered("B", LARGE if executionArn == "STANDARD" else {})]}


def test_every_execution_of_every_machine_is_looked_at() -> None:
    client: Any = Machines()
    lines = [str(use) for use in breaches(client)]
    assert lines == [
        "express 1: seconds 250 of 300 (83%)",
        "standard 1, B: bytes of input in TaskStateEntered 212,338 of 262,144 (81%)",
    ]
    assert str(closest(client)) == lines[0]


def test_the_use_that_comes_closest_is_measured_exactly() -> None:
    history = [entered(state, state * size) for state, size in (("A", 10), ("B", 5000), ("C", 4000), ("D", 5001))]

    class Client(Machines):
        class Histories:
            def paginate(self, executionArn: str, **_: Any) -> Any:  # noqa: N803
                yield {"events": history if executionArn == "STANDARD" else history[:1]}

        def paginate(self, stateMachineArn: str) -> Any:  # noqa: N803
            yield {"executions": [{"executionArn": stateMachineArn, "name": "1"}]}

    client: Any = Client()
    assert str(closest(client)) == "standard 1, D: bytes of input in TaskStateEntered 5,003 of 262,144 (2%)"
