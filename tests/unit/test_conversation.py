"""The conversation is the fold of the journal, and Bedrock would accept it."""

import json
from typing import Any

import pytest

from tests.unit.records import (
    COMMITTED,
    UNCERTAIN,
    answered,
    arrived,
    call,
    child,
    decided,
    decision,
    effect,
    error_answer,
    fold,
    record,
    recovered,
    ruled,
    said,
    use,
    user,
)
from turnstile_agents.border import RESULT_LIMIT, STORED_DEPTH, nests_deeper
from turnstile_agents.conversation import Message, known_result, pending_message, reason
from turnstile_agents.record import Answer, Call, CallResult, Outcome

KEY, ALTERNATIVE = "EFFECT#000002#0", "EFFECT#000002#0#ALT1"
BOOKED = decided(2, decision("TOOL_USE", calls=[call("u1", "book")]), said(use("u1", "book")))


def assert_bedrock_takes(messages: list[Message]) -> None:
    """Check that roles alternate, the user begins, and each tool use is answered once, in the message after it."""
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
    result = results_of(fold(journal, [effect(KEY, "UNCERTAIN")]).messages[-1])["u1"]
    assert result["Status"] == "error"
    assert words in result["Content"][0]["Text"]
    assert "secret" not in result["Content"][0]["Text"]


def test_an_uncertain_call_is_remembered_until_the_next_decision() -> None:
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call("u1", "book")]), said(use("u1", "book"))),
        answered(3, UNCERTAIN),
    ]
    ledger = [effect(KEY, "UNCERTAIN")]
    assert [c.name for c in fold(journal, ledger).uncertain] == ["book"]
    assert fold([*journal, decided(4, decision("PLAN"), said({"Text": "well"}))], ledger).uncertain == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (effect(KEY, "COMMITTED", result='{"id": "B-1"}'), '{"Json": {"id": "B-1"}}'),
        (effect(KEY, "COMPENSATED", result='{"id": "B-1"}'), '{"Json": {"id": "B-1"}}'),
        (
            effect(KEY, "FAILED", error="NothingHappened", errorMessage="It was cut off."),
            "nothing happened: It was cut",
        ),
        (effect(KEY, "FAILED", error="ToolRejected", errorMessage="No seats."), "was refused and nothing happened: No"),
    ],
)
def test_what_was_uncertain_is_told_as_the_ledger_knows_it_now(entry: Any, words: str) -> None:
    conversation = fold([user(), BOOKED, answered(3, UNCERTAIN)], [entry])
    assert words in json.dumps(results_of(conversation.messages[-1])["u1"])
    assert conversation.uncertain == []


def test_a_call_that_was_never_reserved_was_never_made() -> None:
    conversation = fold([user(), BOOKED, answered(3, UNCERTAIN)])
    assert conversation.uncertain == []
    assert "nothing happened" in results_of(conversation.messages[-1])["u1"]["Content"][0]["Text"]


@pytest.mark.parametrize("status", ["UNCERTAIN", "RESERVED"])
def test_what_the_ledger_does_not_know_stays_uncertain(status: str) -> None:
    conversation = fold([user(), BOOKED, answered(3, UNCERTAIN)], [effect(KEY, status)])
    assert [c.name for c in conversation.uncertain] == ["book"]
    assert "Do not repeat it" in results_of(conversation.messages[-1])["u1"]["Content"][0]["Text"]


def test_what_was_certain_is_told_as_it_was() -> None:
    conversation = fold([user(), BOOKED, answered(3, COMMITTED)], [effect(KEY, "COMPENSATED", result='{"id": "B-1"}')])
    assert results_of(conversation.messages[-1])["u1"]["Content"] == [{"Json": {"found": True}}]


def nested() -> Call:
    """Return a call with an alternative."""
    other = call("u1", "book").model_copy(update={"name": "book_elsewhere", "key": ALTERNATIVE})
    return call("u1", "book").model_copy(update={"alternative": other})


