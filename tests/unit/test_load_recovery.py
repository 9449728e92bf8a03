"""LoadRecovery: it reads all that a recovery needs from the record alone."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.records import (
    BOOK,
    CLAIM,
    COMMITTED,
    LOOK,
    answered,
    arrived,
    call,
    came,
    cancelling,
    decided,
    decision,
    definition,
    effect,
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
from turnstile_agents.definition import TIMEOUT_MARGIN, Compensation, Definition
from turnstile_agents.errors import InvalidRecord, LeaseLost
from turnstile_agents.items import Attributes
from turnstile_agents.load_recovery.load import LONGEST_BACK_OFF, load_recovery
from turnstile_agents.load_recovery.shapes import LoadRecoveryInput, OperatorQuestion, Situation

FIRST, SECOND, THIRD = "EFFECT#000002#0", "EFFECT#000002#1", "EFFECT#000004#0"
TAKEN = LoadRecoveryInput(agent_id="a-1", owner=CLAIM.owner, tried=False, order="", note="", by="", source="")
NOW = "2026-01-01T00:05:00Z"
ASKED = {
    "agentId": "a-1",
    "record": "OPERATOR",
    "questionId": "4",
    "question": "?",
    "reminders": "1",
    "token": "secret-token",
    "askedAt": NOW,
}
UNDO_BOOK = Compensation(tool="unbook", arguments={"booking": "id"})
TOOLS = [
    BOOK.model_copy(update={"compensation": UNDO_BOOK, "on_unknown": "reconcile", "reconcile": "find"}),
    BOOK.model_copy(update={"name": "unbook", "function": "turnstile-tool-unbook", "timeout_seconds": 20}),
    BOOK.model_copy(update={"name": "mail", "function": "turnstile-tool-mail", "timeout_seconds": 100}),
    LOOK.model_copy(update={"name": "find", "function": "turnstile-tool-find", "timeout_seconds": 7}),
]


def definition_with_undo(**limits: Any) -> Definition:
    return definition(**limits).model_copy(update={"tools": TOOLS})


def load(*items: Attributes, **fields: str) -> Situation:
    return load_with(definition_with_undo(), *items, **fields)


def hear(said: Any, *items: Attributes, **fields: str) -> Situation:
    """Load a record with an operator's answer."""
    asked = LoadRecoveryInput(**{**TAKEN.model_dump(exclude={"answer"}), "tried": True, "answer": said})
    return load_asked(asked, definition_with_undo(), *items, **fields)


def load_with(found: Definition, *items: Attributes, **fields: str) -> Situation:
    return load_asked(TAKEN, found, *items, **fields)


def load_asked(asked: LoadRecoveryInput, found: Definition, *items: Attributes, **fields: str) -> Situation:
    failed = {"error": "TurnDied", "errorMessage": "It ended.", "lastUpdated": NOW, "step": "4", **fields}
    operator = OperatorQuestion(reminder_seconds=60, reminders=2)
    above = {"ended": read_state(status="FAILED"), "works": read_state(status="PLANNING")}
    return load_recovery(asked, record([*items, state(**failed)]), lambda _, __: found, above.get, operator)


def test_an_errors_name_can_be_an_attribute_of_a_message() -> None:
    assert load(error="Bad\x00\u202ename").error == "Bad\\x00\\u202ename"


def test_a_record_with_nothing_open() -> None:
    situation = load(user(), effect(FIRST, "FAILED"))
    assert (situation.agent.step, situation.record, situation.error) == (4, "STEP#000005", "TurnDied")
    assert (situation.unsettled, situation.compensations, situation.standing) == ([], [], False)
    assert (situation.inbox, situation.unheard, situation.undone) == (0, False, False)
    assert situation.dump()["operator"] == {"reminderSeconds": 60, "reminders": 2, "questionId": "1"}
    assert not situation.refused


def test_a_lease_of_another_is_not_recovered() -> None:
    with pytest.raises(LeaseLost, match="another does"):
        load(owner="another")


