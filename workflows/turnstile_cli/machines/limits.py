"""Step Functions' limits that no open engine enforces, measured on the executions of an engine.

They are a state's payload, the cause of a failure, the events of a history, and the duration of an Express execution.
`breaches` finds the uses that come so close to a limit that a longer conversation would reach it.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnstile_agents.border import read_json
from turnstile_cli.machines.trace import Event

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

PAYLOAD = 256 * 1024
"""Bytes of an input, an output or a result, in UTF-8."""
EVENTS = 25_000
"""Events of an execution's history."""
CAUSE = 32 * 1024
"""Characters of the cause of a failure."""
EXPRESS_SECONDS = 300
"""Seconds that an Express execution may take."""
PAGE = 1000
"""Events in one page of a history: the largest number that the API allows."""
SHARE = 0.8
"""The share of a limit that may be used."""


@dataclass(frozen=True)
class Use:
    """The use of a limit. `place` is the execution, and the state if there is one."""

    place: str
    what: str
    amount: float
    limit: float

    @property
    def share(self) -> float:
        """The used share of the limit; 1 is the whole limit."""
        return self.amount / self.limit

    def __str__(self) -> str:
        return f"{self.place}: {self.what} {self.amount:,.0f} of {self.limit:,.0f} ({self.share:.0%})"


def uses(
    name: str, history: Sequence[Event], express_for: dt.timedelta | None = None, above: float = 0
) -> Iterator[Use]:
    """Yield an execution's uses of the limits.

    Args:
        name: the execution's name in `place`.
        history: its events, in the shape of GetExecutionHistory.
        express_for: its duration, if it is an Express execution.
        above: a share of the limit; an input or output that cannot be above it is left out, because it takes long to
            measure.
    """
    state = ""
    for event in history:
        for details in event.values():
            if isinstance(details, Mapping):
                state = details.get("name", state) if event["type"].endswith("StateEntered") else state
                for field in ("input", "output"):
                    text = details.get(field)
                    if text and _most(text) > above * PAYLOAD:
                        place = f"{name}, {state or 'start'}"
                        yield Use(place, f"bytes of {field} in {event['type']}", _size(text), PAYLOAD)
                # Step Functions itself bounds the cause of a task's failure.
                if event["type"] == "ExecutionFailed" and details.get("cause"):
                    place = f"{name}, {state or 'start'}"
                    yield Use(place, "characters of the cause in ExecutionFailed", len(details["cause"]), CAUSE)
    # MiniStack leaves out TaskStarted, which comes between a Task's TaskScheduled and its end.
    left_out = 0 if any(event["type"] == "TaskStarted" for event in history) else _tasks(history)
    yield Use(name, "events", len(history) + left_out, EVENTS)
    if express_for is not None:
        yield Use(name, "seconds", express_for.total_seconds(), EXPRESS_SECONDS)


def breaches(client: "SFNClient", share: float = SHARE) -> list[Use]:
    """Return the uses above `share` of a limit, of every execution of every machine, the largest share first.

    The engine must list Express executions, as AWS does not.
    """
    found = [use for execution in _executions(client) for use in uses(*execution, share) if use.share > share]
    return sorted(found, key=lambda use: -use.share)


def closest(client: "SFNClient") -> Use:
    """Return the use that comes closest to a limit, of every execution of every machine."""
    found = Use("no execution", "events", 0, EVENTS)
    for execution in _executions(client):
        found = max(found, *uses(*execution, found.share), key=lambda use: use.share)
    return found


def _executions(client: "SFNClient") -> Iterator[tuple[str, list[Any], dt.timedelta | None]]:
    """Yield the first three arguments of `uses` for each execution."""
    for machine in client.list_state_machines()["stateMachines"]:
        pages = client.get_paginator("list_executions").paginate(stateMachineArn=machine["stateMachineArn"])
        for execution in (execution for page in pages for execution in page["executions"]):
            found = client.get_paginator("get_execution_history").paginate(
                executionArn=execution["executionArn"], PaginationConfig={"PageSize": PAGE}
            )
            history: list[Any] = [event for page in found for event in page["events"]]
            took = None
            if machine["type"] == "EXPRESS" and "stopDate" in execution:
                took = execution["stopDate"] - execution["startDate"]
            yield f"{machine['name']} {execution['name']}", history, took


def _size(text: str) -> int:
    """Return the bytes of some JSON in the form that Step Functions carries: without spaces, not escaped."""
    return len(json.dumps(read_json(text), ensure_ascii=False, separators=(",", ":")).encode())


def _most(text: str) -> int:
    """Return more bytes than `_size` of any data that a machine carries, although it may write a number longer."""
    return 2 * len(text.encode())


def _tasks(history: Sequence[Event]) -> int:
    return sum(event["type"] == "TaskScheduled" for event in history)
