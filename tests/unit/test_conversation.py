"""The conversation is the fold of the journal, and Bedrock would take it."""

import json
from typing import Any

import pytest

from agent.conversation import Message, fold, pending_message, reason
from agent.record import Answer, CallResult, Outcome
from tests.unit.records import COMMITTED, UNCERTAIN, answered, call, decided, decision, error_answer, said, use, user


def assert_bedrock_takes(messages: list[Message]) -> None:
    """Roles alternate, the user begins, and each tool use is answered once, in the message after it."""
    assert [m["Role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"] * (
        len(messages) % 2
    )
    for before, after in zip(messages, [*messages[1:], {"Content": []}], strict=True):
        uses = [b["ToolUse"]["ToolUseId"] for b in before["Content"] if "ToolUse" in b]
        results = [b["ToolResult"]["ToolUseId"] for b in after["Content"] if "ToolResult" in b]
        assert sorted(uses) == sorted(results)


def results_of(message: Message) -> dict[str, Any]:
    return {b["ToolResult"]["ToolUseId"]: b["ToolResult"] for b in message["Content"] if "ToolResult" in b}


def test_a_call_is_answered_with_its_result() -> None:
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call("u1")]), said(use("u1", "look", city="Paris"))),
        answered(3, COMMITTED),
    ]
    conversation = fold(journal)
    assert_bedrock_takes(conversation.messages)
    assert results_of(conversation.messages[-1])["u1"]["Content"] == [{"Json": {"found": True}}]
    assert conversation.last is None


def test_calls_and_wrong_calls_of_one_reply_are_answered_together() -> None:
    journal = [
        user(),
        decided(
            2,
            decision("TOOL_USE", calls=[call("u1")], answers=[error_answer("u2", "There is no tool fly.")]),
            said(use("u1", "look", city="Paris"), use("u2", "fly")),
        ),
        answered(3, COMMITTED),
    ]
    conversation = fold(journal)
    assert_bedrock_takes(conversation.messages)
    assert results_of(conversation.messages[-1])["u2"]["Status"] == "error"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.REJECTED, "refused and nothing happened: no seats"),
        (Outcome.UNAVAILABLE, "could not be reached and nothing happened: no seats"),
        (Outcome.UNCERTAIN, "not known whether the call took effect. Do not repeat it: no seats"),
    ],
)
def test_a_failed_call_tells_the_model_what_is_known(outcome: Outcome, words: str) -> None:
    cause = json.dumps({"errorType": "X", "errorMessage": "no seats", "stackTrace": ["secret"]})
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call("u1")]), said(use("u1", "look"))),
        answered(3, CallResult(outcome=outcome, error="X", message=cause)),
    ]
    result = results_of(fold(journal).messages[-1])["u1"]
    assert result["Status"] == "error"
    assert words in result["Content"][0]["Text"]
    assert "secret" not in result["Content"][0]["Text"]


def test_an_uncertain_call_is_remembered_until_the_next_decision() -> None:
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call("u1", "book")]), said(use("u1", "book"))),
        answered(3, UNCERTAIN),
    ]
    assert [c.name for c in fold(journal).uncertain] == ["book"]
    assert fold([*journal, decided(4, decision("PLAN"), said({"Text": "well"}))]).uncertain == []


def test_a_reply_without_calls_is_answered_at_once() -> None:
    plan = decision("PLAN", tool_use_id="u1", answers=[Answer(tool_use_id="u1", text="The plan is kept.")])
    conversation = fold([user(), decided(2, plan, said(use("u1", "update_plan")))])
    assert_bedrock_takes(conversation.messages)


def test_a_reply_that_was_nothing_is_corrected_in_words() -> None:
    invalid = decision("INVALID", message="The reply holds no action.")
    conversation = fold([user(), decided(2, invalid, said({"Text": "Hm."}))])
    assert_bedrock_takes(conversation.messages)
    assert conversation.messages[-1]["Content"] == [{"Text": "The reply holds no action."}]


