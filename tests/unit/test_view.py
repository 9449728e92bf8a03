"""An agent's items become the view that callers read."""

import json
from typing import Any

import pytest

from tests.unit.records import (
    COMMITTED,
    UNCERTAIN,
    answered,
    arrived,
    call,
    came,
    cancelling,
    child,
    decided,
    decision,
    definition,
    effect,
    error_answer,
    read_state,
    record,
    recovered,
    reported,
    ruled,
    said,
    state,
    use,
    user,
)
from turnstile_agents.items import Attributes
from turnstile_agents.record import CallResult, Outcome
from turnstile_agents.view import AgentView, public_view

REJECTED = CallResult(
    outcome=Outcome.REJECTED,
    error="ToolRejected",
    message=json.dumps({"errorMessage": "No seats.", "errorType": "ToolRejected"}),
)
ANSWER = {"ToolResult": {"ToolUseId": "u1", "Content": [{"Text": "Tomorrow."}], "Status": "success"}}


def view(*items: Attributes, **fields: str) -> AgentView:
    times = dict.fromkeys(("createdAt", "lastUpdated"), "2026-01-01T00:00:00Z")
    counters = dict.fromkeys(("invocationCount", "errorCount", "toolCalls"), "1")
    empty = dict.fromkeys(("lastPlanGeneratedAt", "lastToolExecutionAt", "error", "errorMessage"), "")
    usage = json.dumps({"inputTokens": 1, "outputTokens": 1, "costMicroUsd": 1, "modelId": "m"})
    journal = [{"at": "2026-01-01T00:00:00Z", "execution": "arn", "usage": usage, **item} for item in items]
    about = {**times, **counters, **empty, "lastUpdatedBy": "arn", **fields}
    return public_view(read_state(**about), record([state(**about), *journal]), definition())


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
    going_on = decided(3, decision("PLAN"), said(ANSWER, role="user"), said({"Text": "Well."}), inputs=("INPUT#e1",))
    shown = view(user(), asked, going_on, arrived("e1", "Tomorrow."))
    assert (shown.question, shown.result) == (None, None)
    assert spoken(shown)[1:] == [("assistant", "When?"), ("user", "Tomorrow."), ("assistant", "Well.")]


def test_words_that_came_between_are_told_from_the_note_before_them() -> None:
    note = {"ToolResult": {"ToolUseId": "u1", "Content": [{"Text": "Not closed yet."}], "Status": "success"}}
    told = said(note, {"Text": "And back."}, role="user")
    again = decided(2, decision("PLAN"), told, said({"Text": "Well."}), inputs=("INPUT#e1",))
    shown = view(user(), again, arrived("e1", "And back."))
    assert spoken(shown)[1:] == [("user", "And back."), ("assistant", "Well.")]


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
def test_what_was_uncertain_is_shown_as_the_ledger_knows_it_now(entry: Attributes, outcome: Any, heard: str) -> None:
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


@pytest.mark.parametrize(
    ("undos", "status", "text"),
    [
        ([], "COMMITTED", None),
        (["RESERVED"], "COMPENSATING", None),
        (["FAILED"], "COMMITTED", "cancel did not undo it: ToolRejected: Too late."),
        (["FAILED", "RESERVED"], "COMPENSATING", None),
        (["FAILED", "UNCERTAIN"], "COMPENSATING", "It is not known whether cancel undid it: ToolRejected: Too late."),
        (["FAILED", "COMMITTED"], "COMPENSATED", None),
    ],
)
@pytest.mark.parametrize("key", [ENTRY, f"{ENTRY}#ALT1"])
def test_an_undo_that_failed_is_shown_beside_the_call_with_its_reason(
    undos: list[str], status: str, text: str | None, key: str
) -> None:
    other = call("u1", "book").model_copy(update={"key": f"{ENTRY}#ALT1"})
    nested = call("u1", "book").model_copy(update={"alternative": other})
    chosen = decided(2, decision("TOOL_USE", calls=[nested]), said(use("u1", "book")))
    why = {"error": "ToolRejected", "errorMessage": json.dumps({"errorMessage": "Too late.", "errorType": "x"})}
    ledger = [effect(ENTRY, "FAILED"), effect(key, status)][key == ENTRY :]
    attempts = [effect(f"{key}#UNDO#{number}", each, "cancel", **why) for number, each in enumerate(undos, 1)]
    [shown] = view(user(), chosen, answered(3, COMMITTED), *ledger, *attempts).plan
    assert shown.undo_error == text
    assert ("undoError" in shown.dump()) == (text is not None)


