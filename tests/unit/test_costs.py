"""The costs that scripts/figures.py prints: what a history counts, and what the counts cost."""

import datetime as dt
import json
from typing import Any

import pytest
import yaml

from turnstile_cli.files import ASL, ROOT
from turnstile_cli.machines.costs import LINES, Played, PriceList, count
from turnstile_cli.machines.definition import load_machine

PRICES = PriceList.model_validate(yaml.safe_load((ROOT / "scripts" / "prices.yaml").read_text("utf-8")))
ITEMS = {"STATE": 1500, "STEP#000001": 300, "EFFECT#000002#0": 400}
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def played(machine: str, *states: str, data: Any = None, tries: int = 1, express: bool = False) -> Played:
    """Return an execution that visited Task states, each with these data."""
    events: list[dict[str, Any]] = []

    def add(kind: str, **details: str) -> None:
        name = f"{kind[0].lower()}{kind[1:]}EventDetails".replace("taskState", "state")
        events.append({"id": len(events) + 1, "previousEventId": len(events), "type": kind, "timestamp": NOW})
        events[-1][name] = details

    for state in states:
        add("TaskStateEntered", name=state, input=json.dumps(data or {}))
        for _ in range(tries):
            add("TaskScheduled")
        add("TaskStateExited", name=state, output="{}")
    return Played(load_machine(ASL / f"{machine}.asl.yaml"), "arn:1", events, express)


@pytest.mark.parametrize(
    ("machine", "state", "data", "expected"),
    [
        # STATE has 2 KB, and its place in the index moves.
        ("agent_turn", "ClaimTurn", {}, {"writeUnits": 2 + 2}),
        # In a transaction each unit counts twice.
        ("agent_start", "CreateAgent", {}, {"writeUnits": 2 * 1 + 2 * 2 + 2}),
        ("agent_turn", "ReserveEffect", {"call": {"key": "EFFECT#000002#0"}}, {"writeUnits": 2 * 1 + 2 * 2}),
        ("agent_start", "ReadDefinition", {}, {"readUnits": 1}),
        ("agent_turn", "LoadTurn", {}, {"lambdaRequests": 1, "readUnits": 1}),
        ("agent_turn", "ReadReply", {}, {"lambdaRequests": 1}),
        ("agent_notify", "NotifyApprover", {}, {"notifications": 1}),
        ("agent_notify", "CancelChild", {}, {"events": 1}),
    ],
)
def test_a_task_is_charged(machine: str, state: str, data: Any, expected: dict[str, int]) -> None:
    counts = count([played(machine, state, data=data)], ITEMS, 0, PRICES.assumed)
    service = {name: number for name, number in counts.items() if name.endswith(("Units", "Requests", "notifications"))}
    service["events"] = counts["events"] - 1  # the request
    assert {name: number for name, number in service.items() if number} == expected
    assert (counts["stateTransitions"], counts["traces"]) == (1, 1)


def test_a_retry_is_charged_again() -> None:
    counts = count([played("agent_turn", "ClaimTurn", tries=3)], ITEMS, 0, PRICES.assumed)
    assert (counts["stateTransitions"], counts["writeUnits"]) == (3, 12)


def test_each_record_of_a_batch_is_an_express_execution_without_transitions() -> None:
    counts = count([played("agent_publish", "PublishUpdate", data=[{}, {}], express=True)], {}, 0, PRICES.assumed)
    assert (counts["expressRequests"], counts["pipeRequests"], counts["traces"]) == (2, 2, 2)
    assert counts["stateTransitions"] == 0


def test_a_message_is_published_put_into_the_queue_fetched_and_deleted() -> None:
    counts = count([], {}, 2, PRICES.assumed)
    assert (counts["notifications"], counts["queueRequests"], counts["events"]) == (2, 6, 1)


def test_a_log_line_holds_the_data() -> None:
    small, large = (
        count([played("agent_turn", "LoadTurn", data={"text": "x" * size})], {}, 0, PRICES.assumed)["logs"]
        for size in (0, 1000)
    )
    assert large - small == 1000


def test_a_log_line_of_a_task_holds_its_parameters() -> None:
    small, large = (
        count([played("agent_turn", "LoadTurn", data={"agent": {"owner": "x" * size}})], {}, 0, PRICES.assumed)["logs"]
        for size in (0, 1000)
    )
    assert large - small == 2 * 1000  # the state's input and the call's Payload


def test_the_bill_multiplies_counts_by_prices() -> None:
    bill = PRICES.bill({"stateTransitions": 27, "logs": 1024**3, "writeUnits": 2, "readUnits": 10})
    assert bill["State transitions"] == pytest.approx(27 * 0.025 / 1000)
    assert bill["Machine logs with data"] == pytest.approx(0.5)
    assert bill["DynamoDB"] == pytest.approx((2 * 0.625 + 10 * 0.125) / 1e6)
    assert bill["Lambda"] == 0


def test_each_price_is_on_one_line() -> None:
    assert sorted(name for names in LINES.values() for name in names) == sorted(
        PRICES.per_million.keys() | PRICES.per_gigabyte.keys()
    )
