"""Measure a turn on the embedded engine: transitions, Lambda invocations, cost, bytes, cold imports, the demo's time.

    .venv/bin/python scripts/figures.py

Counts are exact. Costs are list prices: edit prices.yaml beside this script for your Region. Times depend on this
machine; the table shows each beside a reference from the same run.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from turnstile_agents.events import AgentRequested
from turnstile_cli.files import ASL
from turnstile_cli.loader import SafeLoader
from turnstile_cli.local.stack import Local, local_stack
from turnstile_cli.machines.costs import Played, PriceList, count
from turnstile_cli.machines.definition import load_machine
from turnstile_cli.machines.trace import Visit, transitions, visits
from turnstile_cli.models.scenarios import Scenario, load_scenarios
from turnstile_cli.stack.client import Stack

TURNS = {
    "no tool": "answer_only",
    "one read": "look_up",
    "one write": "straight_booking",
    "two tools at once": "two_tools_at_once",
}
LAMBDA_STATES = {"LoadTurn", "ReadReply", "CallReadTool", "CallWriteTool"}
STEPS = 100
"""The entry of a long conversation's journal that is compared with entry 2, the first decision."""
HANDLERS = [
    "load_turn",
    "read_reply",
    *(f"tools.{name}" for name in ("get_flight_info", "book_flight", "cancel_flight")),
]
REFERENCE = "import boto3; boto3.client('dynamodb', region_name='us-east-1')"
RUNS = 9
PRICES = Path(__file__).with_name("prices.yaml")
COSTLY = {"The one-write agent": "straight_booking", "no tool": "answer_only", "one read": "look_up"}
"""The agents whose costs are counted. The last two differ by one round of a tool that reads."""
MACHINES = ("agent_start", "agent_turn", "agent_notify", "agent_publish")
QUIET = 1.0
"""Seconds without a new execution after which everything that an agent started is over."""

screen = Console()


def main() -> None:
    """Print every figure."""
    scenarios = [*load_scenarios(), long_conversation()]
    limits = {"steps": STEPS, "stepsPerTurn": STEPS, "tokens": 10**9, "costMicroUsd": 10**9}
    with (
        tempfile.TemporaryDirectory() as folder,
        local_stack(scenarios, Path(folder), "travel", limits, lambda _: None) as local,
    ):
        by_name = {scenario.name: scenario for scenario in scenarios}
        show_turns(local.stack, by_name)
        show_costs(local, by_name)
        show_long_conversation(local, scenarios[-1])
    show_imports()
    show_demo()


def show_turns(stack: Stack, scenarios: dict[str, Scenario]) -> None:
    """Print the states entered and the Lambda invocations of one turn, for each kind of turn in `TURNS`."""
    table = Table("Turn", "States entered", "of them Lambda invocations")
    for label, name in TURNS.items():
        found = play(stack, scenarios[name])
        invocations = sum(visit.transitions for visit in found if visit.state in LAMBDA_STATES)
        table.add_row(label, str(transitions(found)), str(invocations))
    screen.print(table)


def show_costs(local: Local, scenarios: dict[str, Scenario]) -> None:
    """Print what an agent costs from its request to COMPLETED, line by line, and what a further round adds."""
    prices = PriceList.model_validate(yaml.load(PRICES.read_text("utf-8"), SafeLoader))
    counted = {label: charged(local, scenarios[name], prices) for label, name in COSTLY.items()}
    agent, without, reads = counted.values()
    a_round = Counter({name: reads[name] - without[name] for name in reads})
    bills = [prices.bill(agent), prices.bill(a_round)]
    table = Table("List price, tokens aside", "of one agent with one write", "of it", "a further read round adds")
    totals = [sum(bill.values()) for bill in bills]
    for line, dollars in bills[0].items():
        table.add_row(line, f"${dollars:.7f}", f"{dollars / totals[0]:.1%}", f"${bills[1][line]:.7f}")
    table.add_row("In all", f"${totals[0]:.7f}", "", f"${totals[1]:.7f}")
    screen.print(table)
    table = Table("Counted for it", "one agent with one write", "a further read round")
    for name in agent:
        table.add_row(name, f"{agent[name]:g}", f"{a_round[name]:g}")
    screen.print(table)


def charged(local: Local, scenario: Scenario, prices: PriceList) -> Counter[str]:
    """Play a scenario of one agent, and count what is charged for it."""
    stack = local.stack
    arns = {name: getattr(stack.outputs, f"{name}_arn") for name in MACHINES}
    queue, sqs = stack.outputs.agent_changes_url, local.engine.client("sqs")

    def executions() -> dict[str, str]:
        return {arn: name for name, machine in arns.items() for arn in stack.execution_arns(machine)}

    sqs.purge_queue(QueueUrl=queue)
    before = executions()
    sent = stack.request(AgentRequested(prompt=scenario.prompt))
    stack.wait_for(sent)
    *_, _ = stack.watch(sent.agent_id)
    after: dict[str, str] = {}
    while (now := executions()) != after:
        after = now
        time.sleep(QUIET)
    machines = {name: load_machine(ASL / f"{name}.asl.yaml") for name in MACHINES}
    played = [
        Played(machines[name], arn, stack.history(arn), name == "agent_publish")
        for arn, name in after.items()
        if arn not in before
    ]
    messages = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    answer = stack.dynamodb.query(
        TableName=stack.outputs.table_name,
        KeyConditionExpression="agentId = :id",
        ExpressionAttributeValues={":id": {"S": sent.agent_id}},
    )
    items = {item["record"]["S"]: item_bytes(item) for item in answer["Items"]}
    return count(played, items, int(messages["ApproximateNumberOfMessages"]), prices.assumed)


