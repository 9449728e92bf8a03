"""Writes: fenced, announced or silent on purpose, and only to attributes that the item has."""

import importlib.resources
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asl.dynamodb import ENTRY, STATE, created, requests, type_of, writes
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, picked, problem, without
from turnstile_agents.record import FINISHED, Status
from turnstile_cli.machines.definition import Machine, Scope, State

NOT_THERE_YET = "attribute_not_exists(agentId)"
REPLACING = {
    # Each question replaces the one before: there is one operator to ask, and one valid token.
    ("agent_recovery", "AskOperator"): "",
}
"""The condition of each put that may overwrite an item."""
OURS = {"$.agent.owner", "$.owner"}
FENCES: dict[str, dict[str, set[str] | None]] = {
    "ClaimTurn": {"owner": {"NONE"}, "step": None, "nextAction": {"$.detail.nextAction"}},
    # The dead owner still owns the agent, and nothing has moved since the recovery found it dead.
    "TakeOver": {
        "owner": {"$.state.Item.owner.S"},
        "step": {"$.state.Item.step.N"},
        "lastUpdatedBy": {"$.state.Item.lastUpdatedBy.S"},
    },
    # A lost answer may hide whether the last checkpoint was written, so the step is not compared.
    "RecordFailure": {"owner": OURS},
    # The lease decides: the effect's own key has the decision's step in it.
    "ReserveEffect": {"owner": OURS, "cancels": {"0"}},
    "ReserveUndo": {"owner": OURS},
    # The agent has no owner and has not moved.
    "AnnounceTurn": {"owner": {"NONE"}, "step": None, "nextAction": {"$.agent.nextAction"}},
    "AnnounceError": {"owner": {"NONE"}, "step": None, "nextAction": {"NONE"}, "status": {"$.agent.status"}},
    "AnnounceEnd": {"owner": {"NONE"}, "step": None, "nextAction": {"NONE"}, "status": {"$.agent.status"}},
    "RemindApprover": {
        "owner": {"NONE"},
        "step": None,
        "nextAction": {"NONE"},
        "status": {"$.agent.status"},
        "waitsFor": {"$.agent.waitsFor"},
    },
    "WakeParent": {"owner": {"NONE"}, "step": None, "status": {"$.agent.status"}, "waitsFor": {"$.agent.waitsFor"}},
    # The input's own entry detects a second delivery; the agent must not have moved.
    "WakeAgent": {
        "owner": {"NONE"},
        "status": {"$.agent.Item.status.S"},
        "waitsFor": {"$.agent.Item.waitsFor.S"},
    },
    # Input may come while an execution works on the agent; see input_needs_a_working_agent.
    "StoreInput": {},
    # The operator is not asked about an agent with a cancellation.
    "MarkWaiting": {"owner": OURS, "step": None, "cancels": {"0"}},
    # A reminder asks the question of the same step again.
    "AskOperator": {"owner": OURS},
}
ONE_S_OWN: dict[str, set[str] | None] = {"owner": OURS, "step": None}
"""The values that a condition on STATE demands; None for any value of the machine. FENCES has exceptions by state."""
STANDING = {"owner", "status", "nextAction", "step"}
"""The attributes of STATE that say where an agent stands."""
UNFINISHED = "NOT #status IN (:completed, :failed, :cancelled)"
ENDS = {":completed": {"S": "COMPLETED"}, ":failed": {"S": "FAILED"}, ":cancelled": {"S": "CANCELLED"}}
HOLDERS = {"agent_turn", "agent_recovery"}
"""The machines that hold leases: their `$.agent.owner` is this execution's lease, and not a value that was read."""
FENCED = {"agent_turn", "agent_recovery", "agent_watch", "agent_input"}
"""The machines that change an existing agent."""
CREATED = created(MACHINES.values())
TOKEN = {"S.$": "$$.Task.Token"}
OPEN = {"RESERVED", "UNCERTAIN"}
LEADS_TO = {
    "UNCERTAIN": OPEN,
    # From COMPENSATING if the compensation did nothing: the effect is then unchanged.
    "COMMITTED": OPEN | {"COMMITTED", "COMPENSATING"},
    "FAILED": OPEN | {"FAILED"},
    "COMPENSATING": {"COMMITTED"},
    "COMPENSATED": {"COMPENSATING"},
}
"""The statuses that a ledger entry may come from, by its new status."""
UNDONE = {"$.undo.undoKey": "$.undo.key", "$.effect.key": "$.effect.undoes"}
"""The paths of an undo's key, each with the path of the key of the effect that it undoes."""
TOGETHER = {"RESERVED": "COMPENSATING", "COMMITTED": "COMPENSATED", "FAILED": "COMMITTED"}
"""The new status of an effect, in the write that makes its undo RESERVED, COMMITTED or FAILED."""
UNDOES_NOTHING = {"Variable": "$.effect.undoes", "StringEquals": ""}
"""The rule of a Choice that does not let an undo pass."""
RESERVED_WORDS = set(
    importlib.resources.files("moto").joinpath("dynamodb/parsing/reserved_keywords.txt").read_text().split()
)


