"""Settle: a late outcome enters the ledger of an ended agent once, and nothing else changes."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from tests.unit.records import effect, state, user
from tests.unit.stacks import mock_stack, put
from turnstile_agents.border import DEPTH, RESULT_LIMIT
from turnstile_agents.items import AgentState, Attributes, Record
from turnstile_agents.operator import RESULT_UNKNOWN
from turnstile_cli import cli
from turnstile_cli.cli import common
from turnstile_cli.stack import settle
from turnstile_cli.stack.client import Stack, StackError, UnknownAgent

BOOKED, CANCELLED = "EFFECT#000002#0", "EFFECT#000002#0#UNDO#1"
SAYS_YES = "An operator says that the call took effect, by ana (claimed)."
SAYS_NO = "An operator says that the call did not take effect, by ana (claimed)."


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr(common, "connect", lambda _: stack)
    with mock_stack() as stack:
        yield stack


def store(stack: Stack, *effects: Attributes, status: str = "FAILED") -> None:
    """Put an agent with this ledger."""
    ended = state(status=status, owner="NONE", nextAction="NONE", ends="1")
    for item in (user(), *({"settledAt": "", **each} for each in effects), ended):
        put(stack, {**item, "agentId": "a-1"})


def ledger(stack: Stack, *fields: str) -> dict[str, tuple[str, ...]]:
    items = stack.table.attributes("a-1")
    return {i["record"]: tuple(i[name] for name in fields) for i in items if i["record"].startswith("EFFECT#")}


def undoing(stack: Stack, status: str = "CANCELLED", undo: str = "UNCERTAIN") -> None:
    store(stack, effect(BOOKED, "COMPENSATING"), effect(CANCELLED, undo, "cancel"), status=status)


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("before", ["RESERVED", "UNCERTAIN"])
def test_a_call_that_took_effect(stack: Stack, status: str, before: str) -> None:
    store(stack, effect(BOOKED, before, error="States.Timeout"), status=status)
    ended = stack.table.state("a-1")
    settled = settle.settle(stack, "a-1", BOOKED, True, '{"id": "B-7"}')
    assert settled.dump() == {
        "agentId": "a-1",
        "key": BOOKED,
        "tool": "book",
        "status": "COMMITTED",
        "effect": "",
        "effectStatus": None,
    }
    fields = ("status", "result", "error", "errorMessage")
    assert ledger(stack, *fields) == {BOOKED: ("COMMITTED", '{"id": "B-7"}', "", SAYS_YES)}
    assert stack.table.state("a-1") == ended


def test_a_call_that_did_not(stack: Stack) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN", error="States.Timeout"), effect("EFFECT#000002#1", "UNCERTAIN"))
    settle.settle(stack, "a-1", BOOKED, False)
    assert ledger(stack, "status", "error", "errorMessage") == {
        BOOKED: ("FAILED", "NothingHappened", SAYS_NO),
        "EFFECT#000002#1": ("UNCERTAIN", "", ""),
    }
    assert ledger(stack, "settledAt")[BOOKED][0].endswith("Z")


@pytest.mark.parametrize(("given", "kept"), [("", json.dumps(RESULT_UNKNOWN)), ("null", "null")])
def test_a_result_that_is_not_known_is_no_empty_result(stack: Stack, given: str, kept: str) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"))
    settle.settle(stack, "a-1", BOOKED, True, given)
    assert ledger(stack, "status", "result") == {BOOKED: ("COMMITTED", kept)}


@pytest.mark.parametrize(
    ("happened", "undo", "booked"), [(True, "COMMITTED", "COMPENSATED"), (False, "FAILED", "COMMITTED")]
)
def test_an_undo_is_settled_with_its_effect(stack: Stack, happened: bool, undo: str, booked: str) -> None:
    undoing(stack)
    settled = settle.settle(stack, "a-1", CANCELLED, happened)
    assert (settled.status, settled.effect, settled.effect_status) == (undo, BOOKED, booked)
    assert ledger(stack, "status") == {BOOKED: (booked,), CANCELLED: (undo,)}


def test_nothing_is_half_settled(stack: Stack) -> None:
    """Check that if the effect does not wait for its undo, neither of the two entries changes."""
    store(stack, effect(BOOKED, "COMMITTED"), effect(CANCELLED, "UNCERTAIN", "cancel"))
    with pytest.raises(StackError, match=f"The table refused to settle {CANCELLED} of agent a-1; try again"):
        settle.settle(stack, "a-1", CANCELLED, True)
    assert ledger(stack, "status") == {BOOKED: ("COMMITTED",), CANCELLED: ("UNCERTAIN",)}


def test_an_agent_that_is_not_finished(stack: Stack) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"), status="WAITING_FOR_OPERATOR")
    with pytest.raises(StackError, match="is WAITING_FOR_OPERATOR and not finished: .* `turnstile decide a-1`"):
        settle.settle(stack, "a-1", BOOKED, False)


def test_an_unknown_agent(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "refusals", lambda _: [])
    with pytest.raises(UnknownAgent, match="There is no agent a-1 in the stack turnstile"):
        settle.settle(stack, "a-1", BOOKED, False)


def test_an_unknown_key(stack: Stack) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"), effect("EFFECT#000002#1", "COMMITTED"))
    with pytest.raises(StackError) as told:
        settle.settle(stack, "a-1", "STATE", False)
    assert str(told.value) == (
        f"Agent a-1 has no entry STATE in its ledger. Not settled: {BOOKED}, "
        'book {"city": "Paris"}, since 2026-01-01T00:00:00.000Z'
    )
    settle.settle(stack, "a-1", BOOKED, False)
    with pytest.raises(StackError, match="Every entry is settled"):
        settle.settle(stack, "a-1", "EFFECT#000009#0", False)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (effect(BOOKED, "COMMITTED"), "is settled already: it is COMMITTED"),
        (effect(BOOKED, "COMPENSATED"), "is settled already: it is COMPENSATED"),
        (
            effect(BOOKED, "FAILED", error="ToolRejected", errorMessage='{"errorMessage": "No seats"}'),
            "is settled already: it is FAILED: ToolRejected: No seats",
        ),
    ],
)
def test_what_is_settled_already(stack: Stack, entry: Attributes, told: str) -> None:
    store(stack, entry)
    with pytest.raises(StackError, match=told):
        settle.settle(stack, "a-1", BOOKED, entry["status"] == "FAILED")
    assert ledger(stack, "status") == {BOOKED: (entry["status"],)}


def test_the_undo_and_not_its_effect_is_settled(stack: Stack) -> None:
    undoing(stack)
    with pytest.raises(StackError, match=f"{BOOKED} took effect, and its undo is open: settle {CANCELLED}"):
        settle.settle(stack, "a-1", BOOKED, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"record": BOOKED, "status": "COMMITTED"}, "is settled already: it is COMMITTED"),
        ({"record": "STATE", "status": "PLANNING"}, "is PLANNING and not finished"),
    ],
)
def test_what_comes_between_the_look_and_the_write(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, change: Attributes, told: str
) -> None:
    """Check that a late report of the last turn wins, and that a record restarted by an operator stays unchanged."""
    store(stack, effect(BOOKED, "UNCERTAIN"))
    look = stack.read_agent

    def and_then(agent_id: str) -> tuple[AgentState, Record]:
        found = look(agent_id)
        put(stack, {**(stack.table.item_attributes(agent_id, change["record"]) or {}), **change})
        return found

    monkeypatch.setattr(stack, "read_agent", and_then)
    with pytest.raises(StackError, match=told):
        settle.settle(stack, "a-1", BOOKED, False)
    monkeypatch.undo()
    assert ledger(stack, "error") == {BOOKED: ("",)}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("{", "RESULT is no JSON"),
        ("[" * 100_000, "RESULT is no JSON"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), f"RESULT nests deeper than {DEPTH} levels"),
        (json.dumps("x" * RESULT_LIMIT), f"RESULT has {RESULT_LIMIT + 2} bytes; give at most {RESULT_LIMIT}"),
    ],
)
def test_an_invalid_result(stack: Stack, result: str, told: str) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"))
    with pytest.raises(StackError, match=told):
        settle.settle(stack, "a-1", BOOKED, True, result)
    assert ledger(stack, "status") == {BOOKED: ("UNCERTAIN",)}


def test_what_did_not_happen_has_no_result(stack: Stack) -> None:
    with pytest.raises(StackError, match="A call that did not take effect has no result"):
        settle.settle(stack, "a-1", BOOKED, False, "{}")


def test_half_a_character_is_cleaned(stack: Stack) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"))
    settle.settle(stack, "a-1", BOOKED, True, '{"id": "\\ud83d"}')
    assert ledger(stack, "result") == {BOOKED: ('{"id": "\ufffd"}',)}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["settle", *arguments])
    return result.exit_code, " ".join(result.output.split())


def test_the_command(stack: Stack) -> None:
    undoing(stack)
    assert run("a-1", CANCELLED, "--happened", '{"ok": true}') == (
        0,
        f"{CANCELLED} (cancel) of agent a-1 is COMMITTED now. {BOOKED}, which this call was to undo, is COMPENSATED.",
    )
    code, told = run("a-1", CANCELLED, "--not")
    assert (code, told) == (1, f"turnstile: {CANCELLED} (cancel) is settled already: it is COMMITTED")


def test_the_command_for_a_program(stack: Stack) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"))
    code, told = run("a-1", BOOKED, "--not", "--json")
    assert (code, json.loads(told)["status"]) == (0, "FAILED")


def test_the_command_asks_for_an_answer(stack: Stack) -> None:
    store(stack, effect(BOOKED, "UNCERTAIN"))
    code, told = run("a-1", BOOKED)
    assert (code, "--happened" in told) == (2, True)
    assert ledger(stack, "status") == {BOOKED: ("UNCERTAIN",)}