def test_an_undo_whose_end_nothing_tells_is_shown_without_a_reason() -> None:
    ledger = effect(ENTRY, "COMPENSATING"), effect(f"{ENTRY}#UNDO#1", "UNCERTAIN", "cancel")
    [shown] = view(user(), BOOKED, answered(3, COMMITTED), *ledger).plan
    assert shown.undo_error == "It is not known whether cancel undid it"


def test_calls_that_a_recovery_answered_do_not_wait_any_more() -> None:
    speaks = recovered(3, "REPLAN", text="Plan again.")
    assert outcomes(view(user(), BOOKED, speaks)) == [("UNAVAILABLE", None, "UNAVAILABLE: The turn ended before it.")]
    assert outcomes(view(user(), BOOKED, speaks, effect(ENTRY, "COMMITTED"))) == [("COMMITTED", {"id": "B-1"}, None)]


# ---- Approvals


HELD = decided(
    2,
    decision(
        "ASK_APPROVAL",
        calls=[call("u1"), call("u2", "book", index=1).model_copy(update={"approval": True})],
        waits_for="2",
    ),
    said({"Text": "I book."}, use("u1", "look"), use("u2", "book")),
)
ASKED = [
    ("user", "Fly me to Paris."),
    ("assistant", "I book."),
    ("assistant", '{"toolName": "look", "parameters": {}}'),
    ("assistant", '{"toolName": "book", "parameters": {}}'),
]


def error_results(*uses: str) -> dict[str, Any]:
    blocks = [{"ToolResult": {"ToolUseId": each, "Content": [{"Text": "No."}], "Status": "error"}} for each in uses]
    return said(*blocks, role="user")


def test_what_waits_for_approval() -> None:
    shown = view(user(), HELD, status="WAITING_FOR_APPROVAL", waitsFor="2")
    asked = {"parameters": {"city": "Paris"}, "alternatives": []}
    assert shown.dump()["approval"] == {
        "approvalId": "2",
        "calls": [
            {**asked, "toolName": "look", "function": "turnstile-tool-look", "approval": False},
            {**asked, "toolName": "book", "function": "turnstile-tool-book", "approval": True},
        ],
    }
    assert spoken(shown) == ASKED
    assert outcomes(shown) == [("PENDING", None, None)] * 2
    assert "approval" not in view(user(), HELD, status="PLANNING", waitsFor="2").dump()


def test_what_was_approved_is_told_before_its_results() -> None:
    """Check that the decision stands before the results, also if a recovery's entry comes before both."""
    end = decided(5, decision("COMPLETE", message="Done."), said({"Text": "Good."}), inputs=("INPUT#d1",))
    items = [user(), HELD, recovered(3), answered(4, COMMITTED, COMMITTED), end]
    ledger = effect("EFFECT#000002#1", "COMMITTED")
    later = {**ruled("2", "REFUSE", "d2", note="Changed my mind."), "time": "2026-01-02T00:00:00Z"}
    shown = view(*items, ledger, later, ruled("2", "APPROVE", note="It is cheap."), status="COMPLETED")
    results = [("tool_output", '{"found": true}')] * 2
    assert spoken(shown) == [*ASKED, ("user", "APPROVE: It is cheap."), *results, ("assistant", "Done.")]
    assert [entry.status for entry in shown.plan] == ["COMMITTED", "COMMITTED"]


@pytest.mark.parametrize(
    ("verdict", "role", "status"), [("REFUSE", "user", "REFUSED"), ("EXPIRE", "tool_output", "EXPIRED")]
)
def test_calls_without_an_approval(verdict: str, role: str, status: str) -> None:
    """Check that they are answered with errors, none of which counts as the user's words, also after a recovery."""
    plan = decided(4, decision("PLAN"), error_results("u1", "u2"), said({"Text": "Then not."}), inputs=("INPUT#d1",))
    shown = view(user(), HELD, recovered(3), plan, ruled("2", verdict))
    assert spoken(shown) == [*ASKED, (role, verdict), ("assistant", "Then not.")]
    assert outcomes(shown) == [(status, None, verdict)] * 2


def test_a_decision_about_something_else_is_not_told() -> None:
    shown = view(user(), HELD, answered(3, COMMITTED, COMMITTED), ruled("1", "APPROVE"))
    assert [role for role, _ in spoken(shown)[len(ASKED) :]] == ["tool_output"] * 2


# ---- Children


def test_an_agent_and_its_children() -> None:
    alone = view(user()).dump()
    assert "parent" not in alone and "children" not in alone
    related = view(user(), parent="a-0", children='["child-1", "child-2"]').dump()
    assert (related["parent"], related["children"]) == ("a-0", ["child-1", "child-2"])


