"""Read an execution's history: which states it visited, with which data, for how long.

Pure. Events have the shape of GetExecutionHistory. Iterations of a Map run side by side, so the events of different
iterations alternate; `previousEventId` tells which events belong together.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from turnstile_agents.border import read_json
from turnstile_agents.record import Model

Event = Mapping[str, Any]

_END_OF_MAP = ("MapStateSucceeded", "MapStateFailed", "MapStateAborted")
MASK = "(a task token)"
"""The text that stands in place of a task token."""
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
    """The iteration of the Map around it, from 0; None outside a Map."""
    seconds: float | None = None
    """Its duration; None if the state was never left: it still runs, or the execution ended in it."""
    output: Any = None
    attempts: int = 0
    """How often its task was tried."""
    error: str = ""
    """The last error in it, even if it was retried or caught."""
    cause: str = ""

    @property
    def transitions(self) -> int:
        """The number of its state transitions: a retry counts as one more."""
        return max(self.attempts, 1)


class Execution(Model):
    """An execution of one of the stack's machines."""

    arn: str
    machine: str
    status: str
    started: dt.datetime
    stopped: dt.datetime | None
    input: Any
    error: str
    cause: str
    turn: Annotated[int | None, Field(description="Its number among the agent's turns; null for another machine's")] = (
        None
    )

    @property
    def event(self) -> dict[str, Any]:
        """The event that started it; empty if its input is no object."""
        return self.input if isinstance(self.input, dict) else {}


class Run(Model):
    """An execution with the states that it visited."""

    execution: Execution
    visits: list[Visit]
    transitions: Annotated[int, Field(description="State transitions, retries included")]


@dataclass(frozen=True)
class _Place:
    """The place of an event in the machine."""

    visit: Visit | None = None
    """None between two states."""
    iteration: int | None = None
    around: "_Place | None" = None
    """In an iteration: the place of its Map."""

    @property
    def is_map(self) -> bool:
        """Whether it is in a Map, but outside of the Map's iterations."""
        return self.visit is not None and self.visit.kind == "Map"


def visits(history: Iterable[Event]) -> list[Visit]:
    """Return the visits of states in an execution, in the order in which the states were entered."""
    found: list[Visit] = []
    places = {0: _Place()}
    for event in history:
        kind, place = event["type"], places[event.get("previousEventId", 0)]
        # In some engines, `previousEventId` of a Map's end, or of its next iteration, is an iteration's last state.
        if kind in (*_END_OF_MAP, "MapIterationStarted") and place.around and not place.is_map:
            place = place.around
        if kind.endswith("StateEntered"):
            details = event["stateEnteredEventDetails"]
            visit = Visit(
                state=details["name"],
                kind=kind.removesuffix("StateEntered"),
                entered=event["timestamp"],
                input=json_value(details.get("input")),
                iteration=place.iteration,
            )
            found.append(visit)
            place = replace(place, visit=visit)
        elif kind == "MapIterationStarted":
            place = _Place(iteration=event["mapIterationStartedEventDetails"]["index"], around=place)
        elif kind.startswith("MapIteration"):
            place = place.around or place
        elif place.visit:
            _note(place.visit, event)
            if kind.endswith("StateExited"):
                place = replace(place, visit=None)
        places[event["id"]] = place
    return found


def befores(found: Iterable[Visit]) -> list[Visit | None]:
    """Return for each visit the visit before it; None for the first visit of the execution, or of an iteration."""
    result: list[Visit | None] = []
    last: dict[int | None, Visit] = {}
    for visit in found:
        result.append(last.get(visit.iteration))
        # A Map may follow on another Map, and the numbers of its iterations begin again.
        last = {**last, visit.iteration: visit} if visit.iteration is not None else {None: visit}
    return result


def handled_error(found: Iterable[Visit]) -> tuple[str, str]:
    """Return name and message of the error that a recovery handles; both empty if its history does not tell them."""
    for visit in found:
        match visit:
            case Visit(state="TakeOver", input={"failure": {"error": str(error), "message": str(message)}}):
                return error, message
    return "", ""


def without_tokens(run: Run) -> Run:
    """Return the run with the task tokens in its data masked: with a token, the task that waits can be answered."""
    visits_ = [replace(visit, input=_masked(visit.input), output=_masked(visit.output)) for visit in run.visits]
    return run.model_copy(update={"visits": visits_})


def transitions(found: Iterable[Visit]) -> int:
    """Return the number of state transitions that AWS would charge: states entered, retries included."""
    return sum(visit.transitions for visit in found)


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(each) for each in value]
    if not isinstance(value, dict):
        return value
    # The machines read a token from the table, so it has DynamoDB's form.
    return {
        name: {"S": MASK} if name == "token" and isinstance(each, dict) and "S" in each else _masked(each)
        for name, each in value.items()
    }


def _note(visit: Visit, event: Event) -> None:
    kind = event["type"]
    visit.attempts += kind in _ATTEMPT
    if kind.endswith("StateExited"):
        visit.seconds = (event["timestamp"] - visit.entered).total_seconds()
        visit.output = json_value(event["stateExitedEventDetails"].get("output"))
    for name, details in event.items():
        if name.endswith("EventDetails") and details.get("error"):
            visit.error, visit.cause = details["error"], details.get("cause", "")


def json_value(text: str | None) -> Any:
    """Read the data of a state; None if the history was read without data."""
    return None if text is None else read_json(text)
