"""What is written: fenced, announced or silent on purpose, and only attributes that the item has."""

import importlib.resources
import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.asl.dynamodb import STATE, created, requests, type_of, writes
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from workflows.machines import Machine

NOT_THERE_YET = "attribute_not_exists(agentId)"
FENCES = {
    "ClaimTurn": {"owner", "step", "nextAction"},
    # Whether the last checkpoint was written may be what is not known.
    "RecordFailure": {"owner"},
    # The lease is what counts: the step's decision is in the effect's own key.
    "ReserveEffect": {"owner"},
}
"""What a turn demands of STATE, where it is not the owner and the step."""
CREATED = created(MACHINES.values())
OWNERS = {"$.agent.owner", "$.owner"}
RESERVED_WORDS = set(
    importlib.resources.files("moto").joinpath("dynamodb/parsing/reserved_keywords.txt").read_text().split()
)


def writes_to_state_say_what_is_announced(machine: Machine) -> Iterator[str]:
    for write in writes(machine):
        if write.record == STATE and "announce" not in write.written.keys() | write.removed:
            yield problem(machine, write.state, "set `announce` to publish this write to STATE, or REMOVE it")


def a_turn_is_fenced(machine: Machine) -> Iterator[str]:
    if machine.name != "agent_turn":
        return
    touched = [request for request in requests(machine) if request.record == STATE and request.kind != "Get"]
    for request in touched:
        fence = FENCES.get(request.state.name, {"owner", "step"})
        owner = request.demanded.get("owner")
        if missing := sorted(fence - request.demanded.keys()):
            yield problem(machine, request.state, f"demand {' and '.join(missing)} in the ConditionExpression on STATE")
        elif owner not in ({"NONE"} if request.state.name == "ClaimTurn" else OWNERS):
            yield problem(machine, request.state, f"compare the owner with the turn's own, not with {owner}")
    fenced = {request.state.path for request in touched}
    for task in machine.tasks():
        if task.fields["Resource"].endswith(":transactWriteItems") and task.path not in fenced:
            yield problem(machine, task, "add a ConditionCheck on STATE: a turn that was taken over may write nothing")


def every_write_has_a_condition(machine: Machine) -> Iterator[str]:
    for write in writes(machine):
        if write.kind == "Put" and write.condition != NOT_THERE_YET:
            yield problem(machine, write.state, f"put with ConditionExpression {NOT_THERE_YET}: nothing is overwritten")
        elif not write.condition:
            yield problem(machine, write.state, "add a ConditionExpression: an update without one makes half an item")


