"""A history becomes visits of states. The events have the shape and the order that AWS gives them."""

import datetime as dt
import json
from typing import Any

from turnstile_cli.machines.trace import Visit, transitions, visits

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def event(number: int, previous: int, kind: str, **details: Any) -> dict[str, Any]:
    """Return an event, one second after the event before it."""
    name = f"{kind[0].lower()}{kind[1:]}EventDetails"
    if kind.endswith(("StateEntered", "StateExited")):
        name = "stateEnteredEventDetails" if kind.endswith("Entered") else "stateExitedEventDetails"
    at = NOON + dt.timedelta(seconds=number)
    return {"id": number, "previousEventId": previous, "timestamp": at, "type": kind, name: details}


def entered(number: int, previous: int, state: str, kind: str = "Task", data: Any = None) -> dict[str, Any]:
    return event(number, previous, f"{kind}StateEntered", name=state, input=json.dumps(data))


def left(number: int, previous: int, state: str, kind: str = "Task", data: Any = None) -> dict[str, Any]:
    return event(number, previous, f"{kind}StateExited", name=state, output=json.dumps(data))


def names(found: list[Visit]) -> list[tuple[str, int | None]]:
    return [(visit.state, visit.iteration) for visit in found]


RETRIED = [
    event(1, 0, "ExecutionStarted", input="{}"),
    entered(2, 0, "AskModel", data={"a": 1}),
    event(3, 2, "TaskScheduled", resource="converse"),
    event(4, 3, "TaskStarted", resource="converse"),
    event(5, 4, "TaskFailed", error="BedrockRuntime.ThrottlingException", cause="slow down"),
    event(6, 5, "TaskScheduled", resource="converse"),
    event(7, 6, "TaskStarted", resource="converse"),
    event(8, 7, "TaskSucceeded", output="{}"),
    left(9, 8, "AskModel", data={"b": 2}),
    entered(10, 9, "Done", "Succeed"),
    left(11, 10, "Done", "Succeed"),
    event(12, 11, "ExecutionSucceeded", output="{}"),
]
SIDE_BY_SIDE = [
    event(1, 0, "ExecutionStarted", input="{}"),
    entered(2, 0, "CallTools", "Map"),
    event(3, 2, "MapStateStarted", length=2),
    event(4, 3, "MapIterationStarted", name="CallTools", index=0),
    entered(5, 4, "RouteCall", "Choice"),
    event(6, 3, "MapIterationStarted", name="CallTools", index=1),
    entered(7, 6, "RouteCall", "Choice"),
    left(8, 5, "RouteCall", "Choice"),
    entered(9, 8, "CallReadTool", data="first"),
    left(10, 7, "RouteCall", "Choice"),
    entered(11, 10, "CallReadTool", data="second"),
    event(12, 11, "TaskScheduled", resource="invoke"),
    event(13, 9, "TaskScheduled", resource="invoke"),
    event(14, 12, "TaskFailed", error="ToolRejected", cause="no"),
    event(15, 13, "TaskSucceeded", output="{}"),
    left(16, 15, "CallReadTool"),
    event(17, 16, "MapIterationSucceeded", name="CallTools", index=0),
    left(18, 14, "CallReadTool"),
    entered(19, 18, "CallRejected", "Pass"),
    left(20, 19, "CallRejected", "Pass"),
    event(21, 20, "MapIterationSucceeded", name="CallTools", index=1),
    event(22, 21, "MapStateSucceeded"),
    left(23, 22, "CallTools", "Map", data=["results"]),
    entered(24, 23, "CheckpointResults"),
]


def test_a_retry_is_told_and_counts_as_a_transition() -> None:
    ask, done = visits(RETRIED)
    assert (ask.state, ask.kind, ask.input, ask.output) == ("AskModel", "Task", {"a": 1}, {"b": 2})
    assert (ask.attempts, ask.error, ask.cause) == (2, "BedrockRuntime.ThrottlingException", "slow down")
    assert (ask.entered, ask.seconds) == (NOON + dt.timedelta(seconds=2), 7)
    assert (done.state, done.attempts, done.transitions) == ("Done", 0, 1)
    assert transitions([ask, done]) == 3


def test_iterations_that_run_side_by_side_are_told_apart() -> None:
    found = visits(SIDE_BY_SIDE)
    assert names(found) == [
        ("CallTools", None),
        ("RouteCall", 0),
        ("RouteCall", 1),
        ("CallReadTool", 0),
        ("CallReadTool", 1),
        ("CallRejected", 1),
        ("CheckpointResults", None),
    ]
    first, second = found[3], found[4]
    assert (first.input, first.error, first.seconds) == ("first", "", 7)
    assert (second.input, second.error, second.seconds) == ("second", "ToolRejected", 7)
    assert (found[0].output, found[0].seconds) == (["results"], 21)
    assert found[-1].seconds is None


def test_the_end_of_a_map_belongs_to_the_map_whatever_it_follows_on() -> None:
    after_a_state_inside = {**SIDE_BY_SIDE[21], "previousEventId": 16}
    found = visits([*SIDE_BY_SIDE[:21], after_a_state_inside, *SIDE_BY_SIDE[22:]])
    assert names(found)[-1] == ("CheckpointResults", None)
    assert found[0].seconds == 21


def test_an_iteration_may_follow_on_the_one_before_it() -> None:
    found = visits(
        [
            event(1, 0, "ExecutionStarted", input="{}"),
            entered(2, 0, "StartChildren", "Map"),
            event(3, 2, "MapStateStarted", length=2),
            event(4, 3, "MapIterationStarted", name="StartChildren", index=0),
            entered(5, 4, "StartChild"),
            left(6, 5, "StartChild"),
            event(7, 6, "MapIterationStarted", name="StartChildren", index=1),
            entered(8, 7, "StartChild"),
            left(9, 8, "StartChild"),
            event(10, 9, "MapStateSucceeded"),
            left(11, 10, "StartChildren", "Map"),
            entered(12, 11, "CloseTurn"),
        ]
    )
    assert names(found) == [("StartChildren", None), ("StartChild", 0), ("StartChild", 1), ("CloseTurn", None)]


def test_the_error_of_a_state_that_ends_the_execution_is_its_own() -> None:
    history = [
        event(1, 0, "ExecutionStarted", input="{}"),
        entered(2, 0, "AgentUnknown", "Fail"),
        event(3, 2, "ExecutionFailed", error="AgentUnknown", cause="There is no agent x."),
    ]
    (visit,) = visits(history)
    assert (visit.error, visit.cause, visit.seconds) == ("AgentUnknown", "There is no agent x.", None)


def test_a_history_without_data() -> None:
    """Check a history as AWS gives it to a caller that may not read the data."""
    bare = [{**RETRIED[1], "stateEnteredEventDetails": {"name": "AskModel"}}]
    assert visits(bare)[0].input is None