def writes_to_state_say_what_is_announced(machine: Machine) -> Iterator[str]:
    for write in writes(machine):
        if write.record == STATE and "announce" not in write.written.keys() | write.removed:
            yield problem(machine, write.state, "set `announce` to publish this write to STATE, or REMOVE it")


def work_on_an_agent_is_fenced(machine: Machine) -> Iterator[str]:
    if machine.name not in FENCED:
        return
    touched = [request for request in requests(machine) if request.record == STATE and request.kind != "Get"]
    for request in touched:
        for name, wanted in FENCES.get(request.state.name, ONE_S_OWN).items():
            found = request.demanded.get(name)
            if found is None:
                yield problem(machine, request.state, f"demand {name} in the ConditionExpression on STATE")
            elif wanted and found not in wanted:
                yield problem(machine, request.state, f"compare {name} with {' or '.join(wanted)}, not with {found}")
    fenced = {request.state.path for request in touched}
    for write in writes(machine):
        if write.kind == "Put" and write.state.path not in fenced:
            yield problem(machine, write.state, "add a ConditionCheck on STATE: a former owner may put nothing")


def final_is_final(machine: Machine) -> Iterator[str]:
    for write in writes(machine):
        if write.record != STATE or write.kind == "Put" or not write.changed & STANDING:
            continue
        holds_lease = machine.name in HOLDERS and write.demanded.get("owner") in OURS
        names_ends = UNFINISHED in write.terms and write.names.get("#status") == "status"
        if not holds_lease and not (names_ends and ENDS.items() <= write.values.items()):
            yield problem(machine, write.state, f"demand #owner = :me, this execution's lease, or {UNFINISHED}")


def input_needs_a_working_agent(machine: Machine) -> Iterator[str]:
    idle = {status for status in Status if status in FINISHED or status.startswith("WAITING_")}
    for request in requests(machine):
        if request.record == STATE and request.state.name == "StoreInput":
            told = {value.get("S") for name, value in request.compared if name == "status"}
            if not request.condition.startswith("#status = :found OR NOT #status IN (") or idle - told:
                yield problem(machine, request.state, "store no input once the agent waits or has ended")


def settling_is_fenced_by_the_status(machine: Machine) -> Iterator[str]:
    for write in writes(machine):
        if write.record == ENTRY and write.kind == "Update":
            # A result may come late, so the lease is not compared; but a settled effect keeps its outcome.
            before = {value["S"] for name, value in write.compared if name == "status"}
            after = next(iter(write.written["status"].values()))
            if not before or before - LEADS_TO[after]:
                allowed = ", ".join(sorted(LEADS_TO[after]))
                yield problem(machine, write.state, f"demand a status that may become {after}: {allowed}")


