"""What is written: fenced, announced or silent on purpose, and only attributes that the item has."""

import importlib.resources
import json
from collections.abc import Iterator

from tests.asl.dynamodb import STATE, requests, writes
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
                    machine, task, "give it a ClientRequestToken made of $$.State.EnteredTime, so that a retry is harmless"
                )


def placeholders_fit(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        used = {token for token in request.tokens if token[0] in "#:"}
        defined = request.names.keys() | request.values.keys()
        for name in sorted(used ^ defined):
            place = "ExpressionAttribute" + ("Names" if name[0] == "#" else "Values")
            yield problem(
                machine, request.state, f"{name} is {f'not in {place}' if name in used else f'in {place}, but not used'}"
            )


def reserved_words_have_placeholders(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        for token in sorted({token for token in request.tokens if token.upper() in RESERVED_WORDS}):
            yield problem(machine, request.state, f"write #{token} for {token}: DynamoDB reserves the word")


def attributes_exist_from_creation(machine: Machine) -> Iterator[str]:
    created = {
        write.record: _types(write.written)
        for other in MACHINES.values()
        for write in writes(other)
        if write.kind == "Put"
    }
    for request in requests(machine):
        known = created.get(request.record)
        if known is None or request.kind in ("Get", "Put"):
            continue
        for name in sorted({request.attribute(token) for token in request.tokens if token[0] != ":"} - known.keys()):
            yield problem(machine, request.state, f"{name} is no attribute of this item: it is not there at its creation")
        for name, value in [*request.written.items(), *request.compared]:
            if _types({name: value})[name] != known.get(name, _types({name: value})[name]):
                yield problem(machine, request.state, f"{name} is a {known[name]} at its creation")


def values_are_texts_or_numbers(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        for name, value in (request.fields.get("Item", {}) | request.fields.get("Key", {}) | request.values).items():
            if len(value) != 1 or not _types({name: value})[name] in ("S", "N"):
                yield problem(machine, request.state, f"give {name} as S or N: {json.dumps(value)} is neither")
