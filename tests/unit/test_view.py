"""An agent's items become the shape that it has from outside."""

import json
from typing import Any

import pytest

from agent.conversation import Item
from agent.record import CallResult, Outcome
from tests.unit.records import (
    COMMITTED,
    UNCERTAIN,
    answered,
    call,
    decided,
    decision,
    definition,
    effect,
    error_answer,
    recovered,
    said,
    state,
    use,
    user,
)
from workflows.view import AgentView, public_view

REJECTED = CallResult(
    outcome=Outcome.REJECTED,
    error="ToolRejected",
    message=json.dumps({"errorMessage": "No seats.", "errorType": "ToolRejected"}),
)
ANSWER = {"ToolResult": {"ToolUseId": "u1", "Content": [{"Text": "Tomorrow."}], "Status": "success"}}


def view(*items: Item, **fields: str) -> AgentView:
    times = dict.fromkeys(("createdAt", "lastUpdated"), "2026-01-01T00:00:00Z")
    counters = dict.fromkeys(("invocationCount", "errorCount", "toolCalls"), "1")
    empty = dict.fromkeys(("lastPlanGeneratedAt", "lastToolExecutionAt", "error", "errorMessage"), "")
    usage = json.dumps({"inputTokens": 1, "outputTokens": 1, "costMicroUsd": 1, "modelId": "m"})
    journal = [{"at": "2026-01-01T00:00:00Z", "execution": "arn", "usage": usage, **item} for item in items]
    return public_view(
        [state(**{**times, **counters, **empty, "lastUpdatedBy": "arn", **fields}), *journal], definition()
    )


def spoken(shown: AgentView) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in shown.context.conversation_history]


CALLED = decided(
    2,
    decision(
        "TOOL_USE", calls=[call("u1"), call("u2", "book", index=1)], answers=[error_answer("u3", "Call it alone.")]
    ),
    said({"Text": "I look."}, use("u1", "look", city="Paris"), use("u2", "book", city="Paris"), use("u3", "complete")),
)
COMPLETED = decided(4, decision("COMPLETE", tool_use_id="u4", message="Done."), said(use("u4", "complete")))


def test_the_shape() -> None:
    shown = view(user("Fly me."), CALLED, answered(3, COMMITTED, REJECTED), COMPLETED, status="COMPLETED").dump()
    assert list(shown) == [
        "agentId", "agent", "definitionVersion", "status", "goal", "result", "context", "plan", "tools", "metadata",
    ]  # fmt: skip
    assert shown["result"] == "Done."
    assert shown["tools"][0] == {"name": "look", "description": "Looks something up.", "effect": "read"}
    assert shown["metadata"]["tokens"] == {"input": 0, "output": 0}
    assert "lastPlanGeneratedAt" not in shown["metadata"]


def test_the_conversation() -> None:
    shown = view(user("Fly me."), CALLED, answered(3, COMMITTED, REJECTED), COMPLETED, status="COMPLETED")
    assert spoken(shown) == [
        ("user", "Fly me."),
        ("assistant", "I look."),
        ("assistant", '{"toolName": "look", "parameters": {"city": "Paris"}}'),
        ("assistant", '{"toolName": "book", "parameters": {"city": "Paris"}}'),
        ("assistant", '{"toolName": "complete", "parameters": {}}'),
        ("tool_output", "Call it alone."),
        ("tool_output", '{"found": true}'),
        ("tool_output", "REJECTED: No seats."),
        ("assistant", "Done."),
    ]


def test_a_question_and_its_answer() -> None:
    asked = decided(2, decision("ASK_USER", tool_use_id="u1", message="When?"), said(use("u1", "ask_user")))
    waiting = view(user(), asked, status="WAITING_FOR_INPUT")
    assert waiting.question == "When?"
    going_on = decided(3, decision("PLAN"), said(ANSWER, role="user"), said({"Text": "Well."}))
    shown = view(user(), asked, going_on)
    assert (shown.question, shown.result) == (None, None)
    assert spoken(shown)[1:] == [("assistant", "When?"), ("user", "Tomorrow."), ("assistant", "Well.")]


def test_words_that_came_between_are_told_from_the_note_before_them() -> None:
    note = {"ToolResult": {"ToolUseId": "u1", "Content": [{"Text": "Not closed yet."}], "Status": "success"}}
    again = decided(2, decision("PLAN"), said(note, {"Text": "And back."}, role="user"), said({"Text": "Well."}))
    assert spoken(view(user(), again))[1:] == [("user", "And back."), ("assistant", "Well.")]


def test_the_json_protocol() -> None:
    text = '{"action": "COMPLETE", "details": {"result": "Done."}}'
    completed = decided(2, decision("COMPLETE", message="Done."), said({"Text": text}))
    assert spoken(view(user(), completed))[1:] == [("assistant", "Done.")]


def test_a_reply_that_could_not_be_used_is_answered() -> None:
    wrong = decided(2, decision("INVALID", message="Call a tool."), said({"Text": "Once upon a time"}))
    assert spoken(view(user(), wrong))[1:] == [("assistant", "Once upon a time"), ("tool_output", "Call a tool.")]