def an_entry_is_taken_before_it_is_settled(machine: Machine) -> Iterator[str]:
    """Refuse late writes of a former owner. LeaveUncertain takes no entry: late news of the owner settles it."""
    taking = set()
    for write in writes(machine):
        record = (write.fields.get("Key") or write.fields["Item"])["record"]
        if record != {"S.$": "$.effect.key"} or write.state.name == "LeaveUncertain":
            continue
        holders = {value.get("S.$") for name, value in write.compared if name == "owner"}
        if holders != {"$.effect.owner", "$.owner"} or write.written.get("owner") != {"S.$": "$.owner"}:
            yield problem(machine, write.state, "SET #owner = :me, if the owner is $.effect.owner or $.owner")
        taking.add(write.state.name)
    for scope in machine.scopes():
        for state in scope.states.values():
            if "$.effect.function" in str(state.fields.get("Parameters", {}).get("FunctionName.$")):
                for other in scope.states.values():
                    if state.name in other.successors and other.name not in taking:
                        yield problem(machine, other, f"take the entry before {state.name}")


def an_undo_is_written_with_its_effect(machine: Machine) -> Iterator[str]:
    entries: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for write in writes(machine):
        path = (write.fields.get("Key") or write.fields["Item"])["record"].get("S.$", "")
        entries[write.state.path] |= {path: write.written.get("status", {}).get("S", "")}
    for scope in machine.scopes():
        for state in scope.states.values():
            made = entries[state.path]
            for undo, effect in UNDONE.items():
                wanted = TOGETHER.get(made.get(undo, ""))
                if not wanted or made.get(effect) == wanted:
                    continue
                if effect in made or undo == "$.undo.undoKey":
                    yield problem(machine, state, f"make {effect} {wanted} in the write that makes {undo} {made[undo]}")
                    continue
                for other in _lets_undos_past(scope, state):
                    yield problem(machine, other, f"go to {state.name} only if $.effect.undoes is empty")


def _lets_undos_past(scope: Scope, state: State) -> Iterator[State]:
    """Yield the states that lead to this state without the rule UNDOES_NOTHING."""
    for other in scope.states.values():
        rules = [rule for rule in other.fields.get("Choices", []) if rule["Next"] == state.name]
        ways = other.caught | {other.fields.get(key) for key in ("Next", "Default")}
        if state.name in ways or not all(UNDOES_NOTHING.items() <= rule.items() for rule in rules):
            yield other


def every_write_has_a_condition(machine: Machine) -> Iterator[str]:
    for write in writes(machine):
        if write.kind == "Put" and write.condition != REPLACING.get((machine.name, write.state.name), NOT_THERE_YET):
            yield problem(machine, write.state, f"put with ConditionExpression {NOT_THERE_YET}: nothing is overwritten")
        elif write.kind != "Put" and not write.condition:
            yield problem(machine, write.state, "add a ConditionExpression: without one, an update makes half an item")


