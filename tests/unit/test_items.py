"""The items of the table: what is read, what is left as text, and what is refused."""

import pytest
from pydantic import ValidationError

from tests.unit.records import decided, decision, effect, read_state, record, recovered, state, user
from turnstile_agents.errors import RecordTooNew
from turnstile_agents.items import SCHEMA_VERSION, Effect, ModelStep, UserStep, item_of, read_item
from turnstile_agents.record import Status


def test_an_item_in_the_form_of_dynamodb() -> None:
    stored = {name: {"N" if value.isdecimal() else "S": value} for name, value in state(children='["b-1"]').items()}
    item = read_item({**stored, "announce": {"S": "AgentStateUpdated"}})
    assert item == read_state(children='["b-1"]')
    assert (item.status, item.step, item.children, item.free) == (Status.PLANNING, 1, ["b-1"], False)


def test_a_record_by_kinds() -> None:
    read = record([user(), decided(2, decision("PLAN")), recovered(3), effect("EFFECT#000002#0", "RESERVED"), state()])
    assert [type(step).__name__ for step in read.steps] == ["UserStep", "ModelStep", "RecoveryStep"]
    assert [step.step for step in read.steps] == [1, 2, 3]
    assert read.state == read_state()
    assert list(read.ledger) == ["EFFECT#000002#0"] == [open_effect.record for open_effect in read.unsettled]


def test_the_first_version_has_no_number() -> None:
    first = {name: value for name, value in state().items() if name != "schemaVersion"}
    assert read_state().schema_version == SCHEMA_VERSION
    assert record([first]).state == read_state(schemaVersion="1")


def test_a_record_of_a_newer_version_says_what_to_do() -> None:
    with pytest.raises(RecordTooNew, match=r"agent a-1 has version 3, and this code knows 2.*Update this one"):
        item_of(state(schemaVersion="3"))


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({**user(), "record": "NOTE#1"}, "no machine writes an item NOTE#1"),
        ({**user(), "who": "CLOCK"}, "who = 'CLOCK'; known are USER, MODEL, TOOLS, RECOVERY"),
        ({**effect("EFFECT#000002#0", "RESERVED"), "status": "MAYBE"}, "status"),
        (state(children="b-1"), "children"),
        (state(step="many"), "step"),
        ({name: value for name, value in state().items() if name != "owner"}, "owner"),
    ],
)
def test_an_item_that_no_machine_writes(broken: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        item_of(broken)


def test_a_decision_that_cannot_be_read_leaves_the_rest_of_its_step() -> None:
    step = item_of({**decided(2, decision("PLAN"), inputs=("INPUT#e1",)), "decision": '{"action": "DANCE"}'})
    assert isinstance(step, ModelStep)
    assert step.inputs == ["INPUT#e1"]
    with pytest.raises(ValidationError):
        step.read_decision()


def test_text_that_utf_8_cannot_hold_is_cleaned() -> None:
    stored = {name: {"S": value} for name, value in user("half \ud83d").items()}
    read = read_item(stored)
    assert isinstance(read, UserStep) and read.text == "half \ufffd"


def test_an_effect_knows_whether_it_is_an_undo() -> None:
    undo = item_of(effect("EFFECT#000002#0#UNDO#1", "UNCERTAIN", input="no JSON"))
    assert isinstance(undo, Effect)
    assert (undo.undoes, undo.unsettled, undo.arguments) == ("EFFECT#000002#0", True, {})
