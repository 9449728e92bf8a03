"""LoadWatch: who stands still, by the table alone."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from agent.record import Status
from load_watch import load
from load_watch.handler import handler
from load_watch.load import Stale, Watch, find_stale
from tests.unit.stacks import mock_stack, put
from workflows.client import Stack

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
FREE = {"nextAction": "NONE", "owner": "NONE", "error": "", "errorMessage": ""}
OWNER = "arn:aws:states:us-east-1:123456789012:execution:turnstile-AgentTurn:1"


@pytest.fixture
def stack() -> Iterator[Stack]:
    with mock_stack() as stack:
        yield stack


def place(stack: Stack, agent_id: str, status: Status, *, minutes: int = 20, state: Mapping[str, str] = FREE) -> None:
    """Puts an agent whose record has not moved for so long."""
    moved = (NOW - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    put(stack, {"agentId": agent_id, "record": "STATE", "status": status, "lastUpdated": moved, **FREE, **state})
    stack.dynamodb.update_item(
        TableName=stack.outputs.table_name,
        Key={"agentId": {"S": agent_id}, "record": {"S": "STATE"}},
        UpdateExpression="SET step = :step",
        ExpressionAttributeValues={":step": {"N": "7"}},
    )


def found(stack: Stack) -> Watch:
    return find_stale(stack.dynamodb, stack.outputs.table_name, NOW - timedelta(minutes=15))


def test_in_these_statuses_somebody_ought_to_be_at_work(stack: Stack) -> None:
    for status in Status:
        place(stack, status, status)
    assert {agent.agent_id for agent in found(stack).agents} == {
        "INITIATED",
        "PLANNING",
        "PLANNING_COMPLETE",
        "PLANNING_FAILED",
        "TOOL_EXECUTION_PENDING",
        "TOOL_EXECUTION_SUCCESS",
        "TOOL_EXECUTION_FAILED",
        "COMPENSATING",
        "WAITING_FOR_OPERATOR",
    }


def test_who_has_moved_lately_is_not_looked_after(stack: Stack) -> None:
    place(stack, "young", Status.PLANNING, minutes=14)
    place(stack, "old", Status.PLANNING, minutes=16)
    assert [agent.agent_id for agent in found(stack).agents] == ["old"]


def test_it_tells_where_the_agent_stands(stack: Stack) -> None:
    cause = json.dumps({"errorType": "Odd", "errorMessage": "x" * 2000, "stackTrace": ["y" * 2000]})
    failed = {"owner": f"{OWNER}#2026-01-02T11:00:00Z", "error": "Odd", "errorMessage": cause}
    place(stack, "a-1", Status.PLANNING_FAILED, state=failed)
    place(stack, "a-2", Status.INITIATED, state={"nextAction": "PLANNING"})
    assert sorted(found(stack).agents, key=lambda agent: agent.agent_id) == [
        Stale(
            agent_id="a-1",
            step=7,
            status=Status.PLANNING_FAILED,
            next_action="NONE",
            owner=OWNER,
            error="Odd",
            error_message="x" * 1000,
        ),
        Stale(
            agent_id="a-2",
            step=7,
            status=Status.INITIATED,
            next_action="PLANNING",
            owner="NONE",
            error="",
            error_message="",
        ),
    ]


@pytest.mark.parametrize(
    "now",
    [
        {"status": Status.COMPLETED},
        {"lastUpdated": NOW.isoformat()},
        {"record": "GONE"},
    ],
)
def test_the_record_counts_and_not_the_index(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, now: dict[str, str]
) -> None:
    state = {"status": Status.PLANNING, "lastUpdated": (NOW - timedelta(minutes=20)).isoformat(), "record": "STATE"}
    put(stack, {"agentId": "a-1", **state, **now})
    monkeypatch.setattr(load, "_candidates", lambda *_: ["a-1"])
    monkeypatch.setattr(load, "WATCHED", {Status.PLANNING})
    assert found(stack).agents == []


def test_of_too_many_everybody_has_a_turn(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LIMIT", 2)
    for number in range(3):
        place(stack, f"a-{number}", Status.PLANNING, minutes=20 + number)
    seen = set()
    for _ in range(20):
        watch = found(stack)
        assert (len(watch.agents), watch.left_out) == (2, 1)
        seen |= {agent.agent_id for agent in watch.agents}
    assert seen == {"a-0", "a-1", "a-2"}


def test_who_waits_for_an_operator_takes_nobodys_place(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LIMIT", 2)
    for number in range(9):
        place(stack, f"waits-{number}", Status.WAITING_FOR_OPERATOR)
    place(stack, "stands", Status.PLANNING_FAILED)
    for _ in range(5):
        watch = found(stack)
        assert watch.agents[0].agent_id == "stands"
        assert (len(watch.agents), watch.left_out) == (2, 8)


def test_the_longest_answer_fits_a_state(stack: Stack) -> None:
    for number in range(load.LIMIT):
        words = {"owner": OWNER.ljust(400, "x"), "error": "E" * 100, "errorMessage": "ü" * 4000}
        place(stack, f"{number:064d}", Status.TOOL_EXECUTION_PENDING, state=words)
    answer = found(stack)
    assert (len(answer.agents), answer.left_out) == (load.LIMIT, 0)
    assert len(json.dumps(answer.dump(), ensure_ascii=False).encode()) < 256 * 1024


def test_the_handler_tells_who_waits_for_an_operator(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("load_watch.handler.reading_client", lambda: stack.dynamodb)
    monkeypatch.setenv("TABLE_NAME", stack.outputs.table_name)
    monkeypatch.setenv("STALE_MINUTES", "15")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "turnstile")
    for number in range(3):
        place(stack, f"a-{number}", Status.WAITING_FOR_OPERATOR)
    place(stack, "a-3", Status.WAITING_FOR_INPUT)
    context = {"function_name": "load-watch", "invoked_function_arn": "arn", "aws_request_id": "1"}
    answer = handler({}, SimpleNamespace(**context, memory_limit_in_mb=512))
    assert len(Watch.model_validate(answer).agents) == 3
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Turnstile"
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    told = (metrics["service"], metrics["AgentsWaitingForOperator"], metrics["AgentsLeftOut"])
    assert told == ("turnstile", [3.0], [0.0])
