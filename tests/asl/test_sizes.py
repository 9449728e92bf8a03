"""Each result that may outgrow a payload has a Catch by name: States.ALL does not catch States.DataLimitExceeded."""

import json
from collections.abc import Iterator

from tests.asl.services import called
from tests.asl.support import Broken, Rule, assert_holds, catches, holds, problem, without
from turnstile_cli.machines.definition import Machine, State

TOO_LARGE = "States.DataLimitExceeded"
FROM_OUTSIDE = {"Converse", "Invoke"}
"""Operations whose answer has the length that a model or a function gives it."""
BOUNDED = {
    ("agent_input", "AnswerQuestion"): "the same detail was stored just before, and it fitted that payload",
    ("agent_turn", "CommitNote"): "a note is short",
    ("agent_watch", "LoadWatch"): "LoadWatch returns a bounded number of agents, each with a bounded message",
}
"""Tasks that need no Catch for it, each with its reason."""


def what_may_be_too_large_is_caught_by_name(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        if (machine.name, state.name) in BOUNDED or not _may_be_too_large(state):
            continue
        catchers = state.fields.get("Catch", [])
        if not any(TOO_LARGE in catcher["ErrorEquals"] for catcher in catchers):
            yield problem(machine, state, f"add Catch [{TOO_LARGE}]: States.ALL does not catch it, and it may occur")


def _may_be_too_large(state: State) -> bool:
    if state.type == "Map":
        # A result is small if the state drops it, or if a selector keeps only a part of it.
        return state.fields.get("ResultPath", "$") is not None and "ResultSelector" not in state.fields
    if state.type != "Task":
        return False
    # As text inside JSON, a value is up to twice as long.
    widened = "States.JsonToString(" in json.dumps(state.fields.get("Parameters", {}))
    return widened or called(state).operation.name in FROM_OUTSIDE


@holds(what_may_be_too_large_is_caught_by_name)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@catches(
    Broken(
        what_may_be_too_large_is_caught_by_name,
        "agent_turn",
        "CheckpointResults",
        lambda s: without(s, "Catch", "ErrorEquals=States.DataLimitExceeded"),
    ),
    Broken(what_may_be_too_large_is_caught_by_name, "agent_turn", "CallTools/CommitEffect", lambda s: s.pop("Catch")),
    Broken(
        what_may_be_too_large_is_caught_by_name,
        "agent_turn",
        "CallTools",
        lambda s: without(s, "Catch", "ErrorEquals=States.DataLimitExceeded"),
    ),
    Broken(what_may_be_too_large_is_caught_by_name, "agent_turn", "LoadTurn", lambda s: s.pop("Catch")),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