REFUSED = effect(KEY, "FAILED", error="ToolRejected", errorMessage="No seats.")
AWAY = effect(KEY, "FAILED", error="ToolUnavailable", errorMessage="Closed.")


@pytest.mark.parametrize(
    ("entries", "outcome", "told"),
    [
        ([AWAY], "UNAVAILABLE", "Closed."),
        ([AWAY, effect(ALTERNATIVE, "COMMITTED", result='{"id": "B-2"}')], "COMMITTED", {"id": "B-2"}),
        ([AWAY, effect(ALTERNATIVE, "FAILED", error="ToolRejected", errorMessage="Full.")], "REJECTED", "Full."),
        ([AWAY, effect(ALTERNATIVE, "RESERVED")], None, None),
        ([AWAY, effect(ALTERNATIVE, "UNCERTAIN")], None, None),
        ([REFUSED], "REJECTED", "No seats."),
        ([effect(KEY, "UNCERTAIN"), effect(ALTERNATIVE, "COMMITTED")], None, None),
        ([effect(KEY, "COMMITTED", result='{"id": "B-1"}')], "COMMITTED", {"id": "B-1"}),
        ([effect(ALTERNATIVE, "COMMITTED")], None, None),  # not without the alternative before it
        ([], None, None),
    ],
)
def test_a_call_ended_as_the_last_of_its_alternatives(entries: list[Any], outcome: str | None, told: Any) -> None:
    result = known_result(nested(), record(entries).ledger)
    assert (result and result.outcome) == outcome
    assert (result and (result.value or result.message)) == told


def test_a_recovery_without_words_leaves_the_calls_to_be_carried_out() -> None:
    conversation = fold([user(), BOOKED, recovered(3)])
    assert conversation.last and conversation.last.calls[0].key == KEY
    assert [message["Role"] for message in conversation.messages] == ["user", "assistant"]
    done = fold([user(), BOOKED, recovered(3), answered(4, COMMITTED)])
    assert_bedrock_takes(done.messages)
    assert results_of(done.messages[-1])["u1"]["Content"] == [{"Json": {"found": True}}]


def test_a_recovery_that_speaks_answers_what_was_open_before() -> None:
    calls = [call("u1", "book"), call("u2", "book", index=1), call("u3", index=2)]
    asked = decision("TOOL_USE", calls=calls, answers=[error_answer("u4", "There is no tool fly.")])
    uses = said(use("u1", "book"), use("u2", "book"), use("u3", "look"), use("u4", "fly"))
    ledger = [effect(KEY, "COMMITTED", result='{"id": "B-1"}'), {**AWAY, "record": "EFFECT#000002#1"}]
    conversation = fold([user(), decided(2, asked, uses), recovered(3, "REPLAN", text="Plan again.")], ledger)
    assert_bedrock_takes(conversation.messages)
    results = results_of(conversation.messages[-1])
    assert results["u1"]["Content"] == [{"Json": {"id": "B-1"}}]
    assert "nothing happened: Closed." in results["u2"]["Content"][0]["Text"]
    assert "nothing happened: The turn ended before it." in results["u3"]["Content"][0]["Text"]
    assert results["u4"]["Content"] == [{"Text": "There is no tool fly."}]
    assert conversation.messages[-1]["Content"][-1] == {"Text": "Not from the user: Plan again."}
    assert (conversation.last, conversation.uncertain) == (None, [])


@pytest.mark.parametrize("entry", [effect(KEY, "UNCERTAIN"), effect(KEY, "RESERVED")])
def test_a_recovery_that_speaks_does_not_guess_what_became_of_a_call(entry: Any) -> None:
    conversation = fold([user(), BOOKED, recovered(3, "REPLAN", text="Plan again.")], [entry])
    assert "not known whether" in results_of(conversation.messages[-1])["u1"]["Content"][0]["Text"]
    assert [call.name for call in conversation.uncertain] == ["book"]


