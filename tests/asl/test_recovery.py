"""Routes of agent_recovery: each failure that may end a turn has a route."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.asl.dynamodb import ENTRY, requests
from tests.asl.services import called
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, picked, problem, without
from turnstile_agents import errors
from turnstile_agents.failures import FailureKind, kind_of
from turnstile_agents.journal import Recovery
from turnstile_agents.operator import OperatorDecision
from turnstile_agents.record import FINISHED
from turnstile_cli.machines.definition import Machine, State

TURN = MACHINES["agent_turn"]
LEFT_TO_THE_OPERATOR = {"Misaligned": "the record contradicts the model twice, and neither can be trusted"}
"""Failures of a turn that ClassifyError does not name, because its Default is correct for them."""
OURS = {name for name, value in vars(errors).items() if isinstance(value, type)}
GONE = "Sfn.ExecutionDoesNotExistException"


def failures_of_a_turn_are_classified(machine: Machine) -> Iterator[str]:
    for classify in _states(machine, "ClassifyError"):
        for error in sorted(_failures() - LEFT_TO_THE_OPERATOR.keys()):
            if _answer(classify, error) == classify.fields["Default"]:
                yield problem(machine, classify, f"add a rule for a turn that ends with {error}")


def what_may_pass_is_tried_again(machine: Machine) -> Iterator[str]:
    for classify in _states(machine, "ClassifyError"):
        for error in sorted(_retried()):
            if _answer(classify, error) != "RouteRecoveries":
                yield problem(machine, classify, f"try again after {error}: a turn retries it, so it may pass")


def decisions_are_routed(machine: Machine) -> Iterator[str]:
    for classify in _states(machine, "ClassifyError"):
        rules = [rule for state in machine.states() for rule in state.fields.get("Choices", [])]
        named = {text for variable, text in _compared(rules) if variable == "$.agent.order"}
        for decision in sorted({*OperatorDecision} - named):
            yield problem(machine, classify, f"add a rule for the operator's {decision}")


def nothing_goes_on_while_it_is_unsettled(machine: Machine) -> Iterator[str]:
    """Check that RouteUnsettled comes before each state that RETRY, REPLAN and COMPENSATE lead to."""
    for route in _states(machine, "RouteUnsettled"):
        rules = route.fields["Choices"]
        if rules[-1] != {"Variable": "$.unsettled[0]", "IsPresent": True, "Next": "NotifyOperator"}:
            yield problem(machine, route, "ask the operator, as the last rule, while an effect is unsettled")
        for state in machine.states():
            if state.name != route.name and route.fields["Default"] in state.successors:
                yield problem(machine, state, f"go to {route.name} instead of {route.fields['Default']}")


def entries_of_a_recovery_can_be_read(machine: Machine) -> Iterator[str]:
    for request in requests(machine):
        if request.kind == "Put" and request.written.get("who") == {"S": "RECOVERY"}:
            for name in sorted(Recovery.model_fields.keys() - request.written.keys()):
                yield problem(machine, request.state, f"put {name}: the readers of the journal need it")


def an_end_is_counted(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        given = state.fields.get("Result", state.fields.get("Parameters", {}))
        left = given.get("closesAs", given.get("status"))
        if state.type == "Pass" and left and "nextAction" in given and given.get("ends") != int(left in FINISHED):
            yield problem(machine, state, f"give `ends`: {int(left in FINISHED)}, since it leaves the agent {left}")


def a_forgotten_execution_does_not_run(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        if called(task).operation.name == "DescribeExecution" and GONE not in _caught(task):
            yield problem(
                machine, task, f"catch {GONE}: Step Functions forgets an execution after 90 days, the record does not"
            )


def nothing_is_settled_by_default(machine: Machine) -> Iterator[str]:
    settling = {
        request.state.path
        for request in requests(machine)
        if request.record == ENTRY and request.written.get("status", {}).get("S") in ("COMMITTED", "FAILED")
    }
    for state in machine.states():
        default = state.path.removesuffix(state.name) + state.fields.get("Default", "")
        if default in settling:
            yield problem(
                machine, state, f"ask for the condition of {state.fields['Default']}: an outcome is never guessed"
            )


def _states(machine: Machine, name: str) -> Iterator[State]:
    return (state for state in machine.states() if state.name == name)


def _answer(classify: State, error: str) -> str:
    """Return the state that an error leads to by its kind, without an operator's decision."""
    for rule in classify.fields["Choices"]:
        if ("$.kind", kind_of(error)) in _compared([rule]):
            return str(rule["Next"])
    return str(classify.fields["Default"])


