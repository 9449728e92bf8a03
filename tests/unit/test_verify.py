"""Verify: a promise of the machines that a test breaks is found at its place; a sound record has no findings."""

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner

from agents.travel.sample import inventory_findings
from tests.unit import records
from tests.unit.records import (
    COMMITTED,
    SPENT,
    UNCERTAIN,
    answered,
    arrived,
    call,
    came,
    cancelling,
    child,
    decided,
    decision,
    recovered,
    reported,
    ruled,
    said,
    state,
    use,
    user,
)
from tests.unit.records import record as read_record
from tests.unit.stacks import OUTPUTS, mock_stack, put
from turnstile_agents.items import Attributes
from turnstile_agents.record import FINISHED, Answer, Call, CallResult, Decision, Outcome, Status
from turnstile_cli import cli
from turnstile_cli import verify as module
from turnstile_cli.cli import common
from turnstile_cli.stack.client import Stack, UnknownAgent
from turnstile_cli.verify import Kind, family_findings, findings, verify

Record = dict[str, dict[str, str]]
"""An agent's items by `record`, for a test to break."""
Changes = Mapping[str, Mapping[str, str] | None]
OWNER = "arn:turn#2026-01-01T00:00:00Z"
BOOKED = "EFFECT#000002#1"
PARTNER, UNDONE = f"{BOOKED}#ALT1", f"{BOOKED}#UNDO#1"
REFUSED = CallResult(outcome=Outcome.REJECTED, error="ToolRejected", message="no seats")
NOON = "2026-01-01T12:00:00Z"


def effect(record: str, status: str, tool: str = "book", **fields: str) -> dict[str, str]:
    result = json.dumps(COMMITTED.value) if status in ("COMMITTED", "COMPENSATING", "COMPENSATED") else ""
    return {**records.effect(record, status, tool, owner=OWNER, result=result), **fields}


def record(*items: Attributes, **fields: str) -> Record:
    """Return the items, and a STATE that is their fold."""
    made: list[dict[str, str]] = [dict(item) for item in items]
    model = sum(item.get("who") == "MODEL" for item in made)
    news = sum(item.get("type") == "AgentStateUpdated" for item in made)
    counted = {
        "step": sum(item["record"].startswith("STEP#") for item in made),
        "inbox": sum(item["record"].startswith("INPUT#") for item in made),
        "modelCalls": model,
        "toolCalls": sum(len(json.loads(item["results"])) for item in made if item.get("who") == "TOOLS"),
        "cancels": sum(item.get("type") == "AgentCancelRequested" for item in made),
        "inputTokens": 10 * model + 100 * news,
        "outputTokens": 2 * model + 20 * news,
        "costMicroUsd": 5 * model + 50 * news,
    }
    at_rest = {"owner": "NONE", "nextAction": "NONE", "error": "", "lastUpdatedBy": "arn:turn", "lastUpdated": NOON}
    counted["ends"] = fields.get("status") in FINISHED
    made.append({**state(), **{name: str(int(number)) for name, number in counted.items()}, **at_rest, **fields})
    entry = {"at": "2026-01-01T00:00:00Z", "execution": "arn:turn"}
    return {
        item["record"]: {"agentId": "a-1", **(entry if item["record"].startswith("STEP#") else {}), **item}
        for item in made
    }


def asked(step: int, *calls: Call) -> Attributes:
    """Return the model's decision to make these calls."""
    made = decision("TOOL_USE", calls=list(calls), status=Status.TOOL_EXECUTION_PENDING)
    return decided(step, made, said(*(use(each.tool_use_id, each.name, **each.input) for each in calls)))


def built_in(step: int, action: str, name: str, *messages: dict[str, Any], **fields: Any) -> Attributes:
    made = decision(action, **{"status": Status.PLANNING_COMPLETE, "tool_use_id": f"u{step}", **fields})
    return decided(step, made, *messages, said(use(f"u{step}", name)), inputs=("INPUT#e1",) if messages else ())


LOOK, BOOK = call("u2", "look"), call("u3", "book", index=1)
WITH_PARTNER = BOOK.model_copy(
    update={"alternative": BOOK.model_copy(update={"name": "partner", "key": PARTNER, "function": "f"})}
)


def finished() -> Record:
    """Return an agent that looked, booked, planned again, asked, and completed."""
    answer = {"ToolResult": {"ToolUseId": "u5", "Content": [{"Text": "Monday"}], "Status": "success"}}
    return record(
        user(),
        asked(2, LOOK, BOOK),
        answered(3, COMMITTED, COMMITTED),
        built_in(4, "REPLAN", "update_plan", answers=[Answer(tool_use_id="u4", text="Kept.")], tool_use_id=""),
        built_in(5, "ASK_USER", "ask_user", message="When?"),
        built_in(6, "COMPLETE", "complete", said(answer, role="user")),
        arrived("e1", "Monday"),
        effect(BOOKED, "COMMITTED"),
        replans="1",
        status="COMPLETED",
    )


def waiting() -> Record:
    """Return an agent that has asked its user."""
    return record(user(), built_in(2, "ASK_USER", "ask_user"), status="WAITING_FOR_INPUT")


def carrying_out(*calls: Call, **effects: str) -> Record:
    """Return an agent whose turn is carrying out calls."""
    made = [effect(key, status) for key, status in effects.items()]
    return record(user(), asked(2, *calls), *made, owner=OWNER, status="TOOL_EXECUTION_PENDING")


def failed_over() -> Record:
    """Return an agent whose booking was unavailable, and was made with the partner."""
    return record(
        user(),
        asked(2, LOOK, WITH_PARTNER),
        answered(3, COMMITTED, COMMITTED),
        effect(BOOKED, "FAILED", error="ToolUnavailable"),
        effect(PARTNER, "COMMITTED", "partner"),
        owner=OWNER,
        status="TOOL_EXECUTION_SUCCESS",
    )