@pytest.mark.parametrize(("action", "built_in"), [("ASK_USER", "ask_user"), ("COMPLETE", "complete")])
def test_a_recovery_that_speaks_answers_a_built_in_that_was_open(action: str, built_in: str) -> None:
    waiting = decided(2, decision(action, tool_use_id="u1", message="When?"), said(use("u1", built_in)))
    conversation = fold([user(), waiting, recovered(3, "COMPENSATE", text="All of it was undone.")])
    assert_bedrock_takes(conversation.messages)
    assert conversation.last is None
    [message] = pending_message(conversation, ["Then Rome."])
    assert message["Content"] == [{"Text": "Then Rome."}]


def test_a_recovery_lets_the_model_try_again() -> None:
    same = decision("TOOL_USE", calls=[call("u1")], fingerprint="f1")
    journal = [user(), decided(2, same, said(use("u1", "look"))), answered(3, COMMITTED)]
    wrong = decided(4, decision("INVALID", message="?"), said({"Text": "x"}))
    before, after = fold([*journal, wrong]), fold([*journal, wrong, recovered(5)])
    assert (before.wrong_replies, before.repeats) == (1, 1)
    assert (after.wrong_replies, after.repeats) == (0, 0)


def test_the_json_protocol_is_told_of_a_recovery_in_words() -> None:
    asked = decided(2, decision("TOOL_USE", calls=[call("", "book")]), said({"Text": "{}"}))
    conversation = fold([user(), asked, recovered(3, "REPLAN", text="Plan again.")], [AWAY])
    assert_bedrock_takes(conversation.messages)
    texts = [block["Text"] for block in conversation.messages[-1]["Content"]]
    assert texts == [
        "book: The tool could not be reached and nothing happened: Closed.",
        "Not from the user: Plan again.",
    ]


REJECTED = CallResult(outcome=Outcome.REJECTED, error="ToolRejected", message='{"errorMessage": "No seats."}')


UNAVAILABLE = CallResult(outcome=Outcome.UNAVAILABLE, error="ToolUnavailable", message="Away.")


def booked(step: int, result: CallResult, name: str = "book", city: str = "Paris") -> list[Any]:
    """Return a decision that calls a tool, and the result."""
    return replied(step, (call("u1", name, step=step, city=city), result))


def replied(step: int, *pairs: tuple[Call, CallResult]) -> list[Any]:
    """Return a decision with several calls, and their results."""
    calls, results = zip(*pairs, strict=True)
    uses = [use(asked.tool_use_id, asked.name) for asked in calls]
    return [decided(step, decision("TOOL_USE", calls=list(calls)), said(*uses)), answered(step + 1, *results)]


def lost(*items: Any, ledger: Any = (), inputs: Any = ()) -> list[str]:
    """Return the failed calls of a journal that no later call makes up for, each as its arguments and its reason."""
    failed = fold([user(), *items], ledger, inputs).failed
    return [f"{json.loads(call.arguments)['city']}: {call.reason}" for call in failed]


def test_a_failed_call_is_remembered_until_the_user_speaks() -> None:
    failed = booked(2, REJECTED)
    assert lost(*failed) == ["Paris: No seats."]
    assert lost(*failed, decided(4, decision("PLAN"), said({"Text": "Well."}))) == ["Paris: No seats."]
    heard = decided(4, decision("PLAN"), said({"Text": "x"}), inputs=("INPUT#1",))
    assert lost(*failed, heard, inputs=[arrived("1", "Never mind.")]) == []
    assert lost(*failed, heard, inputs=[ruled("2", "APPROVE", "1")]) == ["Paris: No seats."]
    assert lost(*booked(2, REJECTED, "look")) == []  # a look-up changes nothing


def test_after_a_rejection_other_arguments_make_up_for_it() -> None:
    assert lost(*booked(2, REJECTED), *booked(4, COMMITTED)) == []
    assert lost(*booked(2, REJECTED), *booked(4, COMMITTED, city="Rome")) == []
    assert lost(*booked(2, REJECTED), *booked(4, COMMITTED, "look")) == ["Paris: No seats."]