def test_the_plan_and_the_calls_after_it() -> None:
    plan = json.dumps(
        [{"step": 1, "action": "Look", "status": "DONE"}, {"step": 2, "action": "Book", "status": "PENDING"}]
    )
    pending = decided(4, decision("TOOL_USE", calls=[call("u5", step=4)]), said(use("u5", "look")))
    shown = view(user(), CALLED, answered(3, COMMITTED, REJECTED), pending, plan=plan).dump()
    common: dict[str, Any] = {"action": "TOOL_USE", "parameters": {"city": "Paris"}}
    assert shown["plan"] == [
        {"step": 1, "action": "Look", "status": "DONE"},
        {"step": 2, "action": "Book", "status": "PENDING"},
        {**common, "step": 3, "toolName": "look", "status": "COMMITTED", "result": {"found": True}},
        {**common, "step": 4, "toolName": "book", "status": "REJECTED", "error": "REJECTED: No seats."},
        {**common, "step": 5, "toolName": "look", "status": "PENDING"},
    ]


BOOKED = decided(2, decision("TOOL_USE", calls=[call("u1", "book")]), said(use("u1", "book", city="Paris")))
ENTRY = "EFFECT#000002#0"
UNDONE = recovered(4, "COMPENSATE", text="The booking was undone.", question="What shall I do instead?")


def outcomes(shown: AgentView) -> list[tuple[str, Any, str | None]]:
    return [(entry.status, entry.result, entry.error) for entry in shown.plan]


def test_a_recovery_asks_the_user() -> None:
    asked = decided(2, decision("ASK_USER", tool_use_id="u1", message="When?"), said(use("u1", "ask_user")))
    shown = view(user(), asked, UNDONE, status="WAITING_FOR_INPUT")
    assert shown.question == "What shall I do instead?"
    assert spoken(shown)[2:] == [
        ("tool_output", "The booking was undone."),
        ("assistant", "What shall I do instead?"),
    ]
    assert view(user(), asked, recovered(3), status="WAITING_FOR_INPUT").question == "When?"


def test_results_behind_a_recovery_are_those_of_the_calls_before_it() -> None:
    assert outcomes(view(user(), BOOKED, recovered(3))) == [("PENDING", None, None)]
    shown = view(user(), BOOKED, recovered(3), answered(4, COMMITTED))
    assert outcomes(shown) == [("COMMITTED", {"found": True}, None)]
    assert spoken(shown)[-1] == ("tool_output", '{"found": true}')


@pytest.mark.parametrize(
    ("entry", "outcome", "heard"),
    [
        (effect(ENTRY, "UNCERTAIN"), ("UNCERTAIN", None, "UNCERTAIN: States.Timeout"), "UNCERTAIN: States.Timeout"),
        (effect(ENTRY, "COMMITTED"), ("COMMITTED", {"id": "B-1"}, None), '{"id": "B-1"}'),
        (
            effect(ENTRY, "FAILED", error="NothingHappened", errorMessage="It was cut off."),
            ("UNAVAILABLE", None, "UNAVAILABLE: It was cut off."),
            "UNAVAILABLE: It was cut off.",
        ),
    ],
)
def test_what_was_uncertain_is_shown_as_the_ledger_knows_it_now(entry: Item, outcome: Any, heard: str) -> None:
    shown = view(user(), BOOKED, answered(3, UNCERTAIN), entry)
    assert outcomes(shown) == [outcome]
    assert spoken(shown)[-1] == ("tool_output", heard)


def test_what_is_undone_is_shown_so() -> None:
    other = call("u1", "book").model_copy(update={"key": f"{ENTRY}#ALT1"})
    nested = call("u1", "book").model_copy(update={"alternative": other})
    chosen = decided(2, decision("TOOL_USE", calls=[nested]), said(use("u1", "book")))
    for ledger in ([effect(ENTRY, "COMPENSATED")], [effect(ENTRY, "FAILED"), effect(f"{ENTRY}#ALT1", "COMPENSATED")]):
        shown = view(user(), chosen, answered(3, COMMITTED), UNDONE, *ledger)
        assert outcomes(shown) == [("COMPENSATED", {"found": True}, None)]


def test_calls_that_a_recovery_answered_do_not_wait_any_more() -> None:
    speaks = recovered(3, "REPLAN", text="Plan again.")
    assert outcomes(view(user(), BOOKED, speaks)) == [("UNAVAILABLE", None, "UNAVAILABLE: The turn ended before it.")]
    assert outcomes(view(user(), BOOKED, speaks, effect(ENTRY, "COMMITTED"))) == [("COMMITTED", {"id": "B-1"}, None)]


def test_an_error_is_told_in_words() -> None:
    shown = view(
        user(), status="FAILED", error="InvalidRecord", errorMessage='{"errorMessage": "The goal is too long."}'
    )
    assert shown.error and (shown.error.name, shown.error.message) == ("InvalidRecord", "The goal is too long.")


def test_items_without_a_state() -> None:
    with pytest.raises(ValueError, match="no STATE"):
        public_view([user()], definition())