@pytest.mark.parametrize("json_protocol", [False, True])
def test_what_children_report_is_not_the_users_word(json_protocol: bool) -> None:
    delegated = decided(2, decision("DELEGATE", children=[child("u1")], waits_for="2"), said(use("u1", "delegate")))
    result = {"ToolResult": {"ToolUseId": "u1", "Content": [{"Text": "Booked."}], "Status": "success"}}
    told = said({"Text": "Booked."} if json_protocol else result, {"Text": "Hurry."}, role="user")
    end = decided(3, decision("COMPLETE", message="Done."), told, inputs=("INPUT#child-1", "INPUT#e1"))
    shown = view(user(), delegated, end, reported("child-1"), arrived("e1", "Hurry."), status="COMPLETED")
    assert spoken(shown)[1:] == [
        ("assistant", '{"toolName": "delegate", "parameters": {}}'),
        ("tool_output", "Booked."),
        ("user", "Hurry."),
        ("assistant", "Done."),
    ]


# ---- Cancelled


def test_the_caller_of_a_cancellation_and_the_effects_left() -> None:
    plan = json.dumps([{"step": 1, "action": "Book", "status": "PENDING"}])
    shown = view(user(), BOOKED, cancelling("Too dear."), effect(ENTRY, "UNCERTAIN"), plan=plan, status="CANCELLED")
    assert spoken(shown)[-1] == ("user", "CANCEL: Too dear.")
    assert [(entry.action, entry.status) for entry in shown.plan] == [("Book", "PENDING"), ("TOOL_USE", "UNCERTAIN")]
    assert spoken(view(user(), cancelling(), status="CANCELLED"))[-1] == ("user", "CANCEL")
    assert len(spoken(view(user(), cancelling(), status="PLANNING"))) == 1
    orphan = view(user(), status="CANCELLED", parent="a-0")
    assert spoken(orphan)[-1] == ("user", "CANCEL: a-0, or an agent above it, has ended.")


def test_an_error_is_told_in_words() -> None:
    shown = view(
        user(), status="FAILED", error="InvalidRecord", errorMessage='{"errorMessage": "The goal is too long."}'
    )
    assert shown.error and (shown.error.name, shown.error.message) == ("InvalidRecord", "The goal is too long.")


def test_a_record_that_holds_anything_is_shown() -> None:
    half, deep = '"\\ud83d"', "[" * 300 + "]" * 300
    results = {**answered(3), "results": f'[{{"outcome": "COMMITTED", "value": [{half}, {deep}]}}]'}
    words = {**arrived("e1", ""), "detail": f'{{"agentId": "a-1", "text": {half}, "more": {deep}}}'}
    heard = decided(4, decision("COMPLETE", message="Done."), said(use("u4", "complete")), inputs=("INPUT#e1",))
    asked = decided(2, decision("TOOL_USE", calls=[call("u1")]), said(use("u1", "look")))
    shown = view(user(), asked, results, heard, words)
    assert ("user", "\ufffd") in spoken(shown)
    assert shown.plan[0].result[0] == "\ufffd"
    json.dumps(shown.dump(), ensure_ascii=False).encode()


def test_callers_are_shown_with_what_they_are_worth() -> None:
    """Check the start, an input, a decision and a cancellation: each has its own caller, verified or claimed."""
    heard = {**came("e1", "AgentInputReceived", text="Hurry.", by="bob"), "source": "com.example.desk"}
    ruling = {**ruled("2", "REFUSE", by="arn:aws:iam::1:user/eve"), "source": "com.agent.api"}
    cancelled = came("c1", "AgentCancelRequested", note="Enough.", by="ana")
    asked = decided(2, decision("ASK_APPROVAL", calls=[call("u1", approval=True)], waits_for="2"))
    answer = decided(3, decision("COMPLETE", message="I stop."), inputs=("INPUT#d1", "INPUT#e1"))
    shown = view(
        *(user(), asked, answer, heard, ruling, cancelled), status="CANCELLED", by="orders", source="com.agent.api"
    )
    assert shown.caller
    assert shown.caller.text == "by orders"
    callers = {m.content: m.caller.text for m in shown.context.conversation_history if m.caller}
    assert callers == {
        "Fly me to Paris.": "by orders",
        "REFUSE": "by arn:aws:iam::1:user/eve",
        "Hurry.": "by bob (claimed)",
        "CANCEL: Enough.": "by ana (claimed)",
    }
    unnamed = view(user(), arrived("e1", "Hurry."), decided(2, decision("COMPLETE"), inputs=("INPUT#e1",)))
    assert "caller" not in unnamed.dump()
    assert all(set(message) == {"role", "content"} for message in unnamed.dump()["context"]["conversationHistory"])