def test_an_agent_that_is_not_there() -> None:
    with pytest.raises(InvalidRecord, match="no STATE"):
        load_recovery(
            TAKEN,
            record([]),
            lambda _, __: definition(),
            lambda _: None,
            OperatorQuestion(reminder_seconds=1, reminders=0),
        )


def test_what_is_unsettled_comes_with_all_that_settles_it() -> None:
    situation = load(
        effect(FIRST, "RESERVED"),
        effect(SECOND, "UNCERTAIN", "mail"),
        effect(THIRD, "COMMITTED"),
        effect(f"{THIRD}#ALT1", "FAILED"),
    )
    booked, mailed = situation.unsettled
    assert (booked.key, booked.full_key, booked.on_unknown) == (FIRST, f"a-1#{FIRST}", "reconcile")
    assert (booked.function, booked.input) == ("turnstile-tool-book", {"city": "Paris"})
    assert (booked.look_up.function, booked.look_up.key) == ("turnstile-tool-find", f"a-1#{FIRST}#LOOKUP")
    assert (mailed.tool, mailed.on_unknown, mailed.look_up.function) == ("mail", "ask", "")


@pytest.mark.parametrize(("look_up", "instead"), [("find", "reconcile"), (None, "ask")])
def test_no_call_is_made_again_by_a_key_that_the_tool_may_have_forgotten(look_up: str | None, instead: str) -> None:
    tool = BOOK.model_copy(update={"on_unknown": "retry", "reconcile": look_up})
    found = definition().model_copy(update={"tools": [tool, *TOOLS[1:]]})
    for days, expected in ((28, "retry"), (30, instead)):
        reserved = (datetime.fromisoformat(NOW) - timedelta(days=days)).isoformat()
        [entry] = load_with(found, effect(FIRST, "UNCERTAIN", reservedAt=reserved)).unsettled
        assert (entry.on_unknown, bool(entry.look_up.function)) == (expected, bool(look_up))


def test_the_machine_waits_longer_than_each_function() -> None:
    situation = load(effect(FIRST, "UNCERTAIN"), effect(SECOND, "COMMITTED"))
    [open_call], [undo] = situation.unsettled, situation.compensations
    assert open_call.timeout_seconds > BOOK.timeout_seconds
    assert open_call.look_up.timeout_seconds > 7
    assert undo.timeout_seconds > 20


@pytest.mark.parametrize("status", ["RESERVED", "UNCERTAIN"])
def test_no_look_up_before_the_longest_open_call_can_have_ended(status: str) -> None:
    late = "2026-01-01T00:04:30.000+00:00"
    situation = load(effect(FIRST, status, reservedAt=NOW), effect(SECOND, status, "mail", reservedAt=late))
    ends = datetime.fromisoformat(situation.calls_end_by)
    assert ends >= datetime.fromisoformat(late) + timedelta(seconds=100)
    assert situation.calls_end_by.endswith("Z")


TAKEN_OVER = datetime.fromisoformat(NOW)
MAIL_SECONDS = 100 + TIMEOUT_MARGIN
LAST_ATTEMPT = 90 + 3 * MAIL_SECONDS + 1 + 2 + 4
"""Seconds after the reservation by which the last attempt of a call to mail begins."""


@pytest.mark.parametrize(
    ("before", "waits"),
    [
        # The reservation itself may have taken 90 s, and each of three attempts its whole timeout.
        (0, MAIL_SECONDS),
        (LAST_ATTEMPT - 1, MAIL_SECONDS),
        (LAST_ATTEMPT, MAIL_SECONDS),
        (LAST_ATTEMPT + 1, MAIL_SECONDS - 1),
        (LAST_ATTEMPT + MAIL_SECONDS - 1, 1),
        (LAST_ATTEMPT + MAIL_SECONDS, 0),
        (LAST_ATTEMPT + MAIL_SECONDS + 1, 0),
        (30 * 24 * 3600, 0),
    ],
)
@pytest.mark.parametrize("status", ["RESERVED", "UNCERTAIN"])
def test_a_recovery_waits_until_the_last_attempt_of_a_call_must_have_ended(
    before: int, waits: int, status: str
) -> None:
    reserved = TAKEN_OVER - timedelta(seconds=before)
    situation = load(effect(FIRST, status, "mail", reservedAt=reserved.isoformat()))
    assert datetime.fromisoformat(situation.calls_end_by) == TAKEN_OVER + timedelta(seconds=waits)