def show_long_conversation(local: Local, scenario: Scenario) -> None:
    """Print the bytes that a checkpoint writes and a state carries, early and late in one conversation."""
    found = play(local.stack, scenario)
    written = dict(checkpoints(local))
    table = Table("One conversation", "Step 2", f"Step {STEPS}", "Ratio")
    rows = {
        "Bytes that a checkpoint writes": (written[2], written[STEPS]),
        "Bytes of the largest state payload": (largest_payload(found, 0), largest_payload(found, STEPS // 2 - 1)),
    }
    for label, (early, late) in rows.items():
        table.add_row(label, f"{early:,}", f"{late:,}", f"{late / early:.2f}")
    screen.print(table)


def show_imports() -> None:
    """Print the shortest cold start of Python with each handler, beside boto3 with one client."""
    reference = cold(REFERENCE)
    table = Table("Cold import, process start included", "ms", f"ratio to {REFERENCE.split(';')[0]} + a client")
    table.add_row("boto3 and a client", f"{reference:.0f}", "1.00")
    for handler in HANDLERS:
        taken = cold(f"import {handler}.handler")
        table.add_row(handler, f"{taken:.0f}", f"{taken / reference:.2f}")
    screen.print(table)


def show_demo() -> None:
    """Print the time of the demo from start to exit, without the set-up of .venv."""
    begun = time.monotonic()
    subprocess.run(
        [Path(sys.executable).with_name("turnstile"), "demo", "--json"], check=True, stdout=subprocess.DEVNULL
    )
    screen.print(f"The demo, from start to exit: {time.monotonic() - begun:.1f} s")


def long_conversation() -> Scenario:
    """Make a scenario of look-ups, each different from the one before.

    Entry 100 of its journal (`STEPS`) is a decision like entry 2.
    """
    dates = [(datetime.now(UTC).date() + timedelta(days=1 + n % 2)).isoformat() for n in range(STEPS // 2)]
    looks: list[dict[str, Any]] = [
        {
            "text": "I look again.",
            "tools": [{"name": "get_flight_info", "input": {"from_city": "Paris", "to_city": "London", "date": date}}],
        }
        for date in dates
    ]
    done = {"tools": [{"name": "complete", "input": {"result": "That is all."}}]}
    expect = {"status": "COMPLETED", "states": "ClaimTurn"}
    return Scenario.model_validate(
        {
            "name": "long_conversation",
            "title": "A long conversation",
            "prompt": "Look up the flights from Paris to London again and again.",
            "replies": [*looks, done],
            "expect": expect,
        }
    )


def play(stack: Stack, scenario: Scenario) -> list[Visit]:
    """Play a scenario of one turn, and return the states that the turn visited."""
    sent = stack.request(AgentRequested(prompt=scenario.prompt))
    stack.wait_for(sent)
    *_, last = stack.watch(sent.agent_id)
    turn = last.state.last_updated_by
    while stack.stepfunctions.describe_execution(executionArn=turn)["status"] == "RUNNING":
        time.sleep(0.05)
    return visits(stack.history(turn))


def checkpoints(local: Local) -> Iterator[tuple[int, int]]:
    """Yield step and bytes of each checkpoint, its journal entry and the whole STATE, from the table's stream."""
    streams = local.engine.client("dynamodbstreams")
    table = local.stack.dynamodb.describe_table(TableName=local.stack.outputs.table_name)["Table"]
    arn = table["LatestStreamArn"]
    sizes: dict[int, int] = {}
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = streams.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                image = record["dynamodb"].get("NewImage", {})
                name = image.get("record", {}).get("S", "")
                if name.startswith("STEP#"):
                    # The newest agent comes last, so its entries replace those of earlier agents.
                    sizes[int(name.removeprefix("STEP#"))] = item_bytes(image)
                elif name == "STATE" and image["status"]["S"] == "TOOL_EXECUTION_PENDING":
                    step = int(image["step"]["N"])
                    yield step, sizes[step] + item_bytes(image)
            iterator = answer.get("NextShardIterator") if answer["Records"] else None


def item_bytes(image: Mapping[str, Any]) -> int:
    """Return an item's size as DynamoDB counts it: bytes of names and values in UTF-8; a number counts as text."""
    return sum(len(name.encode()) + len(next(iter(value.values())).encode()) for name, value in image.items())


def largest_payload(found: list[Visit], turn_round: int) -> int:
    """Return the largest input or output of a state in one round of a turn, in bytes of JSON."""
    starts = [place for place, visit in enumerate(found) if visit.state == "LoadTurn"]
    payloads = [
        data for visit in found[starts[turn_round] : starts[turn_round + 1]] for data in (visit.input, visit.output)
    ]
    return max(len(json.dumps(data, ensure_ascii=False).encode()) for data in payloads)


def cold(code: str) -> float:
    """Return the milliseconds that a new Python process takes for `code`.

    The shortest of `RUNS` runs: noise only makes a run longer.
    """
    best = float("inf")
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        best = min(best, time.perf_counter() - begun)
    return best * 1000


if __name__ == "__main__":
    main()
