"""LoadTurn: what a turn does next follows from the record alone."""

import json
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from agent.conversation import Item
from agent.definition import Definition
from agent.errors import ContextTooLarge, EffectUncertain, InvalidRecord, LeaseLost
from agent.record import CallResult, Outcome
from agent.turn import Turn
from load_turn.load import load_turn
from tests.unit.records import (
    BOOK,
    CLAIM,
    COMMITTED,
    UNCERTAIN,
    answered,
    arrived,
    call,
    decided,
    decision,
    definition,
    effect,
    recovered,
    said,
    state,
    use,
    user,
)
from workflows.engines.casing import to_wire


def load(*items: Item, definition_: Definition | None = None) -> Turn:
    found = definition_ or definition()
    return load_turn(CLAIM, items, lambda _name, _version: found, today="2026-01-02")


def asked(turn: Turn) -> Any:
    """What goes to the model."""
    return turn.dump()["request"]


ASKED = decided(2, decision("ASK_USER", tool_use_id="u1", message="When?"), said(use("u1", "ask_user")))
CALLED = decided(2, decision("TOOL_USE", calls=[call("u1", "book")]), said(use("u1", "book")))


def test_a_new_agent_asks_the_model() -> None:
    turn = load(state(), user())
    assert turn.entry == "ASK_MODEL"
    assert asked(turn)["Messages"] == [said({"Text": "Fly me to Paris."}, role="user")]
    assert asked(turn)["RequestMetadata"] == {"agentId": "a-1", "step": "1", "modelCalls": "0"}
    assert "2026-01-02" in asked(turn)["System"][1]["Text"]


@pytest.mark.parametrize("protocol", ["tools", "json"])
def test_the_request_is_one_that_converse_takes(protocol: Any) -> None:
    request = load(state(), user(), definition_=definition(protocol)).dump()["request"]
    if protocol == "json":
        assert request.pop("ToolConfig") == {}  # the machine has a state of its own for such a model
    shape = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    assert shape
    report = ParamValidator().validate(to_wire(request, shape), shape)
    assert not report.has_errors(), report.generate_report()


def test_a_model_without_tool_use_is_told_the_tools_in_words() -> None:
    system = asked(load(state(), user(), definition_=definition("json")))["System"][2]["Text"]
    assert "- book: Looks something up." in system
    assert "ASK_USER" in system


def test_a_decision_without_results_is_carried_out() -> None:
    turn = load(state(step="2"), user(), CALLED)
    assert (turn.entry, turn.decision and turn.decision.calls[0].key) == ("CARRY_OUT", "EFFECT#000002#0")
    assert turn.request is None


@pytest.mark.parametrize("waiting", [CALLED, ASKED])
def test_what_is_pending_is_gone_on_with_behind_the_entry_of_a_recovery(waiting: Item) -> None:
    turn = load(state(step="3"), user(), waiting, recovered(3))
    assert turn.entry == ("CARRY_OUT" if waiting is CALLED else "CLOSE")
    assert turn.decision and turn.decision.results_record == "STEP#000004"
    assert turn.decision.message == ("" if waiting is CALLED else "When?")


def test_a_recovery_that_has_spoken_leads_back_to_the_model() -> None:
    turn = load(state(step="3"), user(), CALLED, recovered(3, "REPLAN", text="Plan again."))
    assert turn.entry == "ASK_MODEL"
    assert asked(turn)["Messages"][-1]["Content"][-1] == {"Text": "Plan again."}


def test_a_settled_outcome_lets_the_turn_go_on() -> None:
    journal = (user(), CALLED, answered(3, UNCERTAIN), recovered(4))
    turn = load(state(step="4"), *journal, effect("EFFECT#000002#0", "COMMITTED", result='{"id": "B-1"}'))
    assert turn.entry == "ASK_MODEL"
    assert '"B-1"' in json.dumps(asked(turn)["Messages"])


def test_results_lead_back_to_the_model() -> None:
    assert load(state(step="3"), user(), CALLED, answered(3, COMMITTED)).entry == "ASK_MODEL"


def test_an_open_question_closes_the_turn() -> None:
    assert load(state(step="2"), user(), ASKED).entry == "CLOSE"