def test_what_this_recovery_has_called_itself_was_called_since_it_took_over() -> None:
    reserved = (TAKEN_OVER + timedelta(seconds=60)).isoformat()
    called = {"reservedAt": reserved, "owner": CLAIM.owner}
    situation = load(effect(FIRST, "UNCERTAIN", "mail", settledAt="", **called))
    ends = TAKEN_OVER + timedelta(seconds=60 + LAST_ATTEMPT + MAIL_SECONDS)
    assert datetime.fromisoformat(situation.calls_end_by) == ends
    # Once the recovery has recorded that the outcome is unknown, no attempt begins any more.
    doubted = (TAKEN_OVER + timedelta(seconds=70)).isoformat()
    situation = load(effect(FIRST, "UNCERTAIN", "mail", settledAt=doubted, **called))
    assert datetime.fromisoformat(situation.calls_end_by) == TAKEN_OVER + timedelta(seconds=70 + MAIL_SECONDS)


@pytest.mark.parametrize("before", [0, LAST_ATTEMPT, 30 * 24 * 3600])
def test_a_recovery_before_this_one_may_have_called_again_until_it_lost_the_lease(before: int) -> None:
    tools = [tool.model_copy(update={"on_unknown": "retry"}) if tool.name == "mail" else tool for tool in TOOLS]
    found = definition().model_copy(update={"tools": tools})
    reserved = TAKEN_OVER - timedelta(seconds=before)
    seen = {"reservedAt": reserved.isoformat(), "error": "States.Timeout"}
    situation = load_with(found, effect(FIRST, "UNCERTAIN", "mail", **seen))
    assert datetime.fromisoformat(situation.calls_end_by) == TAKEN_OVER + timedelta(seconds=MAIL_SECONDS)


def test_an_undo_is_waited_for_like_a_call() -> None:
    undo = effect(f"{FIRST}#UNDO#1", "RESERVED", "unbook", reservedAt=NOW)
    ends = load(effect(FIRST, "COMPENSATING"), undo).calls_end_by
    assert datetime.fromisoformat(ends) == TAKEN_OVER + timedelta(seconds=20 + TIMEOUT_MARGIN)


def test_a_part_of_a_second_is_waited_for() -> None:
    situation = load(effect(FIRST, "RESERVED", reservedAt=NOW), lastUpdated="2026-01-01T00:05:00.001Z")
    assert situation.calls_end_by == "2026-01-01T00:05:16Z"


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        ("", True),
        ("Lambda.Unknown", True),
        ("Lambda.ServiceException", True),
        ("States.Permissions", True),
        ("States.Timeout", False),
        ("States.DataLimitExceeded", False),
        ("ToolOutcomeUnknown", False),
        ("Runtime.ExitError", False),
        ("KeyError", False),
    ],
)
def test_a_call_whose_end_was_seen_is_not_waited_for(error: str, waits: bool) -> None:
    seen = effect(FIRST, "UNCERTAIN", reservedAt=NOW, error=error)
    assert (load(seen).calls_end_by > NOW) == waits


def test_a_call_that_has_ended_is_not_waited_for() -> None:
    old = "2025-12-31T00:00:00.000Z"
    situation = load(effect(FIRST, "COMMITTED", reservedAt=NOW), effect(SECOND, "FAILED", "mail", reservedAt=old))
    assert situation.calls_end_by == NOW


def test_what_stands_is_undone_newest_first() -> None:
    situation = load(
        effect(FIRST, "COMMITTED", result='{"id": "B-1"}'),
        effect(SECOND, "COMMITTED", "mail"),
        effect(THIRD, "COMPENSATING", result='{"id": "B-2", "seat": "1A"}'),
    )
    assert [undo.key for undo in situation.compensations] == [THIRD, FIRST]
    newest = situation.compensations[0]
    assert (newest.undo_key, newest.tool, newest.function) == (f"{THIRD}#UNDO#1", "unbook", "turnstile-tool-unbook")
    assert newest.input == {"booking": "B-2"}
    assert situation.standing