def _compared(rules: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        yield from ((rule["Variable"], rule[how]) for how in ("StringEquals", "StringMatches") if how in rule)
        yield from _compared([*rule.get("And", []), *rule.get("Or", [])])


def _failures() -> set[str]:
    """Return our own errors that a turn records."""
    found = set()
    for state in TURN.states():
        failure = state.fields.get("Parameters", {}).get("failure", {})
        found |= {failure["error"]} if "error" in failure else set()
        for catcher in state.fields.get("Catch", []):
            if catcher["Next"] in ("PlanningFailed", "ToolsFailed"):
                found |= OURS & set(catcher["ErrorEquals"])
    return found


def _retried() -> set[str]:
    """Return the errors that the turn itself retries, except inside CallTools: there every error becomes an outcome."""
    own = [state for state in TURN.states() if not state.path.startswith("CallTools/")]
    return {name for state in own for retrier in state.fields.get("Retry", []) for name in retrier["ErrorEquals"]}


def _caught(state: State) -> set[str]:
    return {name for catcher in state.fields.get("Catch", []) for name in catcher["ErrorEquals"]}


@holds(
    failures_of_a_turn_are_classified,
    what_may_pass_is_tried_again,
    decisions_are_routed,
    nothing_goes_on_while_it_is_unsettled,
    entries_of_a_recovery_can_be_read,
    an_end_is_counted,
    a_forgotten_execution_does_not_run,
    nothing_is_settled_by_default,
)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("error", LEFT_TO_THE_OPERATOR)
def test_what_is_left_to_the_operator_is_a_failure_that_no_rule_names(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(LEFT_TO_THE_OPERATOR, error)
    assert list(failures_of_a_turn_are_classified(MACHINES["agent_recovery"])), "take it out of LEFT_TO_THE_OPERATOR"


def _without(kind: FailureKind) -> Any:
    """Return a change that takes the rule for a kind out of ClassifyError."""

    def change(state: dict[str, Any]) -> None:
        kept = [rule for rule in state["Choices"] if rule.get("StringEquals") != kind]
        assert len(kept) == len(state["Choices"]) - 1
        state["Choices"] = kept

    return change


def test_every_kind_has_a_rule_except_what_the_operator_decides() -> None:
    [classify] = _states(MACHINES["agent_recovery"], "ClassifyError")
    ruled = {text for variable, text in _compared(classify.fields["Choices"]) if variable == "$.kind"}
    assert ruled == {*FailureKind} - {FailureKind.UNKNOWN}


@catches(
    Broken(failures_of_a_turn_are_classified, "agent_recovery", "ClassifyError", _without(FailureKind.FINAL)),
    Broken(failures_of_a_turn_are_classified, "agent_recovery", "ClassifyError", _without(FailureKind.TOOL)),
    Broken(what_may_pass_is_tried_again, "agent_recovery", "ClassifyError", _without(FailureKind.TRANSIENT)),
    Broken(
        decisions_are_routed,
        "agent_recovery",
        "RouteUnsettled",
        lambda s: without(s, "Choices", "Next=Aborted"),
        named="ClassifyError",
    ),
    Broken(decisions_are_routed, "agent_recovery", "ClassifyError", lambda s: without(s, "Choices", "Next=PlanAgain")),
    Broken(nothing_goes_on_while_it_is_unsettled, "agent_recovery", "RouteUnsettled", lambda s: s["Choices"].pop()),
    Broken(
        nothing_goes_on_while_it_is_unsettled,
        "agent_recovery",
        "RouteAnswer",
        lambda s: s.update(Default="ClassifyError"),
    ),
    Broken(
        entries_of_a_recovery_can_be_read,
        "agent_recovery",
        "RecordRecovery",
        lambda s: picked(s, "Parameters", "TransactItems", "record=$.record", "Put", "Item").pop("note"),
    ),
    Broken(
        entries_of_a_recovery_can_be_read,
        "agent_recovery",
        "RecordRecovery",
        lambda s: picked(s, "Parameters", "TransactItems", "record=$.record", "Put", "Item").pop("status"),
    ),
    Broken(an_end_is_counted, "agent_recovery", "Aborted", lambda s: s["Parameters"].update(ends=0)),
    Broken(an_end_is_counted, "agent_recovery", "AskUser", lambda s: s["Parameters"].update(ends=1)),
    Broken(an_end_is_counted, "agent_recovery", "Cancelled", lambda s: s["Parameters"].pop("ends")),
    Broken(an_end_is_counted, "agent_turn", "HandOver", lambda s: s["Result"].update(ends=1)),
    Broken(
        nothing_is_settled_by_default,
        "agent_recovery",
        "SettleEffects/RouteUnknown",
        lambda s: s.update(Default="SettleCommitted"),
    ),
    Broken(
        a_forgotten_execution_does_not_run,
        "agent_watch",
        "LookAfterAgents/AskOwner",
        lambda s: without(s, "Catch", "ErrorEquals=Sfn.ExecutionDoesNotExistException"),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