def test_an_empty_reply_leaves_no_empty_message() -> None:
    conversation = fold([user(), decided(2, decision("INVALID", message="Nothing came."))])
    assert_bedrock_takes(conversation.messages)
    assert conversation.messages == [said({"Text": "Fly me to Paris."}, {"Text": "Nothing came."}, role="user")]


def test_the_users_words_are_the_answer_to_a_question() -> None:
    asked = decision("ASK_USER", tool_use_id="u1", message="When?")
    journal = [user(), decided(2, asked, said(use("u1", "ask_user", question="When?")))]
    conversation = fold(journal)
    [message] = pending_message(conversation, ["Tomorrow.", "In the morning."])
    conversation.add(message["Role"], message["Content"])
    assert_bedrock_takes(conversation.messages)
    assert results_of(message)["u1"]["Content"] == [{"Text": "Tomorrow."}, {"Text": "In the morning."}]


def test_words_that_come_as_an_agent_finishes_open_it_again() -> None:
    done = decision("COMPLETE", tool_use_id="u1", message="Booked.")
    conversation = fold([user(), decided(2, done, said(use("u1", "complete", result="Booked.")))])
    [message] = pending_message(conversation, ["And a hotel?"])
    conversation.add(message["Role"], message["Content"])
    assert_bedrock_takes(conversation.messages)
    assert message["Content"][-1] == {"Text": "And a hotel?"}


def test_blank_words_are_said_in_words() -> None:
    asked = decision("ASK_USER", tool_use_id="u1", message="When?")
    conversation = fold([user("  "), decided(2, asked, said(use("u1", "ask_user", question="When?")))])
    [message] = pending_message(conversation, [" \n"])
    assert conversation.messages[0]["Content"] == [{"Text": "(an empty message)"}]
    assert results_of(message)["u1"]["Content"] == [{"Text": "(an empty message)"}]


def test_inputs_are_in_the_conversation_where_they_were_folded() -> None:
    journal = [
        user(),
        decided(
            2, decision("PLAN"), said({"Text": "Also Rome."}, role="user"), said({"Text": "ok"}), inputs=("INPUT#1",)
        ),
    ]
    conversation = fold(journal)
    assert conversation.folded == {"INPUT#1"}
    assert conversation.messages[0]["Content"] == [{"Text": "Fly me to Paris."}, {"Text": "Also Rome."}]


def test_what_repeats_is_counted() -> None:
    same = decision("TOOL_USE", calls=[call("u1")], fingerprint="f1")
    other = decision("TOOL_USE", calls=[call("u1")], fingerprint="f2")
    plan = decision("PLAN")
    wrong = decision("INVALID", message="?")

    def journal(*decisions: Any) -> list[Any]:
        steps = [user()]
        for made in decisions:
            steps.append(decided(len(steps) + 1, made, said(use("u1", "look")) if made.calls else said({"Text": "x"})))
            if made.calls:
                steps.append(answered(len(steps) + 1, COMMITTED))
        return steps

    assert fold(journal(same, plan, same)).repeats == 2  # planning in between does not make it another call
    assert fold(journal(same, other)).repeats == 1
    assert fold(journal(wrong, wrong)).wrong_replies == 2
    assert fold(journal(wrong, plan)).wrong_replies == 0
    assert fold(journal(plan, plan, plan), since=2).decisions == 2


def test_results_without_calls_are_no_journal() -> None:
    with pytest.raises(ValueError, match="STEP#000002 holds results"):
        fold([user(), answered(2, COMMITTED)])


def test_the_json_protocol_is_answered_in_words() -> None:
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call("")]), said({"Text": '{"action": "TOOL_USE"}'})),
        answered(3, COMMITTED),
    ]
    conversation = fold(journal)
    assert_bedrock_takes(conversation.messages)
    assert conversation.messages[-1]["Content"] == [{"Text": 'Result of look: {"found": true}'}]


def test_a_cause_is_read_as_what_it_is() -> None:
    assert reason('{"errorMessage": "no", "errorType": "X"}') == "no"
    assert reason("plain words") == "plain words"
    assert reason("[1]") == "[1]"