def test_an_answer_opens_it_again_and_goes_into_the_next_entry() -> None:
    turn = load(state(step="2"), user(), ASKED, arrived("e1", "Tomorrow."))
    assert turn.entry == "ASK_MODEL"
    assert turn.pending.inputs == ["INPUT#e1"]
    assert asked(turn)["Messages"][-1] == turn.pending.messages[0]
    assert turn.agent.inbox == 1


def test_inputs_are_folded_in_the_order_of_their_events() -> None:
    turn = load(
        state(step="2"),
        user(),
        ASKED,
        arrived("b", "first", "2026-01-01T00:00:01Z"),
        arrived("a", "third", "2026-01-01T00:00:02Z", received="2026-01-01T00:00:09Z"),
        arrived("c", "second", "2026-01-01T00:00:02Z", received="2026-01-01T00:00:08Z"),
    )
    texts = [block["Text"] for block in turn.pending.messages[0]["Content"][0]["ToolResult"]["Content"]]
    assert texts == ["first", "second", "third"]


def test_an_input_is_folded_once() -> None:
    went_on = decided(3, decision("PLAN"), said({"Text": "Tomorrow."}, role="user"), inputs=("INPUT#e1",))
    turn = load(state(step="3"), user(), ASKED, went_on, arrived("e1", "Tomorrow."))
    assert turn.pending.inputs == []
    assert turn.agent.inbox == 1  # seen, though nothing of it is new


def test_an_unsettled_outcome_stops_the_turn() -> None:
    with pytest.raises(EffectUncertain, match="whether book took effect"):
        load(state(step="3"), user(), CALLED, answered(3, UNCERTAIN), effect("EFFECT#000002#0", "UNCERTAIN"))


def test_a_lease_of_another_is_not_worked_on() -> None:
    with pytest.raises(LeaseLost, match="somebody does"):
        load(state(owner="somebody"), user())


def test_a_goal_that_would_grow_every_checkpoint_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="short `goal`"):
        load(state(goal="ä" * 2049), user())


def test_a_request_that_does_not_fit_says_so() -> None:
    with pytest.raises(ContextTooLarge, match="payload of 20"):
        load(state(), user("x" * 200 * 1024))


def test_a_hidden_tool_is_not_offered() -> None:
    for protocol in ("tools", "json"):
        found = definition(protocol)
        hidden = BOOK.model_copy(update={"name": "find_booking", "hidden": True})
        turn = load(state(), user(), definition_=found.model_copy(update={"tools": [*found.tools, hidden]}))
        assert "find_booking" not in json.dumps(asked(turn))
        assert "find_booking" in [tool.name for tool in turn.tools]


def test_the_models_that_may_be_asked_instead_are_nested_in_their_order() -> None:
    found = definition()
    model = found.model.model_copy(update={"fallbacks": ["model-2", "model-3"]})
    turn = load(state(), user(), definition_=found.model_copy(update={"model": model}))
    nested = {"modelId": "model-2", "next": {"modelId": "model-3", "next": {}}}
    assert turn.dump()["fallback"] == nested
    assert load(state(), user()).dump()["fallback"] == {}


def test_what_speaks_against_being_complete() -> None:
    plan = [{"step": 1, "action": "Look", "status": "DONE"}, {"step": 2, "action": "Book", "status": "PENDING"}]
    refused = CallResult(outcome=Outcome.REJECTED, error="ToolRejected", message='{"errorMessage": "No seats."}')
    turn = load(state(step="3", plan=json.dumps(plan)), user(), CALLED, answered(3, refused))
    assert turn.agent.doubts == ["Step 2 of the plan is open: Book.", "book came to nothing: No seats."]
    assert load(state(step="3"), user(), CALLED, answered(3, COMMITTED)).agent.doubts == []


def test_whether_the_model_was_sent_back_for_it_just_now() -> None:
    doubted = decided(2, decision("INVALID", message="Before you finish: …", doubted=True), said({"Text": "x"}))
    assert load(state(step="2"), user(), doubted).agent.doubted
    assert not load(state(), user()).agent.doubted


def test_counters_and_limits_are_carried_for_the_machine() -> None:
    turn = load(state(modelCalls="7", inputTokens="30", outputTokens="12", costMicroUsd="9"), user())
    assert turn.agent.used.model_dump() == {
        "steps": 7,
        "tokens": 42,
        "cost_micro_usd": 9,
        "replans": 0,
        "wrong_replies": 0,
        "repeats": 0,
    }
    assert turn.dump()["agent"]["limits"]["steps"] == 40
