"""Routes of the machines: no iteration of a Map fails, and every failure is visible from outside."""

import re
from collections.abc import Iterator

import pytest

from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, picked, problem
from turnstile_cli.machines.definition import Machine, Scope, State

RECOVERIES = {
    ("agent_start", "RouteExisting", "AgentAlreadyStarted"): "a second delivery of an event that has done its work",
    ("agent_start", "Pause", "CreateAgent"): "two requests for one id met and neither wrote its items: write again",
    ("agent_input", "RouteRefusal", "RouteKept"): "a second delivery of an event that has done its work",
    ("agent_input", "Pause", "LookAgain"): "the agent moved between the look and the write: look again",
    ("agent_turn", "RouteClaim", "KeepClaim"): "the claim had succeeded and its answer was lost",
    ("agent_turn", "RouteStep", "TurnAlreadyTaken"): "a second delivery of an event whose turn is taken",
    ("agent_turn", "RouteUnclosed", "LoadTurn"): "an input came; if the lease was lost, LoadTurn says LeaseLost",
    ("agent_turn", "CloseLater", "CloseTurn"): "a conflict or throttling has passed",
    (
        "agent_turn",
        "RouteUnrecorded",
        "LoadTurn",
    ): "an input came that the model has not read; or the lease was lost and LoadTurn says so",
    ("agent_turn", "RouteEffect", "EffectKnown"): "the ledger knows the result of this call",
    ("agent_turn", "RouteFallback", "UseFallback"): "the definition names another model to ask",
    ("agent_turn", "RouteRefusal", "UseAlternative"): "nothing happened, and another tool may do it",
    ("agent_turn", "CallReadTool", "NoteRead"): "the tool answered, and only its answer is too large",
    ("agent_turn", "CallWriteTool", "NoteWrite"): "the tool acted, and only its answer is too large",
    ("agent_turn", "CommitEffect", "NoteWrite"): "the tool acted, and only its answer is too large",
    ("agent_turn", "CallTools", "ResultsTooLarge"): "every call has ended, and only their answers are too large",
    ("agent_turn", "RouteTooLarge", "ResultsTooLarge"): "every call has ended, and only their answers are too large",
    ("agent_recovery", "CallAgain", "NoteAnswer"): "the tool acted, and only its answer is too large",
    ("agent_recovery", "CallUndo", "NoteUndo"): "the tool acted, and only its answer is too large",
    ("agent_recovery", "AskOwner", "TakeOver"): "Step Functions knows no such execution, so the owner does not run",
    ("agent_recovery", "TakeOver", "NothingToDo"): "another recovery has taken the agent over",
    (
        "agent_recovery",
        "CallAgain",
        "RouteNothingHappened",
    ): "a call that the tool refuses has settled that nothing happened",
    ("agent_recovery", "ClaimEffect", "Unsettled"): "the ledger has changed, and LoadRecovery reads it again",
    ("agent_recovery", "LeaveUncertain", "Unsettled"): "the ledger has not changed, and LoadRecovery reads it again",
    ("agent_recovery", "RouteLookUp", "LookUp"): "the call by its key has ended, and a look-up tells what happened",
    ("agent_recovery", "AskOperator", "LoadRecovery"): "the lease is lost, and LoadRecovery says so",
    ("agent_recovery", "AskOperator", "CountReminder"): "no answer came in time: ask again, or leave it FAILED",
    ("agent_recovery", "AskOperator", "AnswerUnreadable"): "an answer that is too long is asked for again",
    (
        "agent_recovery",
        "LoadRecoveryWithAnswer",
        "AnswerUnreadable",
    ): "an answer that cannot be read is asked for again",
    ("agent_recovery", "MarkWaiting", "LoadRecovery"): "a cancellation came meanwhile; or LoadRecovery says LeaseLost",
    ("agent_recovery", "RouteUnrecorded", "LoadRecovery"): "an input came meanwhile; or LoadRecovery says LeaseLost",
    ("agent_recovery", "RecordLater", "RecordRecovery"): "a conflict or throttling has passed",
    ("agent_publish", "RouteFailure", "RecordRefused"): "the record is kept for an operator",
    ("agent_publish", "PublishUpdate", "RecordRefused"): "the record is kept for an operator",
    ("agent_publish", "PublishNextAction", "RecordRefused"): "the record is kept for an operator",
    ("agent_publish", "PublishError", "RecordRefused"): "the record is kept for an operator",
    ("agent_watch", "AskOwner", "OwnerForgotten"): "an execution that Step Functions has forgotten does not run",
    ("agent_watch", "AnnounceTurn", "LookedAfter"): "the agent has moved meanwhile",
    ("agent_watch", "AnnounceError", "LookedAfter"): "the agent has moved meanwhile",
    ("agent_watch", "RemindApprover", "LookedAfter"): "the agent has moved meanwhile, or another run has reminded",
    ("agent_watch", "WakeParent", "LookedAfter"): "the agent has moved meanwhile",
    ("agent_watch", "AnnounceEnd", "LookedAfter"): "the agent has moved meanwhile",
}
"""The only routes from a failure back to a success, each with its reason."""
STOPS_ITS_SIBLINGS = {
    ("agent_turn", "StartChild"): "two requests create one child, and a recovery requests all children again"
}
"""The only states inside a Map that may fail, each with its reason."""