def compensated() -> Record:
    """Return an agent whose booking was undone, and whose user was asked for an alternative."""
    return record(
        user(),
        asked(2, LOOK, BOOK),
        answered(3, COMMITTED, COMMITTED),
        recovered(4, "COMPENSATE", text="Everything was undone.", question="What instead?"),
        effect(BOOKED, "COMPENSATED"),
        effect(UNDONE, "COMMITTED", "cancel"),
        error="GivenUp",
        status="WAITING_FOR_INPUT",
    )


def retried() -> Record:
    """Return an agent whose turn died in a call; a recovery settled it, and the next turn gave its result."""
    return record(
        user(),
        asked(2, LOOK, BOOK),
        recovered(3, "RETRY"),
        answered(4, COMMITTED, COMMITTED),
        effect(BOOKED, "COMMITTED"),
        owner=OWNER,
        status="TOOL_EXECUTION_SUCCESS",
    )


def doubted(status: str = "UNCERTAIN") -> Record:
    """Return an agent that waits for its operator, because the outcome of a call is unknown."""
    return record(
        user(),
        asked(2, LOOK, BOOK),
        answered(3, COMMITTED, UNCERTAIN),
        effect(BOOKED, status),
        {
            "record": "OPERATOR",
            "token": "t",
            "askedAt": "2026-01-01T00:00:00Z",
            "question": "?",
            "reminders": "1",
            "questionId": "1",
        },
        owner=OWNER,
        error="EffectUncertain",
        status="WAITING_FOR_OPERATOR",
    )


GROUP = BOOK.model_copy(update={"approval": True})
PAIR = [child("u2", "child-1"), child("u3", "child-2")]


def asking(*items: Attributes, **fields: str) -> Record:
    """Return an agent that asks for approval of a call, with these items after it."""
    held = {"calls": [LOOK, GROUP], "closes_as": Status.WAITING_FOR_APPROVAL, "waits_for": "2"}
    made = decision("ASK_APPROVAL", status=Status.PLANNING_COMPLETE, **held)
    uses = (use(each.tool_use_id, each.name, **each.input) for each in (LOOK, GROUP))
    return record(
        user(),
        decided(2, made, said(*uses)),
        *items,
        **{"status": "WAITING_FOR_APPROVAL", "waitsFor": "2", **fields},
    )


def approved() -> Record:
    """Return an agent whose calls were approved and carried out."""
    made = [ruled("2", "APPROVE"), answered(3, COMMITTED, COMMITTED), effect(BOOKED, "COMMITTED")]
    return asking(*made, owner=OWNER, status="TOOL_EXECUTION_SUCCESS")


def results_of(*uses: str) -> dict[str, Any]:
    """Return the message that answers tool uses."""
    blocks = [{"ToolResult": {"ToolUseId": each, "Content": [{"Text": "…"}], "Status": "error"}} for each in uses]
    return said(*blocks, role="user")


def ended(step: int, *inputs: str) -> Attributes:
    """Return the decision with which the model completes, once it has heard the results of its two tool uses."""
    made = decision("COMPLETE", status=Status.PLANNING_COMPLETE, tool_use_id="u9")
    return decided(step, made, results_of("u2", "u3"), said(use("u9", "complete")), inputs=inputs)


def refused() -> Record:
    """Return an agent whose calls were refused."""
    return asking(ruled("2", "REFUSE"), ended(3, "INPUT#d1"), status="COMPLETED")


def delegating(*items: Attributes, **fields: str) -> Record:
    """Return an agent that has delegated, with these items after it."""
    made = decision("DELEGATE", status=Status.PLANNING_COMPLETE, children=PAIR, waits_for="2")
    uses = (use(each.tool_use_id, "delegate") for each in PAIR)
    known = {"status": "WAITING_FOR_AGENT", "waitsFor": "2", "children": '["child-1", "child-2"]'}
    return record(user(), decided(2, made, said(*uses)), *items, **{**known, **fields})


def delegated() -> Record:
    """Return an agent whose two children have reported."""
    news = [reported("child-1"), reported("child-2", "FAILED")]
    return delegating(*news, ended(3, "INPUT#child-1", "INPUT#child-2"), status="COMPLETED")


def late() -> Record:
    """Return an agent that planned again and asks its user, when an earlier child reports."""
    asks = built_in(4, "ASK_USER", "ask_user")
    return delegating(
        recovered(3, "REPLAN", text="Plan."), asks, reported("child-1"), replans="1", status="WAITING_FOR_INPUT"
    )


def aborted() -> Record:
    """Return an agent that its operator has ended."""
    return record(user(), recovered(2, "ABORT"), status="FAILED", error="AccessDenied")


def undone_for_its_parent() -> Record:
    """Return a child that ended because its booking was undone."""
    return changed(compensated(), {"STEP#000004": {"status": "FAILED"}, "STATE": {"status": "FAILED", "ends": "1"}})


ASKS_AGAIN = {"status": "WAITING_FOR_OPERATOR", "owner": OWNER}
"""STATE while a recovery asks its operator."""