@pytest.mark.parametrize("status", ["RESERVED", "UNCERTAIN", "FAILED", "COMPENSATED"])
def test_what_does_not_stand_is_not_undone(status: str) -> None:
    situation = load(effect(FIRST, status))
    assert (situation.compensations, situation.standing) == ([], False)


def test_an_effect_without_a_compensation_stands() -> None:
    situation = load(effect(FIRST, "COMMITTED", "mail"))
    assert (situation.compensations, situation.standing) == ([], True)


@pytest.mark.parametrize("result", ['{"number": 7}', '"done"', "[]"])
def test_a_result_without_what_the_compensation_needs_stands(result: str) -> None:
    situation = load(effect(FIRST, "COMMITTED", result=result))
    assert (situation.compensations, situation.standing) == ([], True)


def test_a_compensation_is_not_compensated() -> None:
    situation = load(effect(FIRST, "COMPENSATED"), effect(f"{FIRST}#UNDO#1", "COMMITTED", "unbook"))
    assert (situation.compensations, situation.standing) == ([], False)


def test_a_compensation_whose_end_is_unknown_is_unsettled() -> None:
    situation = load(effect(FIRST, "COMPENSATING"), effect(f"{FIRST}#UNDO#1", "RESERVED", "unbook"))
    assert [(entry.key, entry.tool) for entry in situation.unsettled] == [(f"{FIRST}#UNDO#1", "unbook")]
    assert [entry.undoes for entry in situation.unsettled] == [FIRST]


def test_an_effect_that_undoes_nothing_is_settled_alone() -> None:
    assert [entry.undoes for entry in load(effect(FIRST, "RESERVED")).unsettled] == [""]


@pytest.mark.parametrize("failed", [0, 1, 2, 10])
def test_each_attempt_to_undo_has_a_key_of_its_own(failed: int) -> None:
    attempts = [effect(f"{FIRST}#UNDO#{number}", "FAILED", "unbook") for number in range(1, failed + 1)]
    [undo] = load(effect(FIRST, "COMMITTED"), *sorted(attempts, key=lambda item: item["record"])).compensations
    assert undo.undo_key == f"{FIRST}#UNDO#{failed + 1}"


@pytest.mark.parametrize("status", ["RESERVED", "UNCERTAIN", "COMMITTED"])
def test_an_attempt_that_may_have_happened_keeps_its_key(status: str) -> None:
    # So the next attempt cannot be reserved.
    attempts = effect(f"{FIRST}#UNDO#1", "FAILED", "unbook"), effect(f"{FIRST}#UNDO#2", status, "unbook")
    [undo] = load(effect(FIRST, "COMPENSATING"), *attempts).compensations
    assert undo.undo_key == f"{FIRST}#UNDO#2"


def test_recoveries_are_counted_since_the_last_step_forward() -> None:
    journal = [user(), recovered(2), decided(3, decision("PLAN"), said({"Text": "Well."}))]
    assert load(*journal).attempts == 0
    assert load(*journal, recovered(4), recovered(5, "REPLAN", text="Again.")).attempts == 2


def test_the_pause_grows_and_has_an_end() -> None:
    journal = [recovered(step) for step in range(2, 30)]
    pauses = [load(user(), *journal[:count]).back_off_seconds for count in (0, 1, 2, 3, 28)]
    assert pauses == [1, 2, 4, 8, LONGEST_BACK_OFF]


def undone(record: str, at: str) -> list[Attributes]:
    """Return the entries of an effect that a second attempt has undone."""
    return [
        effect(record, "COMPENSATED"),
        effect(f"{record}#UNDO#1", "FAILED", "unbook", settledAt="2026-01-01T00:00:01.000Z"),
        effect(f"{record}#UNDO#2", "COMMITTED", "unbook", settledAt=at),
    ]