def transactions_have_a_token(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        if task.fields["Resource"].endswith(":transactWriteItems"):
            token = task.fields["Parameters"].get("ClientRequestToken.$", "")
            if "$$.State.EnteredTime" not in token or not token.endswith("'MD5')"):
                yield problem(
                    machine,
                    task,
                    "give it a ClientRequestToken made of $$.State.EnteredTime, so that a retry is harmless",
                )


def placeholders_fit(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        used = {token for token in request.tokens if token[0] in "#:"}
        defined = request.names.keys() | request.values.keys()
        for name in sorted(used ^ defined):
            place = "ExpressionAttribute" + ("Names" if name[0] == "#" else "Values")
            yield problem(
                machine,
                request.state,
                f"{name} is {f'not in {place}' if name in used else f'in {place}, but not used'}",
            )


def reserved_words_have_placeholders(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        for token in sorted({token for token in request.tokens if token.upper() in RESERVED_WORDS}):
            yield problem(machine, request.state, f"write #{token} for {token}: DynamoDB reserves the word")


def attributes_exist_from_creation(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        known = CREATED.get(request.record, {})
        if not known or request.kind == "Get":
            continue
        named = {request.attribute(token) for token in request.tokens if token[0] != ":"}
        for name in sorted(named - known.keys()):
            yield problem(machine, request.state, f"{name} is no attribute of this item: its creation does not put it")
        for name, value in [*request.written.items(), *request.compared]:
            if type_of(value) != known.get(name, type_of(value)):
                yield problem(machine, request.state, f"write {name} as {known[name]}, as its creation does")
        for name in sorted(request.removed - {"announce"}):
            yield problem(machine, request.state, f"make {name} empty instead: a reader counts on every attribute")


def values_are_texts_or_numbers(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        values = request.fields.get("Item", {}) | request.fields.get("Key", {}) | request.values
        for name, value in values.items():
            if len(value) != 1 or type_of(value) not in ("S", "N"):
                yield problem(machine, request.state, f"give {name} as one S or N, not as {json.dumps(value)}")


@holds(
    writes_to_state_say_what_is_announced,
    a_turn_is_fenced,
    every_write_has_a_condition,
    transactions_have_a_token,
    placeholders_fit,
    reserved_words_have_placeholders,
    attributes_exist_from_creation,
    values_are_texts_or_numbers,
)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


def _edit(field: str, old: str, new: str, part: int | None = None) -> Callable[[dict[str, Any]], object]:
    """Replaces text in a field of a Task's request; `part` is the place of the request in a transaction."""

    def change(state: dict[str, Any]) -> None:
        fields = state["Parameters"]
        if part is not None:
            fields = next(iter(fields["TransactItems"][part].values()))
        assert old in fields[field]
        fields[field] = fields[field].replace(old, new)

    return change


CONDITION, UPDATE = "ConditionExpression", "UpdateExpression"


@catches(
    Broken(writes_to_state_say_what_is_announced, "agent_turn", "ClaimTurn", _edit(UPDATE, "REMOVE announce", "")),
    Broken(
        writes_to_state_say_what_is_announced, "agent_input", "StoreInput", _edit(UPDATE, "REMOVE announce", "", part=1)
    ),
    Broken(
        writes_to_state_say_what_is_announced,
        "agent_start",
        "CreateAgent",
        lambda s: s["Parameters"]["TransactItems"][1]["Put"]["Item"].pop("announce"),
    ),
    Broken(a_turn_is_fenced, "agent_turn", "ClaimTurn", _edit(CONDITION, " AND nextAction = :nextAction", "")),
    Broken(a_turn_is_fenced, "agent_turn", "ClaimTurn", _edit(CONDITION, "#owner = :none", "#owner = :me")),
    Broken(a_turn_is_fenced, "agent_turn", "ClaimTurn", _edit(CONDITION, " AND ", " OR ")),
    Broken(a_turn_is_fenced, "agent_turn", "RecordFailure", _edit(CONDITION, ":me", ":none", part=0)),
    Broken(a_turn_is_fenced, "agent_turn", "CloseTurn", _edit(CONDITION, " AND #step = :step", "", part=0)),
    Broken(a_turn_is_fenced, "agent_turn", "CheckpointResults", _edit(CONDITION, "#owner = :me AND ", "", part=1)),
    Broken(
        a_turn_is_fenced,
        "agent_turn",
        "CallTools/ReserveEffect",
        lambda s: s["Parameters"]["TransactItems"].pop(1),
    ),
    Broken(
        every_write_has_a_condition, "agent_turn", "CallTools/CommitEffect", lambda s: s["Parameters"].pop(CONDITION)
    ),
    Broken(
        every_write_has_a_condition,
        "agent_turn",
        "CheckpointDecision",
        lambda s: s["Parameters"]["TransactItems"][0]["Put"].pop(CONDITION),
    ),
    Broken(transactions_have_a_token, "agent_turn", "CloseTurn", lambda s: s["Parameters"].pop("ClientRequestToken.$")),
    Broken(placeholders_fit, "agent_turn", "CloseTurn", _edit(UPDATE, ":status", ":state", part=0)),
    Broken(placeholders_fit, "agent_turn", "ClaimTurn", _edit(UPDATE, "#error", "errorName")),
    Broken(
        placeholders_fit,
        "agent_start",
        "ReadDefinition",
        lambda s: s["Parameters"].pop("ProjectionExpression"),
    ),
    Broken(reserved_words_have_placeholders, "agent_turn", "ClaimTurn", _edit(UPDATE, "#status", "status")),
    Broken(reserved_words_have_placeholders, "agent_turn", "ClaimTurn", _edit(CONDITION, "#owner", "Owner")),
    Broken(attributes_exist_from_creation, "agent_turn", "ClaimTurn", _edit(UPDATE, "lastUpdated ", "lastUpdatd ")),
    Broken(
        attributes_exist_from_creation, "agent_turn", "CallTools/FailEffect", _edit(UPDATE, "settledAt", "failedAt")
    ),
    Broken(
        attributes_exist_from_creation,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["Parameters"]["ExpressionAttributeValues"].update({":one": {"S": "1"}}),
    ),
    Broken(attributes_exist_from_creation, "agent_turn", "ClaimTurn", _edit(UPDATE, "REMOVE announce", "REMOVE goal")),
    Broken(
        values_are_texts_or_numbers,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["Parameters"]["ExpressionAttributeValues"].update({":one": {"NULL": True}}),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