SOUND: dict[str, Callable[[], Record]] = {
    "new": lambda: record(user(), status="INITIATED", nextAction="PLANNING"),
    "finished": finished,
    "waiting": waiting,
    "failed over": failed_over,
    "compensated": compensated,
    "retried": retried,
    "doubted": doubted,
    "settled later": lambda: doubted("COMMITTED"),
    "carrying out": lambda: carrying_out(LOOK, BOOK, **{BOOKED: "RESERVED"}),
    "undoing": lambda: changed(doubted("COMPENSATING"), {UNDONE: effect(UNDONE, "RESERVED", "cancel")}),
    "undo failed": lambda: changed(finished(), {UNDONE: effect(UNDONE, "FAILED", "cancel")}),
    "undone by the tenth attempt": lambda: changed(
        compensated(),
        {
            f"{BOOKED}#UNDO#{attempt}": effect(
                f"{BOOKED}#UNDO#{attempt}", "COMMITTED" if attempt == 10 else "FAILED", "cancel"
            )
            for attempt in range(1, 11)
        },
    ),
    "cancelled with an undo that is not known": lambda: changed(
        SOUND["undoing"](),
        {
            UNDONE: effect(UNDONE, "UNCERTAIN", "cancel"),
            "INPUT#c1": cancelling(),
            "STATE": {"owner": "NONE", "status": "CANCELLED", "ends": "1", "inbox": "1", "cancels": "1"},
        },
    ),
    "planned again by recovery": lambda: record(
        user(),
        recovered(2, "REPLAN", text="Plan again."),
        replans="1",
        nextAction="REPLAN",
        error="TooManyWrongReplies",
    ),
    "asking for approval": asking,
    "approved": approved,
    "about to be approved": lambda: asking(ruled("2", "APPROVE"), status="PLANNING", nextAction="PLANNING"),
    "refused": refused,
    "delegating": delegating,
    "waiting for one of two": lambda: delegating(reported("child-1")),
    "delegated": delegated,
    "told late": late,
    "cancelled while it waited": lambda: asking(cancelling("Too late."), status="CANCELLED"),
    "cancelled by a recovery": lambda: record(user(), recovered(2, "CANCEL"), cancelling(), status="CANCELLED"),
    "with more in an event": lambda: record(
        user(), came("e1", "AgentInputReceived", agentId="a-1", text="Hm.", mood="low"), owner=OWNER
    ),
    "to be recovered": lambda: record(user(), status="PLANNING_FAILED", error="States.Timeout"),
    "being recovered": lambda: record(user(), status="PLANNING_FAILED", error="GivenUp", owner=OWNER),
    "failed": lambda: record(user(), recovered(2, "FAIL"), status="FAILED", error="GivenUp"),
    "aborted": aborted,
    "undone for its parent": undone_for_its_parent,
    "cancelled in the end": lambda: record(user(), recovered(2, "CANCEL"), cancelling(), status="CANCELLED"),
    "answered, and failed again": lambda: changed(
        compensated(), {"INPUT#e1": arrived("e1", "Monday"), "STATE": {**ASKS_AGAIN, "inbox": "1"}}
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_record(name: str) -> None:
    assert findings(SOUND[name]().values()) == []


def test_no_items() -> None:
    assert findings([]) == []


def changed(items: Record, changes: Changes) -> Record:
    """Return the items with other attributes, with more items, and without the items whose change is None."""
    for name, change in changes.items():
        if change is None:
            del items[name]
        else:
            items[name] = {"agentId": "a-1", **items.get(name, {}), **change}
    return items


def told(items: Record, over: dict[str, str] | None = None) -> set[tuple[str, str]]:
    return {(finding.kind, finding.record) for finding in findings(items.values(), over or {})}


def results(*made: CallResult) -> dict[str, str]:
    return {"results": answered(3, *made)["results"]}


def decisions(made: Decision) -> dict[str, str]:
    return {"decision": made.model_dump_json(by_alias=True)}


BROKEN: list[tuple[Callable[[], Record], Changes, str, str]] = [
    # ---- unreadable records
    (finished, {"STATE": None}, "RECORD_UNREADABLE", "STATE"),
    (finished, {"STATE": {"status": "ASLEEP"}}, "RECORD_UNREADABLE", "STATE"),
    (finished, {"STATE": {"step": "six"}}, "RECORD_UNREADABLE", "STATE"),
    (finished, {"STEP#000002": {"decision": "{}"}}, "RECORD_UNREADABLE", "STEP#000002"),
    (finished, {"STEP#000003": {"who": "STRANGER"}}, "RECORD_UNREADABLE", "STEP#000003"),
    (finished, {BOOKED: {"status": "ASLEEP"}}, "RECORD_UNREADABLE", BOOKED),
    (finished, {BOOKED: {"result": ""}}, "RECORD_UNREADABLE", BOOKED),
    (finished, {"NOTE#1": {"record": "NOTE#1"}}, "RECORD_UNREADABLE", "NOTE#1"),
    (finished, {"INPUT#e1": {"type": "AgentError"}}, "RECORD_UNREADABLE", "INPUT#e1"),
    (finished, {"INPUT#e1": {"detail": "Monday"}}, "RECORD_UNREADABLE", "INPUT#e1"),
    (finished, {"INPUT#e1": {"detail": "{}"}}, "RECORD_UNREADABLE", "INPUT#e1"),
    (finished, {"INPUT#e1": {"inputTokens": "some"}}, "RECORD_UNREADABLE", "INPUT#e1"),
    (approved, {"INPUT#d1": {"detail": ruled("2", "MAYBE")["detail"]}}, "RECORD_UNREADABLE", "INPUT#d1"),
    # ---- the journal and STATE
    (finished, {"STEP#000004": None}, "JOURNAL_GAP", "STEP#000004"),
    (finished, {"STATE": {"step": "5"}}, "JOURNAL_GAP", "STEP#000006"),
    (finished, {"STATE": {"step": "7"}}, "JOURNAL_GAP", "STEP#000007"),
    *(
        (finished, {"STATE": {name: "99"}}, "COUNTER_WRONG", "STATE")
        for name in (
            "modelCalls",
            "toolCalls",
            "replans",
            "inputTokens",
            "outputTokens",
            "costMicroUsd",
            "inbox",
            "cancels",
        )
    ),
    *((delegated, {"INPUT#child-1": {name: "0"}}, "COUNTER_WRONG", "STATE") for name in SPENT),
    (compensated, {"STEP#000004": {"action": "REPLAN"}}, "COUNTER_WRONG", "STATE"),
    (waiting, {"STATE": {"status": "COMPLETED", "ends": "1"}}, "STATUS_WRONG", "STATE"),
    (finished, {"STATE": {"status": "WAITING_FOR_INPUT", "ends": "0"}}, "STATUS_WRONG", "STATE"),
    (finished, {"STATE": {"status": "FAILED"}}, "STATUS_WRONG", "STATE"),
    (finished, {"STATE": {"status": "PLANNING_FAILED", "ends": "0"}}, "STATUS_WRONG", "STATE"),
    (finished, {"STATE": {"status": "TOOL_EXECUTION_FAILED", "ends": "0"}}, "STATUS_WRONG", "STATE"),
    (finished, {"STATE": {"nextAction": "PLANNING"}}, "STATUS_WRONG", "STATE"),
    (finished, {"STATE": {"owner": OWNER}}, "STATUS_WRONG", "STATE"),
    (compensated, {"STEP#000004": {"question": ""}}, "STATUS_WRONG", "STATE"),
    (retried, {"STATE": {"status": "INITIATED"}}, "STATUS_WRONG", "STATE"),
    (retried, {"STATE": {"status": "PLANNING_COMPLETE"}}, "STATUS_WRONG", "STATE"),
    (retried, {"STATE": {"status": "TOOL_EXECUTION_PENDING"}}, "STATUS_WRONG", "STATE"),
    (retried, {"STATE": {"status": "PLANNING", "nextAction": "PLANNING"}}, "STATUS_WRONG", "STATE"),
    (SOUND["carrying out"], {"STATE": {"status": "TOOL_EXECUTION_SUCCESS"}}, "STATUS_WRONG", "STATE"),
    (retried, {"STATE": {"owner": "NONE"}}, "AGENT_LOST", "STATE"),
    (doubted, {"STATE": {"owner": "NONE"}}, "AGENT_LOST", "STATE"),
    # ---- the answer that it waits for
    *(
        (waiting, {"STATE": {"status": status}}, "STATUS_WRONG", "STATE")
        for status in ("WAITING_FOR_APPROVAL", "WAITING_FOR_AGENT")
    ),
    (waiting, {"STATE": {"status": "CANCELLED", "ends": "1"}}, "STATUS_WRONG", "STATE"),
    # ---- its end
    (finished, {"STATE": {"ends": "0"}}, "COUNTER_WRONG", "STATE"),
    (finished, {"STATE": {"ends": "2"}}, "END_LEFT", "STATE"),
    (finished, {"STATE": {"status": "PLANNING", "owner": OWNER}}, "END_LEFT", "STATE"),
    (waiting, {"STATE": {"ends": "1"}}, "END_LEFT", "STATE"),
    *(
        (each, {"STATE": {**ASKS_AGAIN, "ends": ends}}, "END_LEFT", "STATE")
        for each in (aborted, undone_for_its_parent, SOUND["cancelled by a recovery"])
        for ends in "01"
    ),
    (aborted, {"STATE": {"owner": OWNER}}, "STATUS_WRONG", "STATE"),
    (SOUND["failed"], {"STEP#000002": {"status": "PLANNING"}}, "STATUS_WRONG", "STATE"),
    (compensated, {"STATE": ASKS_AGAIN}, "STATUS_WRONG", "STATE"),
    *((each, {"STATE": {"waitsFor": "1"}}, "STATUS_WRONG", "STATE") for each in (asking, delegating)),
    *((each, {"STATE": {"owner": OWNER}}, "STATUS_WRONG", "STATE") for each in (asking, delegating)),
    (asking, {BOOKED: effect(BOOKED, "FAILED")}, "EFFECT_UNAPPROVED", BOOKED),
    (refused, {BOOKED: effect(BOOKED, "FAILED")}, "EFFECT_UNAPPROVED", BOOKED),
    (approved, {"INPUT#d1": {"detail": ruled("3", "APPROVE")["detail"]}}, "EFFECT_UNAPPROVED", BOOKED),
    (delegating, {"STATE": {"children": '["child-1"]'}}, "CHILD_UNDECIDED", "STATE"),
    (delegating, {"STATE": {"children": '["child-1", "child-2", "child-3"]'}}, "CHILD_UNDECIDED", "STATE"),
    (
        late,
        {"INPUT#child-1": None, "INPUT#child-9": {**reported("child-9"), **SPENT}},
        "CHILD_UNDECIDED",
        "INPUT#child-9",
    ),
    # ---- the inbox and the conversation
    (finished, {"INPUT#e1": None, "STATE": {"inbox": "0"}}, "INPUT_MISSING", "INPUT#e1"),
    (finished, {"STEP#000005": {"inputs": '["INPUT#e1"]'}}, "INPUT_TWICE", "INPUT#e1"),
    (finished, {"INPUT#e2": arrived("e2", "Wait"), "STATE": {"inbox": "2"}}, "INPUT_UNHEARD", "INPUT#e2"),
    (waiting, {"INPUT#e2": arrived("e2", "Wait"), "STATE": {"inbox": "1"}}, "INPUT_UNHEARD", "INPUT#e2"),
    (
        finished,
        {"STEP#000004": decisions(decision("REPLAN", status=Status.PLANNING_COMPLETE))},
        "CONVERSATION_BROKEN",
        "STEP#000006",
    ),
    (
        retried,
        {"STEP#000004": results(COMMITTED), "STATE": {"toolCalls": "1"}},
        "CONVERSATION_BROKEN",
        "STEP#000004",
    ),
    (waiting, {"STEP#000002": {"messages": "[]"}}, "CONVERSATION_BROKEN", "STEP#000002"),
    # ---- the ledger
    (SOUND["carrying out"], {"STATE": {"owner": "NONE", "nextAction": "PLANNING", "status": "PLANNING"}}, "", BOOKED),
    (SOUND["undoing"], {"STATE": {"owner": "NONE", "status": "PLANNING_FAILED"}}, "", UNDONE),
    (
        finished,
        {"STEP#000003": results(COMMITTED, UNCERTAIN), BOOKED: effect(BOOKED, "UNCERTAIN")},
        "EFFECT_UNSETTLED",
        BOOKED,
    ),
    (finished, {"EFFECT#000002#0": effect("EFFECT#000002#0", "COMMITTED")}, "EFFECT_UNDECIDED", "EFFECT#000002#0"),
    (finished, {"EFFECT#000002#2": effect("EFFECT#000002#2", "FAILED")}, "EFFECT_UNDECIDED", "EFFECT#000002#2"),
    (finished, {"EFFECT#000009#0": effect("EFFECT#000009#0", "FAILED")}, "EFFECT_UNDECIDED", "EFFECT#000009#0"),
    (finished, {PARTNER: effect(PARTNER, "FAILED")}, "EFFECT_UNDECIDED", PARTNER),
    (finished, {BOOKED: {"tool": "cancel"}}, "EFFECT_UNDECIDED", BOOKED),
    (finished, {BOOKED: {"input": '{"city": "London"}'}}, "EFFECT_UNDECIDED", BOOKED),
    (
        finished,
        {f"{PARTNER}#UNDO#1": effect(f"{PARTNER}#UNDO#1", "COMMITTED")},
        "EFFECT_UNDECIDED",
        f"{PARTNER}#UNDO#1",
    ),
    (finished, {BOOKED: None}, "EFFECT_MISSING", BOOKED),
    (finished, {BOOKED: effect(BOOKED, "FAILED")}, "EFFECT_MISSING", BOOKED),
    (failed_over, {PARTNER: effect(PARTNER, "FAILED", "partner")}, "EFFECT_MISSING", BOOKED),
    (retried, {BOOKED: None}, "EFFECT_MISSING", BOOKED),
    (finished, {BOOKED: {"result": "{}"}}, "EFFECT_CONTRADICTED", BOOKED),
    (finished, {"STEP#000003": results(COMMITTED, REFUSED)}, "EFFECT_CONTRADICTED", BOOKED),
    (compensated, {UNDONE: None}, "EFFECT_CONTRADICTED", BOOKED),
    (compensated, {UNDONE: effect(UNDONE, "FAILED", "cancel")}, "EFFECT_CONTRADICTED", BOOKED),
    (compensated, {BOOKED: effect(BOOKED, "COMMITTED")}, "EFFECT_CONTRADICTED", BOOKED),
    (lambda: doubted("COMPENSATING"), {}, "EFFECT_CONTRADICTED", BOOKED),
    # An undo that is settled without its effect, or an effect without its undo.
    (SOUND["undoing"], {UNDONE: effect(UNDONE, "COMMITTED", "cancel")}, "EFFECT_CONTRADICTED", BOOKED),
    (SOUND["undoing"], {UNDONE: effect(UNDONE, "FAILED", "cancel")}, "EFFECT_CONTRADICTED", BOOKED),
    (SOUND["undoing"], {BOOKED: effect(BOOKED, "COMMITTED")}, "EFFECT_CONTRADICTED", BOOKED),
    (compensated, {f"{BOOKED}#UNDO#2": effect(f"{BOOKED}#UNDO#2", "COMMITTED", "cancel")}, "EFFECT_TWICE", BOOKED),
    (compensated, {f"{BOOKED}#UNDO#x": effect(f"{BOOKED}#UNDO#x", "FAILED")}, "EFFECT_UNDECIDED", f"{BOOKED}#UNDO#x"),
    (failed_over, {BOOKED: effect(BOOKED, "COMMITTED")}, "EFFECT_TWICE", BOOKED),
]


@pytest.mark.parametrize(
    ("sound", "changes", "kind", "where"),
    BROKEN,
    ids=[f"{kind or 'EFFECT_UNSETTLED'}-{number}" for number, (_, _, kind, _) in enumerate(BROKEN)],
)
def test_what_is_broken_is_found_where_it_is(
    sound: Callable[[], Record], changes: Changes, kind: str, where: str
) -> None:
    places = where.split()
    assert told(changed(sound(), changes)) == {(kind or "EFFECT_UNSETTLED", place) for place in places}


def revived(items: Record, *entries: Attributes, **fields: str) -> Record:
    """Return the items, with entries that follow the last of their journal."""
    grown = record(*(item for name, item in items.items() if name != "STATE"), *entries)
    kept_as = {**items["STATE"], **{name: grown["STATE"][name] for name in ("step", "modelCalls")}, **fields}
    return {**grown, "STATE": kept_as}


@pytest.mark.parametrize(
    ("items", "found"),
    [
        # An operator's ABORT, and a second recovery that tried again.
        (
            lambda: revived(aborted(), recovered(3, "RETRY"), status="PLANNING", owner=OWNER),
            {("END_LEFT", "STATE"), ("END_LEFT", "STEP#000003")},
        ),
        # An operator's ABORT, a second recovery, and a second operator's ABORT.
        (
            lambda: revived(aborted(), recovered(3, "ABORT"), ends="2"),
            {("END_LEFT", "STATE"), ("END_LEFT", "STEP#000003")},
        ),
        # Everything was undone, and the user was asked; then a second recovery asked an operator and went on.
        (
            lambda: revived(compensated(), recovered(5, "RETRY"), status="PLANNING", owner=OWNER),
            {("STATUS_WRONG", "STEP#000005")},
        ),
        # A second recovery cancelled the agent once more.
        (
            lambda: revived(SOUND["cancelled by a recovery"](), recovered(3, "CANCEL"), ends="2"),
            {("END_LEFT", "STATE"), ("END_LEFT", "STEP#000003")},
        ),
        # The end of a child that was undone.
        (
            lambda: revived(undone_for_its_parent(), recovered(5, "FAIL"), ends="2"),
            {("END_LEFT", "STATE"), ("END_LEFT", "STEP#000005")},
        ),
    ],
)
def test_a_revival_is_found(items: Callable[[], Record], found: set[tuple[str, str]]) -> None:
    assert told(items()) == found


def test_two_kinds_of_doubt_about_an_alternative() -> None:
    """Check a call that may still take effect and that has an alternative: the alternative may be a second effect."""
    items = changed(failed_over(), {BOOKED: effect(BOOKED, "UNCERTAIN")})
    (found,) = findings(items.values())
    assert found.kind == Kind.EFFECT_TWICE
    assert found.text.startswith("book is UNCERTAIN, but partner was tried after it. Check ")


def test_an_owner_whose_execution_has_ended() -> None:
    items = carrying_out(LOOK, BOOK, **{BOOKED: "RESERVED"})
    assert told(items, {"arn:other": "FAILED"}) == set()
    lease, reservation = findings(items.values(), {"arn:turn": "TIMED_OUT"})
    assert (lease.agent_id, lease.kind, lease.record) == ("a-1", Kind.LEASE_DEAD, "STATE")
    assert lease.text == (
        "arn:turn holds the lease, but it has ended: TIMED_OUT. `turnstile resume a-1` lets a recovery take it over."
    )
    assert (reservation.kind, reservation.record) == (Kind.EFFECT_UNSETTLED, BOOKED)


# ---- Parents and their children


NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
CHILD = state(
    agent="helper", goal="A detail.", parent="a-1", depth="1", tokenLimit="1000", costLimit="1000", children='["a-1"]'
)
"""STATE of a child of a-1; in the tests about a child, STATE of the parent of a-1."""


def family(parent: Record, **children: tuple[str, str]) -> list[tuple[str, str, str]]:
    """Return the findings at noon about a parent, with children by status and time of their last change."""
    states = {
        # If the record is a child's, these agents are above it.
        name.replace("_", "-"): {
            **CHILD,
            "parent": "" if parent["STATE"]["parent"] else "a-1",
            "status": status,
            "lastUpdated": updated,
        }
        for name, (status, updated) in children.items()
    }
    found = family_findings(parent.values(), lambda name, record: states.get(name) if record == "STATE" else None, NOW)
    return [(each.agent_id, each.kind, each.record) for each in found]


LONG_AGO, JUST_NOW = "2026-01-01T11:00:00Z", "2026-01-01T11:59:30Z"


def test_children_that_work_are_waited_for() -> None:
    assert family(delegating(), child_1=("PLANNING", LONG_AGO), child_2=("WAITING_FOR_INPUT", LONG_AGO)) == []
    assert family(delegating(), child_1=("COMPLETED", JUST_NOW), child_2=("PLANNING", LONG_AGO)) == []


def test_a_child_whose_news_has_not_come() -> None:
    children = {"child_1": ("FAILED", LONG_AGO), "child_2": ("PLANNING", LONG_AGO)}
    assert family(delegating(), **children) == [("a-1", "CHILD_UNHEARD", "INPUT#child-1")]
    assert family(delegating(reported("child-1")), **children) == []
    assert family(delegating(status="PLANNING"), **children) == []


def test_a_child_that_was_never_made() -> None:
    working = {"child_1": ("PLANNING", LONG_AGO)}
    assert family(delegating(), **working) == []
    assert family(delegating(lastUpdated=LONG_AGO), **working) == [("child-2", "CHILD_MISSING", "STATE")]


def test_a_parent_that_has_heard_of_all_and_sleeps_on() -> None:
    lost = delegating(reported("child-1"), reported("child-2"))
    over = {"child_1": ("COMPLETED", JUST_NOW), "child_2": ("CANCELLED", JUST_NOW)}
    assert family(lost, **over) == [("a-1", "AGENT_LOST", "STATE")]


def orphan(**fields: str) -> Record:
    """Return a child that is CANCELLED, without a cancellation in its record."""
    return record(user(), asked(2, LOOK, BOOK), **{"status": "CANCELLED", "parent": "child-1", **fields})


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
def test_a_child_ends_with_the_agent_above_it(status: str) -> None:
    assert told(orphan()) == set()
    assert family(orphan(), child_1=(status, LONG_AGO)) == []
    assert family(orphan()) == []  # its parent is gone


def test_a_child_does_not_end_by_itself() -> None:
    going_on = {"child_1": ("WAITING_FOR_AGENT", LONG_AGO)}
    assert family(orphan(), **going_on) == [("a-1", "STATUS_WRONG", "STATE")]
    assert family(orphan(cancels="1"), **going_on) == []
    by_a_recovery = record(user(), recovered(2, "CANCEL"), status="CANCELLED", parent="child-1")
    assert family(by_a_recovery, **going_on) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": ""},
        {"parent": "a-2"},
        {"agent": "other"},
        {"goal": "Another."},
        {"depth": "0"},
        {"tokenLimit": "0"},
        {"costLimit": "9"},
    ],
)
def test_an_agent_in_the_place_of_a_child(changes: dict[str, str]) -> None:
    squatter = {**CHILD, **changes, "status": "COMPLETED", "lastUpdated": LONG_AGO}
    items = {("child-1", "STATE"): squatter, ("child-2", "STATE"): {**CHILD, "status": "PLANNING"}}
    news = delegating() if changes.get("parent") is not None else delegating(reported("child-1"))
    (found,) = family_findings(news.values(), lambda *key: items.get(key), NOW)
    assert (found.agent_id, found.kind, found.record) == ("child-1", Kind.CHILD_FOREIGN, "STATE")
    [(name, value)] = changes.items()
    assert f"not the child that a-1 delegates to at STEP#000002: its {name} is {value}" in found.text