@pytest.mark.parametrize("action", ["COMPENSATE", "REPLAN", "RETRY"])
def test_what_was_undone_is_told_once(action: str) -> None:
    before, after = undone(FIRST, "2026-01-01T00:04:59Z"), undone(FIRST, "2026-01-01T00:05:00.001+00:00")
    assert load(user(), *before).undone
    assert load(user(), *before, recovered(5, action)).undone  # it had no message
    assert not load(user(), *before, recovered(5, action, text="Undone.")).undone
    # The effect is older than the last message, and its undo is newer.
    assert load(user(), *after, recovered(5, action, text="Undone.")).undone


def test_a_turn_that_goes_on_is_told_what_does_not_stand_any_more() -> None:
    gone = "Undone since, so that it does not stand any more: book."
    texts = load(*undone(FIRST, NOW), effect(SECOND, "COMMITTED", "mail"), **FAILURE).texts
    assert texts.retry == gone
    assert texts.replan == f"The last attempt failed: ToolUnavailable: No seats. {gone} Make a new plan and go on."
    told = load(*undone(FIRST, NOW), recovered(6, text="Undone."), **FAILURE).texts
    assert (told.retry, gone in told.replan) == ("", False)
    assert load(effect(FIRST, "COMMITTED"), **FAILURE).texts.retry == ""


@pytest.mark.parametrize("status", ["FAILED", "UNCERTAIN"])
def test_the_operator_reads_why_an_undo_did_not_work(status: str) -> None:
    cause = json.dumps({"errorMessage": "Too late." + "!" * 5_000})
    undo = effect(f"{FIRST}#UNDO#1", status, "unbook", error="ToolRejected", errorMessage=cause)
    lines = load(effect(FIRST, "COMMITTED"), undo, **FAILURE).texts.operator.splitlines()
    [line] = [line for line in lines if line.startswith(f"  {status:<12} unbook")]
    assert line.startswith(f'  {status:<12} unbook {{"city": "Paris"}}: ToolRejected: Too late.!')
    assert len(line) < 300


def test_words_that_no_decision_has_seen() -> None:
    heard = decided(2, decision("PLAN"), said({"Text": "Rome."}, role="user"), inputs=("INPUT#1",))
    assert not load(user(), heard, arrived("1", "Rome.")).unheard
    situation = load(user(), heard, arrived("1", "Rome."), arrived("2", "No, Paris."))
    assert (situation.unheard, situation.inbox) == (True, 2)


def test_only_words_of_the_user_can_be_unheard() -> None:
    situation = load(user(), ruled("2", "REFUSE"), reported("child-1"), cancelling())
    assert (situation.unheard, situation.inbox) == (False, 3)


def test_a_cancellation_is_found() -> None:
    assert not load(user()).cancelled
    assert load(user(), cancelling(), cancels="1").cancelled
    # An ended parent waits no more for its child: that counts as a cancellation too.
    assert load(user(), parent="ended").cancelled
    assert not load(user(), parent="works").cancelled


def test_a_child_reports_to_its_parent_and_asks_no_user() -> None:
    assert not load(user()).child
    situation = load(effect(FIRST, "COMMITTED"), parent="works", depth="1", **FAILURE)
    assert situation.child
    assert situation.texts.question == "I could not reach the goal: No seats. What was done is undone: book."


def test_limits_and_counters_are_carried_for_the_machine() -> None:
    situation = load_with(definition_with_undo(recoveries=7), replans="3").dump()
    assert (situation["limits"]["recoveries"], situation["used"]) == (7, {"replans": 3})


FAILURE = {
    "goal": "Fly to Paris on Monday.",
    "error": "ToolUnavailable",
    "errorMessage": json.dumps({"errorMessage": "No seats.", "stackTrace": ["File x.py"], "requestId": "r-1"}),
}


