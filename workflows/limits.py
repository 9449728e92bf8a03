"""Step Functions' limits that no open engine enforces, measured in what executions did.

A state's payload, the events of a history, the duration of an Express execution. `breaches` finds what comes so close
to one that a longer conversation would meet it.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.border import read_json
from workflows.trace import Event

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

PAYLOAD = 256 * 1024
"""Bytes of an input, an output or a result, in UTF-8."""
EVENTS = 25_000
"""Events of an execution's history."""
EXPRESS_SECONDS = 300
"""Seconds that an Express execution may take."""
PAGE = 1000
"""Events that are asked for at once: as many as there may be."""
SHARE = 0.8
"""How much of a limit may be used."""


@dataclass(frozen=True)
class Use:
    """How much of a limit is used. `place` is the execution, and the state if there is one."""

    place: str
    what: str
    amount: float
    limit: float

    @property
    def share(self) -> float:
        """1 is all of it."""
        return self.amount / self.limit

    def __str__(self) -> str:
        return f"{self.place}: {self.what} {self.amount:,.0f} of {self.limit:,.0f} ({self.share:.0%})"


def uses(name: str, history: Sequence[Event], express_for: dt.timedelta | None = None) -> Iterator[Use]:
    """What an execution uses.

    Args:
        name: how it is called in `place`.
        history: its events, as GetExecutionHistory tells them.
        express_for: how long it took, if it is an Express execution.
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
    # MiniStack leaves this event out, which comes between a Task's TaskScheduled and its end.
    left_out = 0 if any(event["type"] == "TaskStarted" for event in history) else _tasks(history)
    yield Use(name, "events", len(history) + left_out, EVENTS)
    if express_for is not None:
        yield Use(name, "seconds", express_for.total_seconds(), EXPRESS_SECONDS)


def of_stack(client: "SFNClient") -> Iterator[Use]:
    """What every execution of every machine uses. For an engine that lists its Express executions: AWS does not."""
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
    """What uses more of a limit than it may, the largest share first."""
    return sorted((use for use in found if use.share > share), key=lambda use: -use.share)


def _size(text: str) -> int:
    """Bytes of some JSON as Step Functions carries it: without spaces, and not escaped."""
    return len(json.dumps(read_json(text), ensure_ascii=False, separators=(",", ":")).encode())


def _tasks(history: Sequence[Event]) -> int:
    return sum(event["type"] == "TaskScheduled" for event in history)