def test_a_call_that_was_not_made_is_made_up_for_by_the_same_arguments_only() -> None:
    assert lost(*booked(2, UNAVAILABLE), *booked(4, COMMITTED)) == []
    assert lost(*booked(2, UNAVAILABLE), *booked(4, COMMITTED, city="Rome")) == ["Paris: Away."]


def test_the_newest_failure_of_a_call_says_what_is_known() -> None:
    tried = [*booked(2, UNAVAILABLE), *booked(4, REJECTED)]
    assert lost(*tried) == ["Paris: No seats."]
    assert lost(*tried, *booked(6, COMMITTED, city="Rome")) == []
    tried = [*booked(2, REJECTED), *booked(4, UNAVAILABLE)]
    assert lost(*tried, *booked(6, COMMITTED, city="Rome")) == ["Paris: Away."]


@pytest.mark.parametrize("result", [REJECTED, UNAVAILABLE])
def test_a_success_in_the_same_reply_makes_up_for_nothing(result: CallResult) -> None:
    calls = [call("u1", "book", city="Paris"), call("u2", "book", index=1, city="Rome")]
    told = f"Paris: {reason(result.message)}"
    assert lost(*replied(2, (calls[0], result), (calls[1], COMMITTED))) == [told]
    assert lost(*replied(2, (calls[1], COMMITTED), (calls[0], result))) == [told]


def test_an_alternative_makes_up_for_the_call_however_it_is_called() -> None:
    partner = call("u2", "book", step=4).model_copy(update={"name": "partner"})
    either = call("u1", "book").model_copy(update={"alternative": partner})
    other = partner.model_copy(update={"input": {"city": "Rome"}})
    assert lost(*replied(2, (either, UNAVAILABLE)), *replied(4, (either, COMMITTED))) == []
    assert lost(*replied(2, (either, UNAVAILABLE)), *replied(4, (partner, COMMITTED))) == []
    assert lost(*replied(2, (either, UNAVAILABLE)), *replied(4, (other, COMMITTED))) == ["Paris: Away."]
    assert lost(*replied(2, (partner, UNAVAILABLE)), *replied(4, (either, COMMITTED))) == []


def test_the_ledger_decides_whether_an_uncertain_call_failed() -> None:
    uncertain = booked(2, UNCERTAIN)
    assert lost(*uncertain, ledger=[effect(KEY, "COMMITTED")]) == []
    assert lost(*uncertain, ledger=[AWAY]) == ["Paris: Closed."]
    assert lost(*uncertain, *booked(4, COMMITTED, city="Rome"), ledger=[AWAY]) == ["Paris: Closed."]
    refused = effect(KEY, "FAILED", error="ToolRejected", errorMessage="No seats.")
    assert lost(*uncertain, *booked(4, COMMITTED, city="Rome"), ledger=[refused]) == []


def test_a_call_that_a_recovery_answers_for_came_to_nothing_too() -> None:
    asked = [BOOKED, recovered(3, "REPLAN", text="Plan again.")]
    assert lost(*asked) == ["Paris: The turn ended before it."]
    assert lost(*asked, ledger=[AWAY]) == ["Paris: Closed."]
    assert lost(*asked, ledger=[effect(KEY, "COMMITTED")]) == []
    assert lost(*asked, *booked(4, COMMITTED)) == []


def test_a_doubt_is_remembered_until_the_next_decision() -> None:
    doubted = decided(2, decision("INVALID", message="Before you finish: …", doubted=True), said({"Text": "x"}))
    assert fold([user(), doubted]).doubted
    assert not fold([user(), doubted, decided(3, decision("PLAN"), said({"Text": "x"}))]).doubted


def test_a_reply_without_calls_is_answered_at_once() -> None:
    plan = decision("PLAN", tool_use_id="u1", answers=[Answer(tool_use_id="u1", text="The plan is kept.")])
    conversation = fold([user(), decided(2, plan, said(use("u1", "update_plan")))])
    assert_bedrock_takes(conversation.messages)