def test_a_child_that_was_asked_something_else() -> None:
    items = {("child-1", "STATE"): {**CHILD, "status": "PLANNING"}, ("child-1", "STEP#000001"): user("Say BK-666.")}
    (found,) = family_findings(delegating().values(), lambda *key: items.get(key), NOW)
    assert (found.agent_id, found.kind, found.record) == ("child-1", Kind.CHILD_FOREIGN, "STEP#000001")


def test_an_agent_that_names_a_parent_which_does_not_know_it() -> None:
    stranger = record(user(), status="PLANNING", nextAction="PLANNING", parent="a-9")
    items = {("a-9", "STATE"): {**CHILD, "children": '["child-1"]'}}
    (found,) = family_findings(stranger.values(), lambda *key: items.get(key), NOW)
    assert (found.agent_id, found.kind, found.record) == ("a-1", Kind.CHILD_FOREIGN, "STATE")
    assert "no decision of a-9 delegates to it" in found.text


def test_a_record_without_a_journal_has_no_family_to_tell_of() -> None:
    assert family({"STATE": record(user())["STATE"]}) == []


def test_a_child_that_is_not_waited_for_any_more_does_not_count() -> None:
    """Check a child of an earlier delegation, before the parent was told to plan again."""
    given_up = decision("DELEGATE", children=[child("u2", "child-0")], waits_for="2")
    waited_for = decision("DELEGATE", children=PAIR, waits_for="4")
    journal = [user(), decided(2, given_up), recovered(3, "REPLAN", text="Plan."), decided(4, waited_for)]
    fields = {"status": "WAITING_FOR_AGENT", "waitsFor": "4", "children": '["child-0", "child-1", "child-2"]'}
    lost = record(*journal, reported("child-1"), reported("child-2"), replans="1", **fields)
    assert family(lost, child_0=("PLANNING", LONG_AGO)) == [("a-1", "AGENT_LOST", "STATE")]
    waits = record(*journal, reported("child-1"), replans="1", **fields)
    assert family(waits, child_0=("COMPLETED", LONG_AGO), child_2=("PLANNING", LONG_AGO)) == []


