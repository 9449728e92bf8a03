"""LoadWatch: the agents that stand still, found from the table alone."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit import records
from tests.unit.stacks import mock_stack, put
from turnstile_agents.items import SCHEMA_VERSION
from turnstile_agents.load_watch import load
from turnstile_agents.load_watch.handler import handler
from turnstile_agents.load_watch.load import Patience, Stale, Watch, count_run, find_stale
from turnstile_agents.record import Status
from turnstile_cli.stack.client import Stack

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
FREE = {
    "nextAction": "NONE",
    "owner": "NONE",
    "error": "",
    "errorMessage": "",
    "waitsFor": "",
    "remindedOf": "",
    "parent": "",
    "children": "[]",
}
OWNER = "arn:aws:states:us-east-1:123456789012:execution:turnstile-AgentTurn:1"


@pytest.fixture
def stack() -> Iterator[Stack]:
    with mock_stack() as stack:
        yield stack


def place(stack: Stack, agent_id: str, status: Status, *, minutes: int = 20, state: Mapping[str, str] = FREE) -> None:
    """Put an agent whose record has not moved for `minutes`."""
    moved = (NOW - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    put(stack, records.state(agentId=agent_id, status=status, lastUpdated=moved, **{**FREE, **state}))
    stack.dynamodb.update_item(
        TableName=stack.outputs.table_name,
        Key={"agentId": {"S": agent_id}, "record": {"S": "STATE"}},
        UpdateExpression="SET step = :step",
        ExpressionAttributeValues={":step": {"N": "7"}},
    )


def found(stack: Stack, run: int = 0) -> Watch:
    patience = Patience(stale=timedelta(minutes=15), approval=timedelta(minutes=60), watch=timedelta(minutes=5))
    return find_stale(stack.table, NOW, patience, run)


def ids(stack: Stack) -> list[str]:
    return sorted(agent.agent_id for agent in found(stack).agents)


def test_in_these_statuses_an_execution_must_be_at_work(stack: Stack) -> None:
    for status in Status:
        place(stack, status, status, state=FREE | {"waitsFor": "4"})
    assert set(ids(stack)) == {
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


def test_an_agent_that_has_moved_lately_is_not_found(stack: Stack) -> None:
    place(stack, "young", Status.PLANNING, minutes=14)
    place(stack, "old", Status.PLANNING, minutes=16)
    assert ids(stack) == ["old"]


def approval(stack: Stack, agent_id: str, minutes: int, reminded_of: str = "4") -> None:
    """Put an agent that has waited for an approval for `minutes`; its approver was reminded of `reminded_of`."""
    state = {"waitsFor": "4", "remindedOf": reminded_of}
    place(stack, agent_id, Status.WAITING_FOR_APPROVAL, minutes=minutes, state=state)


def test_an_approval_has_a_time_of_its_own(stack: Stack) -> None:
    for minutes in (59, 61):
        approval(stack, f"a-{minutes}", minutes)
    [agent] = found(stack).agents
    told = (agent.agent_id, agent.status, agent.waits_for, agent.reminded)
    assert told == ("a-61", Status.WAITING_FOR_APPROVAL, "4", True)


@pytest.mark.parametrize("before", ["", "2"])
def test_an_approver_is_reminded_once_when_half_of_the_time_is_over(stack: Stack, before: str) -> None:
    for minutes in (29, 31, 39, 41):
        approval(stack, f"a-{minutes}", minutes, reminded_of=before)
    approval(stack, "told", 31)
    # Two runs may remind, and a third run need not look at approvals with a reminder.
    assert ids(stack) == ["a-31", "a-39"]
    assert {agent.reminded for agent in found(stack).agents} == {False}


def test_no_approval_expires_before_its_approver_was_reminded(stack: Stack) -> None:
    approval(stack, "a-61", 61, reminded_of="")
    [agent] = found(stack).agents
    assert (agent.agent_id, agent.reminded) == ("a-61", False)


def test_a_short_patience_finds_an_approval_once(stack: Stack) -> None:
    for minutes in range(4):
        approval(stack, f"a-{minutes}", minutes, reminded_of="")
    for patience in (Patience(timedelta(0), timedelta(0), timedelta(minutes=5)), Patience(*[timedelta(minutes=1)] * 3)):
        agents = find_stale(stack.table, NOW, patience, 0).agents
        assert len({agent.agent_id for agent in agents}) == len(agents) >= 3


def test_an_approval_with_a_reminder_takes_no_place_of_others(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LIMIT", 2)
    for number in range(5):
        approval(stack, f"told-{number}", 31)
    approval(stack, "untold", 31, reminded_of="")
    for number in range(3):
        place(stack, f"asks-{number}", Status.WAITING_FOR_OPERATOR)
    watch = found(stack)
    assert watch.agents[0].agent_id == "untold"
    assert (len(watch.agents), watch.left_out) == (2, 2)


def delegate(stack: Stack, agent_id: str, *children: str, minutes: int = 20) -> None:
    """Put a parent that has waited for these children for `minutes`. An earlier child of it was never created."""
    state = {"waitsFor": "4", "children": json.dumps(["abandoned", *children])}
    place(stack, agent_id, Status.WAITING_FOR_AGENT, minutes=minutes, state=state)
    decision = records.decision("DELEGATE", children=[records.child("u1", child) for child in children])
    put(stack, {**records.decided(4, decision), "agentId": agent_id})


def family(stack: Stack, **statuses: Status) -> None:
    """Put a parent that has waited for long, and its children."""
    delegate(stack, "parent", *statuses)
    for agent_id, status in statuses.items():
        place(stack, agent_id, status, minutes=1, state={"parent": "parent"})


def test_ends_that_a_parent_has_not_heard_of_are_found(stack: Stack) -> None:
    family(stack, a=Status.COMPLETED, b=Status.FAILED, c=Status.CANCELLED, d=Status.PLANNING, e=Status.COMPLETED)
    put(stack, {**records.reported("e"), "agentId": "parent"})
    assert ids(stack) == ["a", "b", "c"]
    assert {agent.status for agent in found(stack).agents} == {Status.COMPLETED, Status.FAILED, Status.CANCELLED}


def test_a_parent_of_children_that_do_not_exist_is_found_once(stack: Stack) -> None:
    family(stack, a=Status.PLANNING)
    delegate(stack, "lost", "x", "y")
    [agent] = found(stack).agents
    assert (agent.agent_id, agent.status, agent.waits_for) == ("lost", Status.WAITING_FOR_AGENT, "4")


def test_an_agent_in_the_place_of_a_child_is_not_announced(stack: Stack) -> None:
    family(stack, a=Status.COMPLETED, b=Status.COMPLETED)
    place(stack, "a", Status.COMPLETED, minutes=1)
    assert ids(stack) == ["b", "parent"]


def test_a_parent_that_waits_for_nothing_does_not_stop_the_watch(stack: Stack) -> None:
    place(stack, "odd", Status.WAITING_FOR_AGENT)
    place(stack, "odder", Status.WAITING_FOR_AGENT, state={"waitsFor": "1"})
    put(stack, {**records.user(), "agentId": "odder"})
    place(stack, "stands", Status.PLANNING)
    assert ids(stack) == ["stands"]


def test_a_parent_has_the_time_that_others_have(stack: Stack) -> None:
    delegate(stack, "young", "x", minutes=14)
    assert ids(stack) == []


def test_the_record_of_a_parent_counts_and_not_the_index(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    place(stack, "gone-on", Status.PLANNING, minutes=1, state={"children": '["x"]'})
    index = {Status.WAITING_FOR_AGENT: ["gone-on"]}
    monkeypatch.setattr(stack.table, "ids_in_status", lambda status, *_: index.get(status, []))
    assert ids(stack) == []


@pytest.mark.parametrize("broken", [{"depth": "deep"}, {"schemaVersion": str(SCHEMA_VERSION + 1)}])
def test_a_broken_record_keeps_no_help_from_the_others(
    stack: Stack, caplog: pytest.LogCaptureFixture, broken: dict[str, str]
) -> None:
    place(stack, "broken", Status.PLANNING, state=broken)
    place(stack, "stands", Status.PLANNING)
    delegate(stack, "waits", "child")
    place(stack, "child", Status.COMPLETED, state=FREE | broken | {"parent": "waits"})
    assert ids(stack) == ["stands"]
    assert {vars(warning)["agentId"] for warning in caplog.records} == {"broken", "waits"}


def test_it_asks_for_nothing_that_its_role_does_not_allow(stack: Stack) -> None:
    """Check the requests against the policy of LoadWatch: single items, and the index."""
    asked: set[tuple[str, str]] = set()

    def note(params: Any, model: Any, **_: Any) -> None:
        asked.add((model.name, params.get("IndexName", "")))

    family(stack, a=Status.COMPLETED)
    place(stack, "stands", Status.PLANNING)
    stack.dynamodb.meta.events.register("provide-client-params.dynamodb", note)
    assert ids(stack) == ["a", "stands"]
    assert asked == {("GetItem", ""), ("Query", "ByStatus")}


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
            waits_for="",
            reminded=True,
            parent="",
            error="Odd",
            error_message="x" * 1000,
        ),
        Stale(
            agent_id="a-2",
            step=7,
            status=Status.INITIATED,
            next_action="PLANNING",
            owner="NONE",
            waits_for="",
            reminded=True,
            parent="",
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
    put(stack, {**records.state(), **state, **now})
    monkeypatch.setattr(stack.table, "ids_in_status", lambda *_: ["a-1"])
    monkeypatch.setattr(load, "WATCHED", {Status.PLANNING})
    assert found(stack).agents == []


@pytest.mark.parametrize("status", [Status.PLANNING, Status.WAITING_FOR_OPERATOR, Status.WAITING_FOR_APPROVAL])
def test_of_too_many_agents_each_has_its_turn(stack: Stack, monkeypatch: pytest.MonkeyPatch, status: Status) -> None:
    monkeypatch.setattr(load, "LIMIT", 4)  # the three other kinds are missing, and leave their places
    names = {f"a-{number}" for number in range(10)}
    for number, name in enumerate(sorted(names)):
        place(stack, name, status, minutes=70 + number, state=FREE | {"waitsFor": "4", "remindedOf": "4"})
    seen: set[str] = set()
    for run in range(7, 14):
        watch = found(stack, run)
        assert (len(watch.agents), watch.left_out, watch.rotation_minutes) == (4, 6, 15)
        seen |= {agent.agent_id for agent in watch.agents}
    assert seen == names


def test_each_kind_is_sure_of_its_share(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LIMIT", 8)
    for number in range(9):
        place(stack, f"asks-{number}", Status.WAITING_FOR_OPERATOR)
        place(stack, f"stands-{number}", Status.PLANNING)
        approval(stack, f"late-{number}", 61)
    family(stack, **{f"child-{number}": Status.COMPLETED for number in range(9)})
    watch = found(stack)
    kinds = Counter(agent.agent_id.partition("-")[0] for agent in watch.agents)
    assert kinds == {"stands": 2, "late": 2, "child": 2, "asks": 2}
    assert watch.left_out == 4 * 9 - 8


def test_a_stuck_parent_behind_more_than_one_run_looks_at_is_found(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "LOOKS", 10)
    for number in range(21):
        place(stack, f"c-{number:02d}", Status.PLANNING, minutes=1, state={"parent": f"p-{number:02d}"})
        delegate(stack, f"p-{number:02d}", f"c-{number:02d}", minutes=90)
    delegate(stack, "p-99", "missing")
    seen = []
    for run in range(3):
        watch = found(stack, run)
        assert (watch.left_out, watch.rotation_minutes) == (12, 15)
        seen += [agent.agent_id for agent in watch.agents]
    assert seen == ["p-99"]


def test_where_nothing_stands_still_nothing_is_left_out(stack: Stack) -> None:
    watch = found(stack)
    assert (watch.agents, watch.left_out, watch.rotation_minutes) == ([], 0, 0)


def test_more_children_than_one_run_looks_after_are_counted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LIMIT", 2)
    family(stack, a=Status.COMPLETED, b=Status.COMPLETED, c=Status.COMPLETED)
    watch = found(stack)
    assert (len(watch.agents), watch.left_out) == (2, 1)


def test_the_longest_answer_fits_a_state(stack: Stack) -> None:
    for number in range(load.LIMIT):
        words = {"owner": OWNER.ljust(400, "x"), "error": "E" * 100, "errorMessage": "ü" * 4000}
        place(stack, f"{number:064d}", Status.TOOL_EXECUTION_PENDING, state=words)
    answer = found(stack)
    assert (len(answer.agents), answer.left_out) == (load.LIMIT, 0)
    assert len(json.dumps(answer.dump(), ensure_ascii=False).encode()) < 256 * 1024


def test_the_handler_reports_the_agents_that_wait_for_an_operator_and_those_whose_work_has_not_begun(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("turnstile_agents.load_watch.handler.table", lambda: stack.table)
    monkeypatch.setenv("TABLE_NAME", stack.outputs.table_name)
    monkeypatch.setenv("STALE_MINUTES", "15")
    monkeypatch.setenv("APPROVAL_MINUTES", "60")
    monkeypatch.setenv("WATCH_MINUTES", "5")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "turnstile")
    for number in range(3):
        place(stack, f"a-{number}", Status.WAITING_FOR_OPERATOR)
    place(stack, "a-3", Status.WAITING_FOR_INPUT)
    place(stack, "announced", Status.PLANNING, state={"nextAction": "PLANNING"})
    place(stack, "failed", Status.TOOL_EXECUTION_FAILED)
    place(stack, "works", Status.PLANNING, state={"owner": OWNER})
    context = {"function_name": "load-watch", "invoked_function_arn": "arn", "aws_request_id": "1"}
    answer = handler({}, SimpleNamespace(**context, memory_limit_in_mb=512))
    assert len(Watch.model_validate(answer).agents) == 6
    assert count_run(stack.table) == 2  # the handler counted the first run
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Turnstile"
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    told = {name: metrics[name] for name in ("service", "AgentsWaitingForOperator", "WorkNotBegun", "AgentsLeftOut")}
    assert told == {
        "service": "turnstile",
        "AgentsWaitingForOperator": [3.0],
        "WorkNotBegun": [2.0],
        "AgentsLeftOut": [0.0],
    }
