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


def uses(name: str, history: Sequence[Event], express_for: dt.timedelta | None = None) -> Iterator[Use]:
    """Yield an execution's uses of the limits.

    Args:
        name: the execution's name in `place`.
        history: its events, in the shape of GetExecutionHistory.
        express_for: its duration, if it is an Express execution.
    """
    state = ""
    for event in history:
        for details in event.values():
            if isinstance(details, Mapping):
                state = details.get("name", state) if event["type"].endswith("StateEntered") else state
                for field in ("input", "output"):
                    if details.get(field):
                        place = f"{name}, {state or 'start'}"
                        yield Use(place, f"bytes of {field} in {event['type']}", _size(details[field]), PAYLOAD)
                # Step Functions itself bounds the cause of a task's failure.
                if event["type"] == "ExecutionFailed" and details.get("cause"):
                    place = f"{name}, {state or 'start'}"
                    yield Use(place, "characters of the cause in ExecutionFailed", len(details["cause"]), CAUSE)
    # MiniStack leaves out TaskStarted, which comes between a Task's TaskScheduled and its end.
    left_out = 0 if any(event["type"] == "TaskStarted" for event in history) else _tasks(history)
    yield Use(name, "events", len(history) + left_out, EVENTS)
    if express_for is not None:
        yield Use(name, "seconds", express_for.total_seconds(), EXPRESS_SECONDS)


def of_stack(client: "SFNClient") -> Iterator[Use]:
    """Yield the uses of every execution of every machine. The engine must list Express executions, as AWS does not."""
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
            yield from uses(f"{machine['name']} {execution['name']}", history, took)


def breaches(found: Iterator[Use], share: float = SHARE) -> list[Use]:
    """Return the uses above `share` of a limit, the largest share first."""
    return sorted((use for use in found if use.share > share), key=lambda use: -use.share)


def _size(text: str) -> int:
    """Return the bytes of some JSON in the form that Step Functions carries: without spaces, not escaped."""
    return len(json.dumps(read_json(text), ensure_ascii=False, separators=(",", ":")).encode())


def _tasks(history: Sequence[Event]) -> int:
    return sum(event["type"] == "TaskScheduled" for event in history)