def tokens_stay_in_the_table(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        own = {key: value for key, value in state.fields.items() if key not in ("ItemProcessor", "Branches")}
        puts = [write for write in writes(machine) if write.state.path == state.path and write.kind == "Put"]
        kept = state.waits_for_token and [put.fields["Item"].get("token") for put in puts] == [TOKEN]
        if state.waits_for_token and not kept:
            yield problem(
                machine, state, "put the task's token into the table as `token`: without it no answer is possible"
            )
        if str(own).count("$$.Task.Token") != int(kept):
            yield problem(machine, state, "keep the task's token in the table: the token is enough to decide")


def transactions_have_a_token(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        # Each attempt of a task that hands out its token writes another token, so the request is not the same.
        if task.action == "transactWriteItems" and not task.waits_for_token:
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
            yield problem(machine, request.state, f"{name} is not in this item: its creation does not put it")
        for name, value in [*request.written.items(), *request.compared]:
            if type_of(value) != known.get(name, type_of(value)):
                yield problem(machine, request.state, f"write {name} as {known[name]}, as its creation does")
        for name in sorted(request.removed - {"announce"}):
            yield problem(machine, request.state, f"make {name} empty instead: its readers need every attribute")


def values_are_texts_or_numbers(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        values = request.fields.get("Item", {}) | request.fields.get("Key", {}) | request.values
        for name, value in values.items():
            if len(value) != 1 or type_of(value) not in ("S", "N"):
                yield problem(machine, request.state, f"give {name} as one S or N, not as {json.dumps(value)}")


@holds(
    writes_to_state_say_what_is_announced,
    work_on_an_agent_is_fenced,
    final_is_final,
    input_needs_a_working_agent,
    settling_is_fenced_by_the_status,
    an_entry_is_taken_before_it_is_settled,
    an_undo_is_written_with_its_effect,
    every_write_has_a_condition,
    tokens_stay_in_the_table,
    transactions_have_a_token,
    placeholders_fit,
    reserved_words_have_placeholders,
    attributes_exist_from_creation,
    values_are_texts_or_numbers,
)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("place", REPLACING, ids="-".join)
def test_every_put_that_may_overwrite_has_to(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(REPLACING, place)
    assert list(every_write_has_a_condition(MACHINES[place[0]])), "take it out of REPLACING: it overwrites nothing"


def _item(state: dict[str, Any]) -> Any:
    """Return the item that holds the operator's question."""
    return picked(state, "Parameters", "TransactItems", "record=OPERATOR", "Put", "Item")


def _edit(field: str, old: str, new: str, part: str = "") -> Callable[[dict[str, Any]], object]:
    """Return a change that replaces text in a field of a Task's request; `part` tells which of a transaction."""

    def change(state: dict[str, Any]) -> None:
        fields = state["Parameters"]
        if part:
            [fields] = picked(fields, "TransactItems", part).values()
        assert old in fields[field]
        fields[field] = fields[field].replace(old, new)

    return change


CONDITION, UPDATE = "ConditionExpression", "UpdateExpression"


@catches(
    Broken(writes_to_state_say_what_is_announced, "agent_turn", "ClaimTurn", _edit(UPDATE, "REMOVE announce", "")),
    Broken(
        writes_to_state_say_what_is_announced,
        "agent_input",
        "StoreInput",
        _edit(UPDATE, "REMOVE announce", "", part="record=STATE"),
    ),
    Broken(
        writes_to_state_say_what_is_announced,
        "agent_start",
        "CreateAgent",
        lambda s: picked(s, "Parameters", "TransactItems", "record=STATE", "Put", "Item").pop("announce"),
    ),
    Broken(
        work_on_an_agent_is_fenced, "agent_turn", "ClaimTurn", _edit(CONDITION, " AND nextAction = :nextAction", "")
    ),
    Broken(work_on_an_agent_is_fenced, "agent_turn", "ClaimTurn", _edit(CONDITION, "#owner = :none", "#owner = :me")),
    Broken(work_on_an_agent_is_fenced, "agent_turn", "ClaimTurn", _edit(CONDITION, " AND ", " OR ")),
    Broken(
        work_on_an_agent_is_fenced, "agent_turn", "RecordFailure", _edit(CONDITION, ":me", ":none", part="record=STATE")
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_turn",
        "CloseTurn",
        _edit(CONDITION, " AND #step = :step", "", part="record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_turn",
        "CheckpointResults",
        _edit(CONDITION, "#owner = :me AND ", "", part="record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_turn",
        "CallTools/ReserveEffect",
        lambda s: without(s, "Parameters", "TransactItems", "record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced, "agent_recovery", "TakeOver", _edit(CONDITION, " AND lastUpdatedBy = :last", "")
    ),
    Broken(work_on_an_agent_is_fenced, "agent_recovery", "TakeOver", _edit(CONDITION, "#owner = :dead AND ", "")),
    Broken(work_on_an_agent_is_fenced, "agent_recovery", "TakeOver", _edit(CONDITION, ":dead", ":me")),
    Broken(work_on_an_agent_is_fenced, "agent_recovery", "MarkWaiting", _edit(CONDITION, " AND #step = :step", "")),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_recovery",
        "RecordRecovery",
        _edit(CONDITION, "#owner = :me AND ", "", part="record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_recovery",
        "Compensate/ReserveUndo",
        lambda s: without(s, "Parameters", "TransactItems", "record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_watch",
        "LookAfterAgents/AnnounceTurn",
        _edit(CONDITION, "#owner = :none AND ", ""),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_input",
        "WakeAgent",
        _edit(CONDITION, "#owner = :none AND ", "", part="record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_turn",
        "CallTools/ReserveEffect",
        _edit(CONDITION, " AND cancels = :zero", "", part="record=STATE"),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_watch",
        "LookAfterAgents/WakeParent",
        _edit(CONDITION, " AND waitsFor = :waitsFor", ""),
    ),
    Broken(
        work_on_an_agent_is_fenced,
        "agent_watch",
        "LookAfterAgents/RemindApprover",
        _edit(CONDITION, " AND waitsFor = :waitsFor", ""),
    ),
    Broken(final_is_final, "agent_turn", "ClaimTurn", _edit(CONDITION, f" AND {UNFINISHED}", "")),
    Broken(final_is_final, "agent_turn", "ClaimTurn", _edit(CONDITION, ":cancelled)", ":none)")),
    Broken(
        final_is_final,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["Parameters"]["ExpressionAttributeValues"].update({":failed": {"S": "PLANNING_FAILED"}}),
    ),
    Broken(
        final_is_final,
        "agent_turn",
        "ClaimTurn",
        lambda s: s["Parameters"]["ExpressionAttributeNames"].update({"#status": "currentState"}),
    ),
    Broken(
        final_is_final,
        "agent_turn",
        "CloseTurn",
        _edit(CONDITION, "#owner = :me", "#owner = :none", part="record=STATE"),
    ),
    Broken(final_is_final, "agent_turn", "RecordFailure", _edit(CONDITION, " AND ", " OR ", part="record=STATE")),
    Broken(final_is_final, "agent_recovery", "TakeOver", _edit(CONDITION, f" AND {UNFINISHED}", "")),
    Broken(final_is_final, "agent_recovery", "TakeOver", _edit(CONDITION, " AND NOT", " OR NOT")),
    Broken(final_is_final, "agent_recovery", "MarkWaiting", _edit(CONDITION, "#owner = :me AND ", "")),
    Broken(
        final_is_final,
        "agent_recovery",
        "RecordRecovery",
        _edit(CONDITION, "#owner = :me AND ", "", part="record=STATE"),
    ),
    Broken(final_is_final, "agent_input", "WakeAgent", _edit(CONDITION, f" AND {UNFINISHED}", "", part="record=STATE")),
    Broken(final_is_final, "agent_watch", "LookAfterAgents/WakeParent", _edit(CONDITION, f" AND {UNFINISHED}", "")),
    # The watch has read another execution's lease as the owner.
    Broken(
        final_is_final,
        "agent_watch",
        "LookAfterAgents/WakeParent",
        lambda s: (
            s["Parameters"].update({CONDITION: "#owner = :me"}),
            s["Parameters"]["ExpressionAttributeValues"].update({":me": {"S.$": "$.agent.owner"}}),
        ),
    ),
    Broken(
        final_is_final, "agent_input", "StoreInput", _edit(UPDATE, "inbox :one", "#status :one", part="record=STATE")
    ),
    # A write that only announces must not start to move the agent.
    Broken(final_is_final, "agent_watch", "LookAfterAgents/AnnounceEnd", _edit(UPDATE, "announce =", "nextAction =")),
    Broken(
        input_needs_a_working_agent,
        "agent_input",
        "StoreInput",
        _edit(CONDITION, ":waitingForOperator, ", "", part="record=STATE"),
    ),
    Broken(
        input_needs_a_working_agent,
        "agent_input",
        "StoreInput",
        _edit(CONDITION, "#status = :found OR NOT", "NOT", part="record=STATE"),
    ),
    Broken(
        settling_is_fenced_by_the_status,
        "agent_recovery",
        "SettleEffects/SettleFailed",
        lambda s: s["Parameters"]["ExpressionAttributeValues"].update({":reserved": {"S": "COMMITTED"}}),
    ),
    Broken(
        settling_is_fenced_by_the_status,
        "agent_recovery",
        "SettleEffects/LeaveUncertain",
        _edit(CONDITION, "#status IN (:reserved, :uncertain)", "attribute_exists(agentId)"),
    ),
    Broken(
        settling_is_fenced_by_the_status,
        "agent_recovery",
        "Compensate/ReserveUndo",
        _edit(CONDITION, "#status = :committed", "attribute_exists(agentId)", part="record=$.undo.key"),
    ),
    Broken(
        an_entry_is_taken_before_it_is_settled,
        "agent_recovery",
        "SettleEffects/ClaimEffect",
        _edit(CONDITION, "#owner IN (:holder, :me) AND ", ""),
    ),
    Broken(
        an_entry_is_taken_before_it_is_settled,
        "agent_recovery",
        "SettleEffects/SettleUndone",
        _edit(UPDATE, "#owner = :me, ", "", part="record=$.effect.key"),
    ),
    Broken(
        an_entry_is_taken_before_it_is_settled,
        "agent_recovery",
        "SettleEffects/RouteUnknown",
        lambda s: picked(s, "Choices", "Next=ClaimEffect").update(Next="CallAgain"),
    ),
    *(
        Broken(
            an_undo_is_written_with_its_effect,
            "agent_recovery",
            path,
            lambda s: without(s, "Parameters", "TransactItems", "record=$.undo.key"),
        )
        for path in ("Compensate/ReserveUndo", "Compensate/CommitUndo", "Compensate/FailUndo")
    ),
    Broken(
        an_undo_is_written_with_its_effect,
        "agent_recovery",
        "SettleEffects/SettleNotUndone",
        lambda s: without(s, "Parameters", "TransactItems", "record=$.effect.undoes"),
        named="RouteNothingHappened",
    ),
    Broken(
        an_undo_is_written_with_its_effect,
        "agent_recovery",
        "SettleEffects/SettleUndone",
        lambda s: picked(
            s, "Parameters", "TransactItems", "record=$.effect.undoes", "Update", "ExpressionAttributeValues"
        ).update({":compensated": {"S": "COMMITTED"}}),
    ),
    Broken(
        an_undo_is_written_with_its_effect,
        "agent_recovery",
        "SettleEffects/CallAgain",
        lambda s: s.update(Next="SettleCommitted"),
    ),
    Broken(
        an_undo_is_written_with_its_effect,
        "agent_recovery",
        "SettleEffects/RouteHappened",
        lambda s: picked(s, "Choices", "Next=SettleUndone").update(Next="SettleCommitted"),
    ),
    Broken(
        every_write_has_a_condition, "agent_turn", "CallTools/CommitEffect", lambda s: s["Parameters"].pop(CONDITION)
    ),
    Broken(
        every_write_has_a_condition,
        "agent_recovery",
        "RecordRecovery",
        lambda s: picked(s, "Parameters", "TransactItems", "record=$.record", "Put").pop(CONDITION),
    ),
    Broken(
        tokens_stay_in_the_table,
        "agent_recovery",
        "AskOperator",
        lambda s: _item(s).update(token={"S": "lost"}),
    ),
    Broken(
        tokens_stay_in_the_table,
        "agent_recovery",
        "AskOperator",
        lambda s: _item(s).update(question=TOKEN),
    ),
    Broken(
        tokens_stay_in_the_table,
        "agent_recovery",
        "NotifyOperator",
        lambda s: s["Parameters"].update({"Message.$": "$$.Task.Token"}),
    ),
    Broken(
        every_write_has_a_condition,
        "agent_turn",
        "CheckpointDecision",
        lambda s: picked(s, "Parameters", "TransactItems", "record=$.step.record", "Put").pop(CONDITION),
    ),
    Broken(transactions_have_a_token, "agent_turn", "CloseTurn", lambda s: s["Parameters"].pop("ClientRequestToken.$")),
    Broken(placeholders_fit, "agent_turn", "CloseTurn", _edit(UPDATE, ":status", ":state", part="record=STATE")),
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