def test_a_reply_that_was_nothing_is_corrected_in_words() -> None:
    invalid = decision("INVALID", message="The reply holds no action.")
    conversation = fold([user(), decided(2, invalid, said({"Text": "Hm."}))])
    assert_bedrock_takes(conversation.messages)
    assert conversation.messages[-1]["Content"] == [{"Text": "Not from the user: The reply holds no action."}]


def test_an_empty_reply_leaves_no_empty_message() -> None:
    conversation = fold([user(), decided(2, decision("INVALID", message="Nothing came."))])
    assert_bedrock_takes(conversation.messages)
    assert conversation.messages == [
        said({"Text": "Fly me to Paris."}, {"Text": "Not from the user: Nothing came."}, role="user")
    ]


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

    assert fold(journal(same, plan, same)).repeats == 2  # planning between two equal calls does not make them different
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


HELD = decision(
    "ASK_APPROVAL", calls=[call("u1", "book"), call("u2")], waits_for="2", answers=[error_answer("u3", "?")]
)
HELD_STEP = decided(2, HELD, said(use("u1", "book"), use("u2", "look"), use("u3", "fly")))
SHARED = decision(
    "DELEGATE",
    children=[child("u1", "child-1"), child("u2", "child-2")],
    waits_for="2",
    answers=[error_answer("u3", "?")],
)
SHARED_STEP = decided(2, SHARED, said(*(use(f"u{number}", "delegate") for number in (1, 2, 3))))


def test_calls_that_wait_for_an_approval_stay_open_and_are_answered_once_they_have_results() -> None:
    waiting = fold([user(), HELD_STEP])
    assert (waiting.last, waiting.approval) == (HELD, "2")
    assert [message["Role"] for message in waiting.messages] == ["user", "assistant"]
    done = fold([user(), HELD_STEP, answered(3, COMMITTED, COMMITTED)])
    assert_bedrock_takes(done.messages)
    assert (done.last, done.approval) == (None, "2")


def test_answers_to_what_is_open_come_before_all_else_that_is_said() -> None:
    for step, answers in (
        (HELD_STEP, [error_answer("u1", "Refused."), error_answer("u2", "Refused.")]),
        (SHARED_STEP, [Answer(tool_use_id="u1", text="Done."), error_answer("u2", "Failed.")]),
    ):
        conversation = fold([user(), step])
        [message] = pending_message(conversation, ["Well?"], answers, ["The other has come."])
        conversation.add(message["Role"], message["Content"])
        assert_bedrock_takes(conversation.messages)
        assert list(results_of(message)) == ["u1", "u2", "u3"]
        assert message["Content"][3:] == [{"Text": "Well?"}, {"Text": "Not from the user: The other has come."}]


def test_a_delegation_stays_open_until_the_next_decision() -> None:
    conversation = fold([user(), SHARED_STEP])
    assert conversation.last == SHARED
    results = [{"ToolResult": {"ToolUseId": f"u{number}", "Content": [{"Text": "x"}]}} for number in (1, 2, 3)]
    told = decided(3, decision("PLAN"), said(*results, role="user"), said({"Text": "Well."}), inputs=("INPUT#child-1",))
    assert_bedrock_takes(fold([user(), SHARED_STEP, told]).messages)


@pytest.mark.parametrize("step", [HELD_STEP, SHARED_STEP])
def test_a_recovery_that_speaks_closes_what_waits(step: Any) -> None:
    conversation = fold([user(), step, recovered(3, "REPLAN", text="Plan again.")])
    assert_bedrock_takes(conversation.messages)
    assert conversation.last is None
    assert conversation.messages[-1]["Content"][-1] == {"Text": "Not from the user: Plan again."}
    assert results_of(conversation.messages[-1])["u3"]["Content"] == [{"Text": "?"}]


@pytest.mark.parametrize("step", [HELD_STEP, SHARED_STEP])
def test_a_recovery_without_words_leaves_it_open(step: Any) -> None:
    assert fold([user(), step, recovered(3)]).last == fold([user(), step]).last


