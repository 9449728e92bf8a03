"""What may outgrow a payload says by name where that leads: States.ALL does not catch States.DataLimitExceeded."""

import json
from collections.abc import Iterator

from tests.asl.services import called
from tests.asl.support import Broken, Rule, assert_holds, catches, holds, problem
from workflows.machines import Machine, State

TOO_LARGE = "States.DataLimitExceeded"
FROM_OUTSIDE = {"Converse", "Invoke"}
"""Operations whose answers are as long as a model or a function makes them."""
BOUNDED = {
    ("agent_input", "AnswerQuestion"): "the same detail was kept just before, and it did not outgrow that payload",
    ("agent_turn", "CommitNote"): "a note is short",
    ("agent_watch", "FindStale"): "LoadWatch answers a bounded number of agents, and of each a bounded message",
}
"""Tasks that need no Catch for it, and why."""


def what_may_be_too_large_is_caught_by_name(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        if (machine.name, state.name) in BOUNDED or not _may_be_too_large(state):
            continue
        catchers = state.fields.get("Catch", [])
        if not any(TOO_LARGE in catcher["ErrorEquals"] for catcher in catchers):
            yield problem(machine, state, f"add Catch [{TOO_LARGE}]: States.ALL does not catch it, and it may come")


def _may_be_too_large(state: State) -> bool:
    if state.type == "Map":
        # A result that is left out, or of which a selector keeps a part, is small.
        return state.fields.get("ResultPath", "$") is not None and "ResultSelector" not in state.fields
    if state.type != "Task":
        return False
    # As text inside of JSON a value is up to twice as long as it was.
    widened = "States.JsonToString(" in json.dumps(state.fields.get("Parameters", {}))
    return widened or called(state).operation.name in FROM_OUTSIDE


@holds(what_may_be_too_large_is_caught_by_name)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@catches(
    Broken(what_may_be_too_large_is_caught_by_name, "agent_turn", "CheckpointResults", lambda s: s["Catch"].pop(0)),
    Broken(what_may_be_too_large_is_caught_by_name, "agent_turn", "CallTools/CommitEffect", lambda s: s.pop("Catch")),
    Broken(what_may_be_too_large_is_caught_by_name, "agent_turn", "CallTools", lambda s: s["Catch"].pop(0)),
    Broken(what_may_be_too_large_is_caught_by_name, "agent_turn", "LoadTurn", lambda s: s.pop("Catch")),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
