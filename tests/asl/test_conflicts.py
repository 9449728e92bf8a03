"""Cancelled transactions: conflicts and throttling are tried again; a refusal by new input does not wait for that."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asl.dynamodb import requests
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, picked, problem, without
from turnstile_cli.machines.definition import Machine, State

CANCELED = "DynamoDb.TransactionCanceledException"
REFUSED = "*ConditionalCheckFailed*"
PASSES = ["*TransactionConflict*", "*ThrottlingError*", "*ProvisionedThroughputExceeded*"]
"""The reasons of a cancelled transaction that pass by themselves, as patterns of the error's cause."""
LOOKS_FIRST = {
    ("agent_start", "CreateAgent"): "ReadExisting",
    ("agent_input", "WakeAgent"): "ReadInput",
    ("agent_input", "StoreInput"): "ReadInput",
}
"""The transactions whose refusal is ordinary: whatever the reason, the machine reads the item, and writes again."""


def a_cancelled_transaction_is_tried_again(machine: Machine) -> Iterator[str]:
    input_refuses = {request.state.path for request in requests(machine) if "inbox" in dict(request.compared)}
    for task in machine.tasks():
        if task.action != "transactWriteItems":
            continue
        retried = any(CANCELED in retrier["ErrorEquals"] for retrier in task.fields["Retry"])
        if task.path in input_refuses:
            if retried:
                yield problem(machine, task, f"remove {CANCELED} from Retry: a new input may refuse this write")
            yield from _reads_the_reasons(machine, task)
        elif (machine.name, task.name) in LOOKS_FIRST:
            if retried or task.fields["Catch"][-1]["Next"] != LOOKS_FIRST[machine.name, task.name]:
                yield problem(machine, task, "look at the item after a refusal, and do not retry it")
        elif not retried:
            yield problem(machine, task, f"add {CANCELED} to Retry: a conflict or throttling passes")


def _reads_the_reasons(machine: Machine, task: State) -> Iterator[str]:
    states = {state.path: state for state in machine.states()}
    target = next((each["Next"] for each in task.fields.get("Catch", []) if CANCELED in each["ErrorEquals"]), "")
    choice = states.get(target)
    if choice is None or choice.type != "Choice":
        yield problem(machine, task, f"catch {CANCELED} with a Choice that reads the reasons")
        return
    *refused, again = choice.fields["Choices"]
    if not refused or any(REFUSED not in _patterns(rule) for rule in refused):
        yield problem(machine, choice, f"compare the cause with {REFUSED} first, in each rule but the last")
    pause = states[again["Next"]]
    if _patterns(again) != PASSES or pause.type != "Wait" or pause.fields["Next"] != task.name:
        yield problem(machine, choice, f"after {' or '.join(PASSES)} wait, and write again, as the last rule")
    if states[choice.fields["Default"]].type == "Wait":
        yield problem(machine, choice, "give up after any other reason: it does not pass")


def _patterns(rule: dict[str, Any]) -> list[str]:
    parts = [*rule.get("And", []), *rule.get("Or", []), rule]
    return [part["StringMatches"] for part in parts if part.get("Variable", "").endswith(".Cause")]


@holds(a_cancelled_transaction_is_tried_again)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("place", LOOKS_FIRST, ids="-".join)
def test_every_transaction_that_looks_first_is_one(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LOOKS_FIRST, place)
    assert list(a_cancelled_transaction_is_tried_again(MACHINES[place[0]])), "take it out of LOOKS_FIRST: it is retried"


def _retry(change: Callable[[list[str]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda state: change(state["Retry"][0]["ErrorEquals"])


@catches(
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_turn",
        "CallTools/ReserveEffect",
        _retry(lambda names: names.remove(CANCELED)),
    ),
    Broken(
        a_cancelled_transaction_is_tried_again, "agent_turn", "CloseTurn", _retry(lambda names: names.append(CANCELED))
    ),
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_input",
        "WakeAgent",
        _retry(lambda names: names.append(CANCELED)),
    ),
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_turn",
        "CloseTurn",
        lambda s: picked(s, "Catch", f"ErrorEquals={CANCELED}").update(Next="LoadTurn"),
    ),
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_turn",
        "RouteUnclosed",
        lambda s: without(s, "Choices", "Next=LoadTurn"),
    ),
    Broken(a_cancelled_transaction_is_tried_again, "agent_turn", "RouteUnclosed", lambda s: s["Choices"].reverse()),
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_recovery",
        "RouteUnrecorded",
        lambda s: picked(s, "Choices", "Next=RecordLater")["Or"].pop(),
    ),
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_turn",
        "RouteUnrecorded",
        lambda s: s.update(Default="RecordLater"),
    ),
    Broken(
        a_cancelled_transaction_is_tried_again,
        "agent_turn",
        "CloseLater",
        lambda s: s.update(Next="LoadTurn"),
        named="RouteUnclosed",
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
