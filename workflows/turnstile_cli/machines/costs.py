"""What the executions of an agent cost at list price: counts from their histories, times a table of prices. Pure.

Tokens, storage and the requests of the tools themselves are left out: they do not depend on Turnstile.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from turnstile_agents.record import Model
from turnstile_cli.machines.definition import Machine, State
from turnstile_cli.machines.trace import Event, Visit, transitions, visits

KILOBYTE, GIGABYTE = 1024, 1024**3
LOG_OVERHEAD = 26
"""Bytes that CloudWatch Logs adds to each line."""
_PATH = re.compile(r"(?<!\$)\$(?:\.\w+)+")
"""A path into the state's input; not one into the context, as `$$.Execution.Id`."""
LINES: dict[str, tuple[str, ...]] = {
    "State transitions": ("stateTransitions",),
    "Machine logs with data": ("logs",),
    "X-Ray": ("traces",),
    "DynamoDB": ("writeUnits", "readUnits"),
    "AgentPublish (Express)": ("expressRequests", "expressGigabyteSeconds"),
    "Lambda": ("lambdaRequests", "lambdaGigabyteSeconds"),
    "EventBridge": ("events",),
    "SNS and SQS": ("notifications", "queueRequests"),
    "The pipe": ("pipeRequests",),
}
"""The lines of the bill, each with the prices that it consists of."""


class Assumed(Model):
    """Sizes and durations that an engine on this machine cannot measure."""

    lambda_seconds: float
    lambda_gigabytes: float
    express_seconds: float
    express_gigabytes: float


class PriceList(Model):
    """Prices in US dollars."""

    per_million: dict[str, float]
    per_gigabyte: Annotated[dict[str, float], Field(description="Of bytes")]
    assumed: Assumed

    def bill(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Return the US dollars of each line."""
        units = {name: price / 1e6 for name, price in self.per_million.items()}
        units |= {name: price / GIGABYTE for name, price in self.per_gigabyte.items()}
        return {line: sum(counts.get(name, 0) * units[name] for name in names) for line, names in LINES.items()}


@dataclass(frozen=True)
class Played:
    """An execution of a machine, with its history."""

    machine: Machine
    arn: str
    history: Sequence[Event]
    express: bool = False


def count(played: Iterable[Played], items: Mapping[str, int], messages: int, assumed: Assumed) -> Counter[str]:
    """Count what is charged.

    Args:
        played: every execution for the agent.
        items: the bytes of each of the agent's items, by its `record`.
        messages: the messages that AgentTopic has sent to the queue AgentChanges.
        assumed: from the table of prices.
    """
    # The event that requests the agent comes from outside. A message is put into the queue, fetched and deleted.
    counts = Counter[str](events=1, notifications=messages, queueRequests=3 * messages)
    for execution in played:
        found = visits(execution.history)
        tasks = {task.name: task for task in execution.machine.tasks()}
        # Each record of a batch counts as an execution of its own: on AWS an agent's checkpoints are seconds apart.
        executions = len(found[0].input) if execution.express else 1
        counts["traces"] += executions
        counts["logs"] += sum(_log_bytes(event, execution.arn) for event in execution.history)
        if execution.express:
            counts["expressRequests"] += executions
            counts["pipeRequests"] += executions
        else:
            counts["stateTransitions"] += transitions(found)
        for visit in found:
            if task := tasks.get(visit.state):
                counts.update(_task(task, visit, items))
                # AWS logs the parameters of each try; the embedded engine's history leaves them out.
                parameters = json.dumps(_filled(task.fields["Parameters"], visit.input), ensure_ascii=False)
                counts["logs"] += visit.transitions * len(json.dumps(parameters, ensure_ascii=False).encode())
    for service in ("lambda", "express"):
        seconds, gigabytes = getattr(assumed, f"{service}_seconds"), getattr(assumed, f"{service}_gigabytes")
        counts[f"{service}GigabyteSeconds"] = counts[f"{service}Requests"] * seconds * gigabytes
    return counts


def _task(task: State, visit: Visit, items: Mapping[str, int]) -> Counter[str]:
    """Count what a visit of a Task is charged, apart from the transition."""
    parameters, tries = task.fields["Parameters"], visit.transitions
    match task.service, task.action:
        case "events", _:
            return Counter(events=tries * len(parameters["Entries"]))
        case "sns", _:
            return Counter(notifications=tries)
        case "lambda", _:
            # LoadTurn and its sisters read the whole record; the definition is read once per process.
            read = math.ceil(sum(items.values()) / (4 * KILOBYTE)) if task.name.startswith("Load") else 0
            return Counter(lambdaRequests=tries, readUnits=tries * read)
        case "aws-sdk:dynamodb", "getItem":
            return Counter(readUnits=tries)
        case "aws-sdk:dynamodb", "transactWriteItems":
            writes = [write for item in parameters["TransactItems"] for write in item.values()]
            return Counter(writeUnits=tries * sum(_write_units(write, visit, items, 2) for write in writes))
        case "aws-sdk:dynamodb", _:
            return Counter(writeUnits=tries * _write_units(parameters, visit, items, 1))
    return Counter()


def _write_units(write: Mapping[str, Any], visit: Visit, items: Mapping[str, int], factor: int) -> int:
    """Return the units of one item's write. A write of STATE also moves its place in the index ByStatus."""
    key = (write.get("Item") or write["Key"])["record"]
    record = str(key["S"] if "S" in key else _value(key["S.$"], visit.input))
    units = factor * max(1, math.ceil(items.get(record, 0) / KILOBYTE))
    changes = "Item" in write or "UpdateExpression" in write
    return units + (2 if record == "STATE" and changes else 0)


def _filled(parameters: Any, data: Any) -> Any:
    """Return the Parameters of a task with the values of their paths; a function becomes the list of its values."""
    if isinstance(parameters, list):
        return [_filled(each, data) for each in parameters]
    if not isinstance(parameters, dict):
        return parameters
    return {
        key.removesuffix(".$"): _value(value, data) if key.endswith(".$") else _filled(value, data)
        for key, value in parameters.items()
    }


def _value(expression: str, data: Any) -> Any:
    values = [_at(path.split(".")[1:], data) for path in _PATH.findall(expression)]
    return values[0] if expression.startswith("$.") else [*values, expression]


def _at(names: list[str], data: Any) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _log_bytes(event: Event, arn: str) -> int:
    """Return the bytes of the event's line in the machine's log, as level ALL with data writes it."""
    details: Mapping[str, Any] = next((value for name, value in event.items() if name.endswith("EventDetails")), {})
    line = {
        "id": str(event["id"]),
        "type": event["type"],
        "details": {name: value if isinstance(value, dict) else str(value) for name, value in details.items()},
        "redrive_count": "0",
        "previous_event_id": str(event.get("previousEventId", 0)),
        "event_timestamp": "1700000000000",
        "execution_arn": arn,
    }
    return len(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()) + LOG_OVERHEAD