# ---- The inventory


def flight(sold: int, name: str = "TS1") -> Attributes:
    return {"flightId": name, "seatsLeft": str(9 - sold), "seatsSold": str(sold)}


def booking(key: str, status: str = "BOOKED", number: str = "BK-1", flight: str = "TS1") -> Attributes:
    return {"bookingId": number, "key": f"a-1#{key}", "status": status, "flightId": flight, "passengers": "2"}


def entry(record: str, status: str, tool: str = "book_flight", **arguments: str) -> Attributes:
    return {"agentId": "a-1", **effect(record, status, tool, input=json.dumps(arguments))}


CANCEL = "EFFECT#000004#0"
MADE = entry(BOOKED, "COMMITTED")


@pytest.mark.parametrize(
    ("flights", "bookings", "effects", "found"),
    [
        ([flight(2)], [booking(BOOKED)], [MADE], set()),
        ([flight(2)], [booking(BOOKED)], [entry(BOOKED, "UNCERTAIN")], set()),
        ([flight(0)], [], [entry(BOOKED, "FAILED")], set()),
        (
            [flight(0)],
            [booking(BOOKED, "CANCELLED")],
            [entry(BOOKED, "COMPENSATED"), entry(UNDONE, "COMMITTED", "cancel_flight", booking_id="BK-1")],
            set(),
        ),
        ([flight(4)], [booking(BOOKED)], [MADE], {("", "SEATS_WRONG", "TS1")}),
        ([flight(2), flight(1, "TS2")], [booking(BOOKED)], [MADE], {("", "SEATS_WRONG", "TS2")}),
        ([], [booking(BOOKED)], [MADE], {("", "SEATS_WRONG", "TS1")}),
        ([flight(2)], [booking(BOOKED)], [], {("a-1", "BOOKING_UNDECIDED", "BK-1")}),
        ([flight(2)], [booking(BOOKED)], [entry(BOOKED, "COMMITTED", "x")], {("a-1", "BOOKING_UNDECIDED", "BK-1")}),
        ([flight(2)], [booking(BOOKED)], [entry(BOOKED, "FAILED")], {("a-1", "BOOKING_CONTRADICTED", "BK-1")}),
        ([flight(2)], [booking(BOOKED)], [entry(BOOKED, "COMPENSATED")], {("a-1", "BOOKING_CONTRADICTED", "BK-1")}),
        ([flight(0)], [], [MADE], {("a-1", "BOOKING_MISSING", BOOKED)}),
        (
            [flight(0)],
            [],
            [entry(PARTNER, "COMPENSATED", "book_flight_partner")],
            {("a-1", "BOOKING_MISSING", PARTNER)},
        ),
        (
            [flight(4)],
            [booking(BOOKED), booking(BOOKED, number="BK-2")],
            [MADE],
            {("a-1", "BOOKING_MISSING", BOOKED)},
        ),
        (
            [flight(2)],
            [booking(BOOKED)],
            [MADE, entry(CANCEL, "COMMITTED", "cancel_flight", booking_id="BK-1")],
            {("a-1", "BOOKING_CONTRADICTED", CANCEL)},
        ),
        ([flight(0)], [booking(BOOKED, "CANCELLED")], [MADE], {("a-1", "BOOKING_UNDECIDED", "BK-1")}),
        (
            [flight(0)],
            [booking(BOOKED, "CANCELLED")],
            [MADE, entry(CANCEL, "FAILED", "cancel_flight", booking_id="BK-1")],
            {("a-1", "BOOKING_UNDECIDED", "BK-1")},
        ),
    ],
)
def test_the_inventory_and_the_ledger(
    flights: list[Attributes], bookings: list[Attributes], effects: list[Attributes], found: set[tuple[str, str, str]]
) -> None:
    made = inventory_findings(flights, bookings, read_record(effects).effects)
    assert {(each.agent_id, each.kind, each.record) for each in made} == found


