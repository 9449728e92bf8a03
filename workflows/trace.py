"""What an execution did, read from its history: which states it visited, with what, for how long.

Pure. It takes events in the shape of GetExecutionHistory. Iterations of a Map run side by side, so that events of
different iterations alternate; `previousEventId` tells which belong together.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]

_ATTEMPT = ("TaskScheduled", "LambdaFunctionScheduled", "ActivityScheduled")


@dataclass
class Visit:
    """One visit of a state."""

    state: str
    kind: str
    """Task, Map, Choice, …"""
    entered: dt.datetime
    input: Any
    iteration: int | None = None
    """Which iteration of the Map around it, from 0; None outside a Map."""
    seconds: float | None = None
    """None if the state was never left: it still runs, or the execution ended in it."""
    output: Any = None
    attempts: int = 0
    """How often its task was tried."""
    error: str = ""
    """The last error in it, even if it was retried or caught."""
    cause: str = ""

    @property
    def transitions(self) -> int:
        """How many state transitions it counts as: a retry is one more."""
        return max(self.attempts, 1)


def visits(history: Iterable[Event]) -> list[Visit]:
    """The visits of states in an execution, in the order in which they were entered."""
    entered: dict[int, Visit] = {}
    inside: dict[int, int | None] = {}
    """The visit that each event belongs to, by the id of the event that entered the state; None between states."""
    iterations: dict[int, int | None] = {}
    around: dict[int, int | None] = {}
    """The visit of the Map around an event."""
    for event in history:
        number, previous, kind = event["id"], event.get("previousEventId", 0), event["type"]
        iteration, visit, outer = iterations.get(previous), inside.get(previous), around.get(previous)
        if kind.endswith("StateEntered"):
            details = event["stateEnteredEventDetails"]
            entered[number] = Visit(
                details["name"],
                kind.removesuffix("StateEntered"),
                event["timestamp"],
                _value(details.get("input")),
                iteration,
            )
            visit = number
        elif kind.endswith("StateExited"):
            details = event["stateExitedEventDetails"]
            found = visit if visit is not None and entered[visit].state == details["name"] else None
            if found is None:
                found = _open(entered, details["name"], iteration)
            if found is not None:
                left = entered[found]
                left.seconds = (event["timestamp"] - left.entered).total_seconds()
                left.output = _value(details.get("output"))
            visit = None
        elif kind == "MapIterationStarted":
            iteration, outer, visit = event["mapIterationStartedEventDetails"]["index"], visit, None
        elif kind in ("MapIterationSucceeded", "MapIterationFailed", "MapIterationAborted"):
            iteration, visit, outer = None, outer, None
        elif visit is not None:
            current = entered[visit]
            current.attempts += kind in _ATTEMPT
            _note_error(current, event)
        iterations[number], inside[number], around[number] = iteration, visit, outer
    return list(entered.values())
