"""Start many agents over the HTTP API at once, and measure the embedded engine's floor in the same run.

    .venv/bin/python scripts/load.py [AGENTS]

Each agent books a flight: five Lambda invocations in its turn. The floor is a machine with five empty Lambda tasks;
Step Functions' own API starts it equally often, all at once. Times depend on this machine: compare the ratios.
"""

import datetime as dt
import io
import json
import statistics
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from rich.console import Console
from rich.table import Table

from turnstile_agents.items import AgentState
from turnstile_agents.record import FINISHED, Status
from turnstile_cli.local.stack import Local, local_stack
from turnstile_cli.models.scenarios import Scenario, load_scenarios
from turnstile_cli.stack.client import Stack
from turnstile_cli.verify import verify

AGENTS = 200
TASKS = 5
"""Lambda invocations of one turn with a write."""
TIMEOUT = 600
EMPTY = "def handler(event, context):\n    return {}\n"

screen = Console()


@dataclass(frozen=True)
class Load:
    """The result of many starts at once: seconds from each start to its end, and seconds for all of them together."""

    seconds: Sequence[float]
    total: float

    @property
    def per_second(self) -> float:
        """How many ended per second."""
        return len(self.seconds) / self.total

    @property
    def p95(self) -> float:
        """The seconds within which 95 % had ended."""
        return statistics.quantiles(self.seconds, n=20)[-1]


def main(count: int) -> int:
    """Print the figures. Return 1 if an agent was lost or doubled, 0 otherwise."""
    scenario = next(scenario for scenario in load_scenarios() if scenario.name == "straight_booking")
    with (
        tempfile.TemporaryDirectory() as folder,
        local_stack([scenario], Path(folder), "travel", {}, lambda _: None) as local,
    ):
        seats_for(local.stack, count)
        floor = empty_tasks(local, count)
        agents, ends = over_the_api(local, scenario, count)
        bookings = count_bookings(local.stack)
        findings = verify(local.stack).findings
    table = Table("", "agents over the API", f"{TASKS} empty Lambda tasks", "ratio")
    table.add_row(
        "ended per second",
        f"{agents.per_second:.2f}",
        f"{floor.per_second:.2f}",
        f"{agents.per_second / floor.per_second:.2f}",
    )
    table.add_row("95 % ended within", f"{agents.p95:.1f} s", f"{floor.p95:.1f} s", f"{agents.p95 / floor.p95:.1f}")
    table.add_row(
        "all ended within", f"{agents.total:.1f} s", f"{floor.total:.1f} s", f"{agents.total / floor.total:.1f}"
    )
    screen.print(table)
    statuses = ", ".join(f"{number} {status}" for status, number in ends.items())
    screen.print(f"{count} agents: {statuses}; {bookings} bookings; findings of verify: {len(findings)}")
    return 0 if ends == {Status.COMPLETED: count} and bookings == count and not findings else 1


def over_the_api(local: Local, scenario: Scenario, count: int) -> tuple[Load, Counter[str]]:
    """Start agents by POST /agents and wait until each has ended.

    Return the seconds that they took, and how many ended in each status.
    """
    http = urllib3.PoolManager(maxsize=count)
    begun: dict[str, float] = {}

    def start(number: int) -> None:
        agent_id = f"load-{number}"
        begun[agent_id] = time.time()
        body = json.dumps({"prompt": scenario.prompt, "agentId": agent_id})
        request = AWSRequest("POST", f"{local.engine.api_url}/agents", {"content-type": "application/json"}, body)
        SigV4Auth(Credentials("test", "test"), "execute-api", "us-east-1").add_auth(request)
        answer = http.request("POST", str(request.url), body=body, headers=dict(request.headers), timeout=TIMEOUT)
        if answer.status != 202:
            raise SystemExit(f"POST /agents answered {answer.status}: {answer.data.decode()}")

    since = time.time()
    at_once(start, range(count))
    states = [wait_for(local.stack, f"load-{number}") for number in range(count)]
    ended = {state.agent_id: dt.datetime.fromisoformat(state.last_updated).timestamp() for state in states}
    seconds = [ended[agent_id] - begun[agent_id] for agent_id in ended]
    return Load(seconds, max(ended.values()) - since), Counter(state.status for state in states)


def empty_tasks(local: Local, count: int) -> Load:
    """Start executions of a machine of empty Lambda tasks, and wait until each has ended."""
    stack = local.stack
    arn = empty_machine(local)
    begun: dict[str, float] = {}

    def start(number: int) -> None:
        at = time.time()
        started = stack.stepfunctions.start_execution(stateMachineArn=arn, name=f"load-{number}", input="{}")
        begun[started["executionArn"]] = at

    since = time.time()
    at_once(start, range(count))
    deadline = time.monotonic() + TIMEOUT
    ended: dict[str, float] = {}
    while len(ended) < count:
        for execution in [arn for arn in begun if arn not in ended]:
            told = stack.stepfunctions.describe_execution(executionArn=execution)
            if told["status"] == "RUNNING":
                break
            ended[execution] = told["stopDate"].timestamp()
        if time.monotonic() > deadline:
            raise SystemExit(f"Only {len(ended)} of {count} empty executions ended within {TIMEOUT} seconds")
        time.sleep(0.2)
    return Load([ended[arn] - begun[arn] for arn in ended], max(ended.values()) - since)


def empty_machine(local: Local) -> str:
    """Create a machine of as many Lambda tasks as a turn has (`TASKS`); they do nothing. Return its ARN."""
    stack, code = local.stack, io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("empty.py", EMPTY)
    role = "arn:aws:iam::000000000000:role/load"
    function = stack.lambdas.create_function(
        FunctionName="empty",
        Runtime="python3.13",
        Role=role,
        Handler="empty.handler",
        Code={"ZipFile": code.getvalue()},
    )
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": function["FunctionArn"], "Payload": {}},
        "OutputPath": "$.Payload",
    }
    states: dict[str, Any] = {f"Task{n}": {**task, "Next": f"Task{n + 1}"} for n in range(1, TASKS)}
    states[f"Task{TASKS}"] = {**task, "End": True}
    definition = json.dumps({"StartAt": "Task1", "States": states})
    made = stack.stepfunctions.create_state_machine(name="empty", definition=definition, roleArn=role)
    return made["stateMachineArn"]


def at_once(act: Callable[[int], None], numbers: Sequence[int]) -> None:
    """Call `act` for every number, all at the same time."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(act, numbers))


def wait_for(stack: Stack, agent_id: str) -> AgentState:
    """Wait until an agent has ended, and return its STATE. Raise SystemExit after `TIMEOUT` seconds."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        state = stack.table.state(agent_id)
        if state and state.status in FINISHED:
            return state
        if time.monotonic() > deadline:
            raise SystemExit(f"{agent_id} has not ended within {TIMEOUT} seconds: {state}")
        time.sleep(0.2)


def seats_for(stack: Stack, count: int) -> None:
    """Set the free seats of every flight that has any to `count`."""
    table = stack.all_outputs["FlightsTableName"]
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=table)
    for flight in [item for page in pages for item in page["Items"] if item["seatsLeft"]["N"] != "0"]:
        stack.dynamodb.update_item(
            TableName=table,
            Key={"flightId": flight["flightId"]},
            UpdateExpression="SET seatsLeft = :seats",
            ExpressionAttributeValues={":seats": {"N": str(count)}},
        )


def count_bookings(stack: Stack) -> int:
    """Count the bookings that stand."""
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=stack.all_outputs["BookingsTableName"])
    return sum(item["status"]["S"] == "BOOKED" for page in pages for item in page["Items"])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else AGENTS))