def test_the_operator_reads_what_happened_what_was_done_and_what_can_be_decided() -> None:
    texts = load(effect(FIRST, "FAILED"), effect(SECOND, "UNCERTAIN", "mail"), **FAILURE).texts
    assert texts.subject == "Turnstile: agent a-1 needs a decision"
    for line in (
        "Goal: Fly to Paris on Monday.",
        "What happened: ToolUnavailable: No seats.",
        '  FAILED       book {"city": "Paris"}',
        '  UNCERTAIN    mail {"city": "Paris"}',
        f'  {SECOND}, mail {{"city": "Paris"}}, since 2026-01-01T00:00:00.000Z',
        f"  turnstile decide a-1 RETRY|REPLAN|COMPENSATE|ABORT --not '{SECOND}' [--note TEXT]",
    ):
        assert line in texts.operator.splitlines()
    for word in ("RETRY ", "REPLAN ", "COMPENSATE ", "ABORT "):
        assert any(line.startswith(word) for line in texts.operator.splitlines())


def test_an_operator_whose_agent_did_nothing() -> None:
    text = load(user(), **FAILURE).texts.operator
    assert "What was done:\n  nothing\n" in text
    assert "  turnstile decide a-1 RETRY|REPLAN|COMPENSATE|ABORT [--note TEXT]" in text.splitlines()
    assert "not known" not in text


def test_no_text_tells_what_is_not_for_its_reader() -> None:
    journal = [
        user(),
        decided(2, decision("TOOL_USE", calls=[call("u1", "book")]), said(use("u1", "book"))),
        answered(3, COMMITTED),
        effect(FIRST, "COMMITTED"),
        {"token": "secret-token", "question": "An older one?", "askedAt": NOW, **ASKED},
    ]
    texts = load(*journal, **FAILURE).texts.dump()
    for secret in ("secret-token", "stackTrace", "x.py", "r-1", CLAIM.owner, "turnstile-tool-"):
        assert not [text for text in texts.values() if secret in text]


def test_the_subject_is_one_that_sns_takes() -> None:
    texts = load(agentId="a" * 64).texts
    assert len(texts.subject) <= 100
    assert texts.subject.isascii() and texts.subject.isprintable()


def test_people_are_told_what_was_undone_and_what_was_not() -> None:
    ledger = [
        effect(FIRST, "FAILED"),
        effect(f"{FIRST}#ALT1", "COMMITTED", "book"),
        effect(SECOND, "COMMITTED", "mail"),
        effect(f"{FIRST}#UNDO#1", "FAILED", "unbook"),
    ]
    texts = load(*ledger, **FAILURE).texts
    for text in (texts.compensated, texts.question):
        assert "What was done is undone: book. What cannot be undone stands: mail." in text
    undone = load(effect(FIRST, "COMPENSATED"), **FAILURE).texts
    assert "What was done is undone: book. What shall I do instead?" in undone.question


def test_a_long_story_fits_into_the_payload() -> None:
    many = [effect(f"EFFECT#{step:06d}#0", "COMMITTED", input=json.dumps({"city": "ä" * 900})) for step in range(400)]
    situation = load(user(), *many, error="Failed", errorMessage="ä" * 30_000).texts
    assert len(json.dumps(situation.dump(), ensure_ascii=False).encode()) < 150_000
    assert situation.operator.endswith(" …")


def test_the_model_and_the_user_are_told_why() -> None:
    texts = load(effect(FIRST, "COMMITTED"), **FAILURE).texts
    assert texts.replan.startswith("The last attempt failed: ToolUnavailable: No seats. ")
    assert "ToolUnavailable: No seats." in texts.compensated and "book" in texts.compensated
    assert "No seats." in texts.question and texts.question.endswith("What shall I do instead?")


def test_an_unchecked_result_of_a_tool_is_read() -> None:
    deep = "[" * 300 + "]" * 300
    result = f'{{"id": "\\ud83d", "more": {deep}}}'
    situation = load(user(), effect(FIRST, "COMMITTED", result=result), effect(SECOND, "UNCERTAIN", input=result))
    assert situation.compensations[0].input == {"booking": "\ufffd"}
    assert situation.unsettled[0].input["id"] == "\ufffd"
    json.dumps(situation.dump(), ensure_ascii=False).encode()


# ---- An operator's answers


def test_a_question_has_another_id_than_the_one_before() -> None:
    assert load(user()).operator.question_id == "1"
    assert load(user(), ASKED).operator.question_id == "5"


