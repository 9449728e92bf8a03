"""The sample stack in sample/, with helpers for its tests."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from turnstile_agents.record import Status
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.models.scenarios import Expected, Scenario, ScenarioReply, ScenarioToolCall

TEMPLATE = Path(__file__).parent / "sample" / "template.yaml"
Seen = TypeVar("Seen")
INPUT = {"fromCity": "Oslo", "Stops": [{"in_between": "Rome", "Nights": 2}]}
SCENARIO = Scenario(
    name="sample",
    title="A sample",
    prompt="To Rome, please",
    replies=[
        ScenarioReply(text="Let me see.", tools=[ScenarioToolCall(name="book", input=INPUT)]),
        ScenarioReply(text="Done.", faults=["throttle", "unavailable", "timeout", "rubbish"]),
    ],
    expect=Expected(status=Status.COMPLETED, states=["AskModel"]),
)


def wait_for(look: Callable[[], Seen | None], what: str, seconds: float = 15) -> Seen:
    """Call `look` until its result is true; return that result."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} seconds for {what}")


class Sample:
    """The sample stack on a running engine."""

    def __init__(self, engine: Embedded) -> None:
        self.engine = engine
        self.machines = engine.client("stepfunctions")

    def start(self, machine: str, data: Any) -> str:
        """Start an execution of a machine, named by its output; return the execution's ARN."""
        started = self.machines.start_execution(
            stateMachineArn=self.engine.outputs[f"{machine}Arn"], input=json.dumps(data)
        )
        arn: str = started["executionArn"]
        return arn

    def run(self, machine: str, data: Any) -> dict[str, Any]:
        """Run an execution to its end; return its description, as DescribeExecution gives it."""
        return self.finish(self.start(machine, data))

    def finish(self, arn: str) -> dict[str, Any]:
        """Wait for an execution to end; return its description."""

        def ended() -> dict[str, Any] | None:
            execution: dict[str, Any] = self.machines.describe_execution(executionArn=arn)
            return None if execution["status"] == "RUNNING" else execution

        return wait_for(ended, f"the end of {arn}")

    def work(self, *items: dict[str, Any]) -> dict[str, Any]:
        """Run Work with these items; return the description of the ended execution."""
        return self.run("Work", {"detail": {"items": list(items)}})

    def history(self, execution: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events of an execution."""
        events: list[dict[str, Any]] = self.machines.get_execution_history(
            executionArn=execution["executionArn"], maxResults=1000
        )["events"]
        return events

    def notes(self) -> list[str]:
        """Return the notes that all executions have written so far."""
        table = self.engine.outputs["TableName"]
        items = self.engine.client("dynamodb").scan(TableName=table, ConsistentRead=True)["Items"]
        return [json.loads(item["id"]["S"])["note"] for item in items]