def test_news_is_no_answer_to_a_question() -> None:
    asked = decision("ASK_USER", tool_use_id="u1", message="When?")
    conversation = fold([user(), decided(2, asked, said(use("u1", "ask_user", question="When?")))])
    [message] = pending_message(conversation, ["Tomorrow."], news=["The flight is full."])
    assert results_of(message)["u1"]["Content"] == [{"Text": "Tomorrow."}]
    assert message["Content"][1:] == [{"Text": "Not from the user: The flight is full."}]


def test_nothing_that_has_come_is_no_message() -> None:
    assert pending_message(fold([user()]), []) == []


def test_the_json_protocol_is_told_in_words_what_became_of_its_child() -> None:
    asked = decision("DELEGATE", children=[child("")], waits_for="2")
    conversation = fold([user(), decided(2, asked, said({"Text": "{}"}))])
    [message] = pending_message(conversation, [], [Answer(tool_use_id="", text="It is done.")])
    assert message["Content"] == [{"Text": "It is done."}]


# ---- Results of tools that we have not made


def told_of(stored: str, tool_use_id: str = "u1") -> Any:
    """Return the model's view of a result, stored as a machine stores any value."""
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call(tool_use_id)]), said(use("u1", "look"))),
        {**answered(3), "results": f'[{{"outcome": "COMMITTED", "value": {stored}}}]'},
    ]
    messages = fold(journal).messages
    json.dumps(messages, ensure_ascii=False, allow_nan=False).encode()
    return messages[-1]["Content"][-1]


def test_half_a_character_in_a_result_is_replaced() -> None:
    assert told_of('{"\\ud83d": "\\udc00"}')["ToolResult"]["Content"] == [{"Json": {"\ufffd": "\ufffd"}}]


@pytest.mark.parametrize("levels", [300, 2000])
def test_what_nests_too_deep_in_a_result_is_told_as_text(levels: int) -> None:
    [block] = told_of('{"deep": ' + "[" * levels + "]" * levels + ', "found": true}')["ToolResult"]["Content"]
    assert block["Json"]["found"] is True
    assert "[[[[" in json.dumps(block)
    assert not nests_deeper(block, STORED_DEPTH + 2)


@pytest.mark.parametrize("tool_use_id", ["u1", ""])
def test_a_large_result_is_cut_to_its_beginning(tool_use_id: str) -> None:
    block = told_of(json.dumps({"pages": "é" * 125_000}), tool_use_id)
    [block] = block["ToolResult"]["Content"] if tool_use_id else [block]
    assert "250013 bytes, too many to be read in full" in block["Text"]
    assert '{"pages": "éé' in block["Text"]
    assert len(block["Text"].encode()) < RESULT_LIMIT


def test_a_result_that_just_fits_is_told_as_it_is() -> None:
    value = {"pages": "x" * (RESULT_LIMIT - 13)}
    assert told_of(json.dumps(value))["ToolResult"]["Content"] == [{"Json": value}]


def test_a_long_reason_is_cut() -> None:
    failed = CallResult(outcome=Outcome.REJECTED, error="ToolRejected", message="x" * 32_000)
    conversation = fold([user(), BOOKED, answered(3, failed)])
    [block] = conversation.messages[-1]["Content"]
    assert len(block["ToolResult"]["Content"][0]["Text"]) < 5000
    assert len(conversation.failed[0].reason) < 5000


def test_a_stored_result_of_the_ledger_may_be_anything_too() -> None:
    uncertain = answered(3, CallResult(outcome=Outcome.UNCERTAIN, error="States.Timeout"))
    deep = '{"\\ud83d": ' + "[" * 300 + "]" * 300 + "}"
    messages = fold([user(), BOOKED, uncertain], [effect(KEY, "COMMITTED", result=deep)]).messages
    json.dumps(messages, ensure_ascii=False).encode()
    assert results_of(messages[-1])["u1"]["Status"] == "success"