def answer(decision: str, *effects: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"decision": decision, "effects": [*effects], **fields}


def happened(key: str, **result: Any) -> dict[str, Any]:
    return {"key": key, "happened": True, **result}


def did_not(key: str) -> dict[str, Any]:
    return {"key": key, "happened": False}


def test_an_answer_settles_each_effect_as_it_says() -> None:
    ledger = [effect(FIRST, "UNCERTAIN"), effect(SECOND, "RESERVED", "mail"), effect(THIRD, "UNCERTAIN", "mail")]
    said = answer("RETRY", happened(FIRST, result={"id": "B-7"}), happened(SECOND), did_not(THIRD))
    situation = hear({**said, "note": "Seen.", "by": "ada", "source": "com.agent.workflow"}, *ledger)
    assert not situation.refused
    agent = situation.agent
    assert (agent.order, agent.note, agent.by, agent.source) == ("RETRY", "Seen.", "ada", "com.agent.workflow")
    first, second, third = situation.unsettled
    assert {effect.on_unknown for effect in situation.unsettled} == {"told"}
    assert (first.said.happened, first.said.result) == (True, {"id": "B-7"})
    assert second.said.happened and "not known" in second.said.result["note"]
    assert (third.said.happened, third.denial) == (False, "The operator says that the call did not take effect.")


def test_an_effect_that_was_looked_up_is_denied_in_other_words() -> None:
    [looked_up] = load(effect(FIRST, "UNCERTAIN")).unsettled
    assert looked_up.denial == "The call was cut off before it took effect."


@pytest.mark.parametrize("decision", ["RETRY", "REPLAN", "COMPENSATE"])
def test_a_decision_that_goes_on_needs_an_answer_for_each_effect(decision: str) -> None:
    ledger = [effect(FIRST, "UNCERTAIN"), effect(SECOND, "RESERVED", "mail"), effect(THIRD, "COMMITTED")]
    situation = hear(answer(decision, did_not(FIRST)), *ledger, **FAILURE)
    assert (situation.refused, situation.agent.order) == (True, "")
    assert {effect.on_unknown for effect in situation.unsettled} == {"ask"}
    first_line = situation.texts.operator.splitlines()[0]
    assert first_line.startswith("The last answer was refused, and nothing was done: ")
    assert (
        f"{decision} needs to know of each uncertain effect whether it happened. Missing: {SECOND}, mail" in first_line
    )
    assert FIRST not in first_line
    for effects in ([did_not(FIRST), did_not(SECOND)], [happened(FIRST, result={"id": "B-1"}), happened(SECOND)]):
        assert not hear(answer(decision, *effects), *ledger).refused


def test_an_agent_may_be_ended_with_what_stays_uncertain() -> None:
    ledger = [effect(FIRST, "UNCERTAIN"), effect(SECOND, "UNCERTAIN", "mail")]
    situation = hear(answer("ABORT", did_not(SECOND)), *ledger)
    assert (situation.refused, situation.agent.order) == (False, "ABORT")
    assert [effect.on_unknown for effect in situation.unsettled] == ["ask", "told"]


def test_a_result_that_an_undo_needs_is_asked_for() -> None:
    booked = effect(FIRST, "UNCERTAIN")
    assert "to undo it, its result must hold id" in load(booked).texts.operator
    situation = hear(answer("COMPENSATE", happened(FIRST)), booked)
    assert situation.refused
    assert f"COMPENSATE can undo {FIRST} only with id of its result" in situation.texts.operator
    # The operator may say that the result is unknown. Where nothing is undone, no result is needed.
    assert not hear(answer("COMPENSATE", happened(FIRST, result="unknown")), booked).refused
    assert not hear(answer("REPLAN", happened(FIRST)), booked).refused
    assert not hear(answer("COMPENSATE", happened(FIRST)), effect(FIRST, "UNCERTAIN", "mail")).refused