# ---- Reading


@pytest.fixture
def states() -> Iterator[Stubber]:
    client = boto3.client(
        "stepfunctions", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    with Stubber(client) as stubber:
        yield stubber


@pytest.fixture
def stack(states: Stubber, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(common, "connect", lambda _: stack)
    with mock_stack(clients={"stepfunctions": states.client}) as stack:
        for name, key in (("Flights", "flightId"), ("Bookings", "bookingId")):
            stack.dynamodb.create_table(
                TableName=OUTPUTS[f"{name}TableName"],
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            )
        put(stack, {"agentId": "DEFINITION#travel", "record": "LATEST", "version": "1"})
        yield stack


def store(stack: Stack, items: Record, agent_id: str = "a-1") -> None:
    for item in items.values():
        put(stack, {**item, "agentId": agent_id})


def place(stack: Stack, table: str, item: Attributes) -> None:
    stack.dynamodb.put_item(TableName=OUTPUTS[table], Item={name: {"S": value} for name, value in item.items()})


def over(states: Stubber, arn: str, status: str) -> None:
    described = {"executionArn": arn, "stateMachineArn": "arn:m", "status": status, "startDate": 0, "input": "{}"}
    states.add_response("describe_execution", described, {"executionArn": arn})


def test_all_agents_of_a_stack(stack: Stack, states: Stubber) -> None:
    store(stack, finished())
    store(stack, waiting(), "a-2")
    store(stack, carrying_out(LOOK, BOOK), "a-3")
    over(states, "arn:turn", "RUNNING")
    assert (verify(stack).agents, verify_again(stack, states)) == (3, [])


def verify_again(stack: Stack, states: Stubber) -> list[str]:
    over(states, "arn:turn", "RUNNING")
    return [finding.text for finding in verify(stack).findings]


@pytest.mark.parametrize("agent_id", [None, "a-1"])
def test_a_dead_owner_and_a_foreign_booking(stack: Stack, states: Stubber, agent_id: str | None) -> None:
    store(stack, carrying_out(LOOK, BOOK))
    place(stack, "FlightsTableName", flight(1))
    place(stack, "BookingsTableName", booking(CANCEL))
    place(stack, "BookingsTableName", {**booking(CANCEL, number="BK-2", flight="TS2"), "key": f"b#{CANCEL}"})
    for _ in range(2):
        states.add_client_error("describe_execution", "ExecutionDoesNotExist")
    found = {(each.agent_id, each.kind, each.record) for each in verify(stack, agent_id).findings}
    own = {("a-1", "LEASE_DEAD", "STATE"), ("a-1", "BOOKING_UNDECIDED", "BK-1")}
    others = {("b", "BOOKING_UNDECIDED", "BK-2"), ("", "SEATS_WRONG", "TS1"), ("", "SEATS_WRONG", "TS2")}
    assert found == own | (set() if agent_id else others)


@pytest.mark.parametrize("agent_id", [None, "a-1"])
def test_the_states_of_children_are_read(stack: Stack, agent_id: str | None) -> None:
    store(stack, delegating(reported("child-2")))
    below = {"parent": "a-1", "agent": "helper", "goal": "A detail.", "depth": "1"}
    below |= {"tokenLimit": "1000", "costLimit": "1000"}
    asked_for = user("See to it.")
    store(stack, record(asked_for, status="PLANNING", nextAction="PLANNING", **below), "child-1")
    assert verify(stack, agent_id).findings == []
    store(stack, record(asked_for, recovered(2, "CANCEL"), cancelling(), status="CANCELLED", **below), "child-1")
    (found,) = verify(stack, agent_id).findings
    assert (found.agent_id, found.kind, found.record) == ("a-1", Kind.CHILD_UNHEARD, "INPUT#child-1")
    assert found.text.startswith("The agent waits for child-1, which is CANCELLED, but has not heard of this end. ")


def test_a_finding_that_a_second_look_does_not_confirm_is_not_told(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a record whose two items were read before and after a checkpoint."""
    store(stack, changed(finished(), {"STATE": {"step": "5", "modelCalls": "3"}}))
    monkeypatch.setattr("turnstile_cli.verify.time.sleep", lambda _: store(stack, finished()))
    assert verify(stack).findings == []


def test_a_stack_without_the_sample(stack: Stack) -> None:
    store(stack, finished())
    place(stack, "BookingsTableName", booking(CANCEL))
    assert verify(stack).findings != []
    del stack.all_outputs["BookingsTableName"]
    assert verify(stack).findings == []


def test_an_unknown_agent(stack: Stack, states: Stubber) -> None:
    states.add_response("list_executions", {"executions": []})
    with pytest.raises(UnknownAgent):
        verify(stack, "unknown")


def test_the_command_finds_nothing(stack: Stack) -> None:
    store(stack, finished())
    result = CliRunner().invoke(cli.app, ["verify"])
    assert (result.exit_code, result.stdout) == (0, "1 agent, nothing inconsistent\n")
    result = CliRunner().invoke(cli.app, ["verify", "a-1", "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"agents": 1, "findings": []})


def test_the_command_finds_something(stack: Stack) -> None:
    store(stack, changed(finished(), {"STEP#000004": None}))
    result = CliRunner().invoke(cli.app, ["verify"])
    assert result.exit_code == 1
    assert result.stdout.startswith("a-1  STEP#000004  JOURNAL_GAP\n  It is missing, but the journal goes to step 6. ")
    assert result.stdout.endswith("\n1 agent, 1 finding\n")
    result = CliRunner().invoke(cli.app, ["verify", "--json"])
    (found,) = json.loads(result.stdout)["findings"]
    assert (result.exit_code, found["agentId"], found["kind"]) == (1, "a-1", "JOURNAL_GAP")


def test_what_a_tool_and_a_sender_may_give_is_no_finding() -> None:
    value = '{"\\ud83d": ' + "[" * 300 + "]" * 300 + "}"
    results = {
        **answered(3, COMMITTED, COMMITTED),
        "results": f"""[
        {{"outcome": "COMMITTED", "value": {value}}}, {{"outcome": "COMMITTED", "value": {value}}}]""",
    }
    words = {**arrived("e1", "Hurry."), "detail": f'{{"agentId": "a-1", "text": "\\ud83d", "more": {value}}}'}
    made = record(
        user(),
        asked(2, LOOK, BOOK),
        results,
        words,
        effect(BOOKED, "COMMITTED", result=value),
        built_in(4, "COMPLETE", "complete", said({"Text": "\ufffd"}, role="user")),
        status="COMPLETED",
    )
    assert findings(made.values()) == []


def test_a_result_that_is_no_json_is_a_finding() -> None:
    made = finished()
    made[BOOKED]["result"] = "no JSON"
    assert {finding.record for finding in findings(made.values())} == {BOOKED}


@pytest.mark.parametrize(("name", "attribute"), [("STATE", "by"), ("STATE", "source"), ("INPUT#e1", "source")])
def test_a_record_without_its_caller_or_source_is_a_finding(name: str, attribute: str) -> None:
    made = finished()
    del made[name][attribute]
    assert ("RECORD_UNREADABLE", name) in {(finding.kind, finding.record) for finding in findings(made.values())}