def names_are_pascal_case(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        if not re.fullmatch(r"([A-Z][a-z0-9]*)+", state.name):
            yield problem(machine, state, "name it in PascalCase, for an operator to read")


def choices_have_a_default(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        if state.type == "Choice" and "Default" not in state.fields:
            yield problem(machine, state, "add Default: without a match the execution ends in States.NoChoiceMatched")


def nothing_inside_a_map_can_fail(machine: Machine) -> Iterator[str]:
    for scope in machine.scopes():
        if not scope.path:
            continue
        for state in scope.states.values():
            if state.type == "Fail":
                yield problem(machine, state, f"end with an outcome: a Fail stops the other iterations of {scope.path}")
            allowed = (machine.name, state.name) in STOPS_ITS_SIBLINGS
            if _can_fail(state) and not _catches_everything(state) and not allowed:
                yield problem(
                    machine, state, "add Catch [States.ALL] as the last one, alone: a failure stops other iterations"
                )
        for state in _looping(scope):
            yield problem(machine, state, f"break the loop: every way through {scope.path} must end")


def holders_of_the_lease_record_failures(machine: Machine) -> Iterator[str]:
    own = next(machine.scopes())
    if "LoadTurn" not in own.states:
        return
    for state in own.reached_from("LoadTurn"):
        if _can_fail(state) and not _catches_everything(state):
            yield problem(machine, state, "add Catch [States.ALL] as the last one, alone: else the lease stays taken")


def failures_end_as_failures(machine: Machine) -> Iterator[str]:
    for scope in machine.scopes():
        for state in scope.states.values():
            # A state that fills $.failure has found a failure without an error.
            failing = state.successors if "failure" in state.fields.get("Parameters", {}) else state.caught
            for target in sorted(failing):
                if way := _way_to_success(machine, scope, state.name, target):
                    yield problem(machine, state, f"end in a Fail: a failure becomes a success by {', '.join(way)}")


def _way_to_success(machine: Machine, scope: Scope, name: str, target: str) -> list[str]:
    """Return a way from `name` over `target` to a success without RECOVERIES; empty if there is none."""
    waiting, seen = [(name, [target])], set()
    while waiting:
        before, way = waiting.pop()
        state = scope.states[way[-1]]
        if (machine.name, before, state.name) in RECOVERIES or state.name in seen:
            continue
        if state.ends and not _tells_a_failure(state):
            return way
        seen.add(state.name)
        waiting += [(state.name, [*way, onward]) for onward in sorted(state.successors - state.caught)]
    return []


def _looping(scope: Scope) -> Iterator[State]:
    """Yield the states that a way leads back to. Steps deeper into nested data are no loop: nested data ends."""
    deeper = {name for name, state in scope.states.items() if _goes_deeper(state, scope)}
    for name in scope.states.keys() - deeper:
        waiting, seen = [name], set(deeper)
        while waiting:
            waiting += (onward := scope.states[waiting.pop()].successors - seen)
            seen |= onward
        if name in seen:
            yield scope.states[name]


def _goes_deeper(state: State, scope: Scope) -> bool:
    """Return whether a state replaces a value by a part of it, and no other state of its scope writes that value."""
    place = state.fields.get("ResultPath", "$")
    if state.type != "Pass" or place == "$" or not state.fields.get("InputPath", "$").startswith(f"{place}."):
        return False
    others = [other.fields.get("ResultPath", "$") for other in scope.states.values() if other.path != state.path]
    return not any(f"{other}.".startswith(f"{place}.") for other in others if other)


def _can_fail(state: State) -> bool:
    return state.type in ("Task", "Map", "Parallel")


def _catches_everything(state: State) -> bool:
    return bool(state.fields.get("Catch")) and state.fields["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


def _tells_a_failure(end: State) -> bool:
    says = end.fields.get("Parameters", {}) | end.fields.get("Result", {})
    return (
        end.type == "Fail"
        or says.get("outcome") in ("REJECTED", "UNAVAILABLE", "UNCERTAIN")
        or any(says.get(name) is False for name in ("cancelled", "lookedAfter", "published", "undone"))
    )


@holds(
    names_are_pascal_case,
    choices_have_a_default,
    nothing_inside_a_map_can_fail,
    holders_of_the_lease_record_failures,
    failures_end_as_failures,
)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("state", STOPS_ITS_SIBLINGS, ids="-".join)
def test_every_state_that_may_fail_in_a_map_can(state: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(STOPS_ITS_SIBLINGS, state)
    assert list(nothing_inside_a_map_can_fail(MACHINES[state[0]])), "take it out of STOPS_ITS_SIBLINGS: it cannot fail"


@pytest.mark.parametrize("recovery", RECOVERIES, ids="-".join)
def test_every_recovery_is_needed(recovery: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RECOVERIES, recovery)
    assert list(failures_end_as_failures(MACHINES[recovery[0]])), "take it out of RECOVERIES: no failure comes there"


@catches(
    Broken(names_are_pascal_case, "agent_turn", "", lambda m: m["States"].update(load_turn={"Type": "Succeed"})),
    Broken(choices_have_a_default, "agent_turn", "RouteEntry", lambda s: s.pop("Default")),
    Broken(nothing_inside_a_map_can_fail, "agent_turn", "CallTools/CallReadTool", lambda s: s.pop("Catch")),
    Broken(nothing_inside_a_map_can_fail, "agent_turn", "CallTools/CallReadTool", lambda s: s["Catch"].pop()),
    Broken(nothing_inside_a_map_can_fail, "agent_turn", "CallTools/CallRejected", lambda s: s.update(Type="Fail")),
    Broken(
        nothing_inside_a_map_can_fail, "agent_turn", "CallTools/CallUncertain", lambda s: s.update(Next="DoubtEffect")
    ),
    Broken(
        nothing_inside_a_map_can_fail, "agent_turn", "CallTools/UseAlternative", lambda s: s.update(InputPath="$.call")
    ),
    Broken(
        nothing_inside_a_map_can_fail,
        "agent_turn",
        "CallTools/CallWriteTool",
        lambda s: s.update(ResultPath="$.call.answer"),
        named="RouteCall",
    ),
    Broken(nothing_inside_a_map_can_fail, "agent_recovery", "Compensate/DoubtUndo", lambda s: s.pop("Catch")),
    Broken(
        nothing_inside_a_map_can_fail,
        "agent_recovery",
        "SettleEffects/LookUp",
        lambda s: picked(s, "Catch", "ErrorEquals=States.ALL").update(Next="RouteUnknown"),
    ),
    Broken(nothing_inside_a_map_can_fail, "agent_publish", "PublishRecords/PublishError", lambda s: s.pop("Catch")),
    Broken(holders_of_the_lease_record_failures, "agent_turn", "CallTools", lambda s: s.pop("Catch")),
    Broken(holders_of_the_lease_record_failures, "agent_turn", "StartChildren", lambda s: s.pop("Catch")),
    Broken(holders_of_the_lease_record_failures, "agent_turn", "AskModel", lambda s: s["Catch"].pop()),
    Broken(failures_end_as_failures, "agent_turn", "PlanningFailed", lambda s: s.update(Next="TurnAlreadyTaken")),
    Broken(failures_end_as_failures, "agent_turn", "RecordFailure", lambda s: s.update(Next="TurnAlreadyTaken")),
    Broken(
        failures_end_as_failures,
        "agent_turn",
        "AskModel",
        lambda s: picked(s, "Catch", "ErrorEquals=States.DataLimitExceeded").update(Next="CloseTurn"),
    ),
    Broken(failures_end_as_failures, "agent_turn", "GivenUp", lambda s: s.update(Next="CloseTurn")),
    Broken(
        failures_end_as_failures,
        "agent_turn",
        "CallTools/CallWriteTool",
        lambda s: picked(s, "Catch", "ErrorEquals=ToolRejected").update(Next="CommitEffect"),
    ),
    Broken(
        failures_end_as_failures,
        "agent_recovery",
        "Compensate/CallUndo",
        lambda s: picked(s, "Catch", "ErrorEquals=States.DataLimitExceeded").update(Next="CommitUndo"),
    ),
    Broken(
        failures_end_as_failures,
        "agent_recovery",
        "SettleEffects/LookUp",
        lambda s: picked(s, "Catch", "ErrorEquals=States.ALL").update(Next="SettleFailed"),
    ),
    Broken(
        failures_end_as_failures,
        "agent_recovery",
        "LoadRecovery",
        lambda s: picked(s, "Catch", "ErrorEquals=States.ALL").update(Next="NothingToDo"),
    ),
    Broken(
        failures_end_as_failures,
        "agent_notify",
        "CancelChildren/NotCancelled",
        lambda s: s["Result"].update(cancelled=True),
        named="CancelChild",
    ),
    Broken(failures_end_as_failures, "agent_start", "RouteExisting", lambda s: s.update(Default="FillDefaults")),
    Broken(
        failures_end_as_failures,
        "agent_input",
        "WakeAgent",
        lambda s: picked(s, "Catch", "ErrorEquals=States.DataLimitExceeded").update(Next="InputKept"),
    ),
    Broken(
        failures_end_as_failures,
        "agent_publish",
        "PublishRecords/PublishError",
        lambda s: picked(s, "Catch", "ErrorEquals=States.ALL").update(Next="NothingToPublish"),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