def test_an_undo_that_is_uncertain_is_named_by_its_own_key() -> None:
    ledger = [effect(FIRST, "COMPENSATING"), effect(f"{FIRST}#UNDO#1", "UNCERTAIN", "unbook")]
    assert hear(answer("COMPENSATE"), *ledger).refused
    [undo] = hear(answer("COMPENSATE", happened(f"{FIRST}#UNDO#1")), *ledger).unsettled
    assert (undo.key, undo.on_unknown) == (f"{FIRST}#UNDO#1", "told")


def test_an_effect_settled_since_the_question_needs_no_answer_and_may_have_one() -> None:
    settled = effect(FIRST, "COMMITTED")
    for effects in ([], [did_not(FIRST)]):
        situation = hear(answer("RETRY", *effects), settled)
        assert (situation.refused, situation.unsettled) == (False, [])


DEEP: Any = "end"
for _ in range(200):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "it is no JSON object"),
        ("RETRY", "it is no JSON object"),
        ([1], "it is no JSON object"),
        ({}, "decision: Field required"),
        (answer("CANCEL"), "decision: Input should be"),
        ({"decision": "RETRY", "note": 7}, "note: Input should be a valid string"),
        ({"decision": "RETRY", "note": "x" * 4001}, "note: String should have at most 4000"),
        ({"decision": "RETRY", "note": "x" * 40_000}, "at most 32768 are read"),
        ({"decision": "RETRY", "effects": {}}, "effects: Input should be a valid list"),
        ({"decision": "RETRY", "effects": [did_not(FIRST)] * 51}, "effects: List should have at most 50"),
        (answer("RETRY", {"key": FIRST}), "effects.0.happened: Field required"),
        (answer("RETRY", {"happened": True}), "effects.0.key: Field required"),
        (answer("RETRY", {"key": FIRST, "happened": "no"}), "effects.0.happened: Input should be a valid boolean"),
        (answer("RETRY", {**did_not(FIRST), "result": {}}), "a call that did not happen has no result"),
        (answer("RETRY", happened(FIRST, result=DEEP)), "nested more than 32 levels deep"),
        (answer("RETRY", did_not(FIRST), happened(FIRST)), f"it names {FIRST} twice"),
        (answer("ABORT", did_not("EFFECT#000009#0")), "this agent has no effect EFFECT#000009#0"),
        (answer("RETRY", token="t"), "token: Extra inputs are not permitted"),
        ({str(number): 1 for number in range(1000)}, "Extra inputs are not permitted"),
    ],
)
def test_an_answer_that_cannot_be_understood_is_refused_with_the_reason(said: Any, why: str) -> None:
    situation = hear(said, effect(FIRST, "UNCERTAIN"))
    assert (situation.refused, situation.agent.order, situation.agent.by) == (True, "", "")
    assert why in situation.texts.operator.split("needs a decision")[0]
    assert {effect.on_unknown for effect in situation.unsettled} == {"ask"}


def test_the_entry_of_a_cancelled_agent_names_the_first_that_cancelled_it() -> None:
    second = came("c2", "AgentCancelRequested", "2026-01-01T00:00:02Z", note="Stop.", by="bob")
    first = {**came("c1", "AgentCancelRequested", note="x" * 9000, by="eve"), "source": "com.agent.api"}
    agent = load(user(), second, first, cancels="2").agent
    assert (agent.note, agent.by, agent.source) == ("x" * 4000, "eve", "com.agent.api")
    unnamed = load(user(), cancelling("Enough."), cancels="1").agent
    assert (unnamed.note, unnamed.by, unnamed.source) == ("Enough.", "", "")
    assert load(user(), parent="ended").agent.note == ""


def test_a_cancellation_needs_no_readable_answer() -> None:
    situation = hear({"decision": "CANCEL"}, effect(FIRST, "UNCERTAIN"), cancelling(), cancels="1")
    assert (situation.refused, situation.cancelled, situation.agent.order) == (False, True, "")
    assert [effect.on_unknown for effect in situation.unsettled] == ["ask"]


def test_what_an_operator_leaves_uncertain_is_not_looked_up_again() -> None:
    [entry] = hear(answer("ABORT"), effect(FIRST, "UNCERTAIN")).unsettled
    assert (entry.on_unknown, entry.look_up.function) == ("ask", "")
