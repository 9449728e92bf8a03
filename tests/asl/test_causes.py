"""The Cause of a Fail has at most 32,768 characters, which no machine can count: it holds only texts of known length.

The cause of an error, as a Task gives it, has this limit too. So it is passed on as it is, and never as a part.
"""

import re
from collections.abc import Iterator

import pytest

from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_cli.machines.definition import Machine

WHOLE = re.compile(r"\$\.(?:error|lost)\.Cause")
"""The cause of an error as a Catch gives it."""
FAILURE = "$.failure.errorMessage"
DECIDED = "$.decision.message"
"""A reason of at most 4,000 characters (GiveUp), or a list of doubts of at most 12 KB (LoadTurn)."""
KEY = "a read has used it as a key, which has at most 2,048 bytes"
OURS = "an attribute that the machines write, and which is short"
NUMBER = "a Choice has found that it is a number"
BOUNDED = {
    ("agent_start", "$.request.agent"): KEY,
    ("agent_start", "$.request.agentId"): KEY,
    ("agent_start", "$.detail.parent.agentId"): KEY,
    ("agent_start", "$.detail.parent.step"): KEY,
    ("agent_start", "$.detail.parent.place"): NUMBER,
    ("agent_input", "$.input.agentId"): KEY,
    ("agent_input", "$.detail.agentId"): KEY,
    ("agent_input", "$.agent.Item.status.S"): OURS,
    ("agent_turn", "$.detail.agentId"): KEY,
    ("agent_turn", "$.detail.step"): NUMBER,
    ("agent_turn", "$.record.status"): OURS,
    ("agent_turn", "$.record.step"): OURS,
    ("agent_redeliver", "$.detail.executionArn"): "Step Functions gives it",
    ("agent_redeliver", "$.detail.stateMachineArn"): "Step Functions gives it",
}
"""The paths that a Cause may hold beside other text, each with the reason for which its text is short."""


def causes_are_bounded(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        cause = state.fields.get("CausePath", "")
        if state.type == "Fail" and not (cause == FAILURE or WHOLE.fullmatch(cause)):
            for path in re.findall(r"\$[\w.]+", cause):
                if (machine.name, path) not in BOUNDED:
                    yield problem(machine, state, f"leave {path} out of the Cause, or say in {__name__} what bounds it")
        message = state.fields.get("Parameters", {}).get("failure", {}).get("errorMessage.$", DECIDED)
        if message != DECIDED and not WHOLE.fullmatch(message):
            yield problem(machine, state, f"give the failure the cause of its error, or {DECIDED}: it becomes a Cause")


@holds(causes_are_bounded)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("bounded", BOUNDED, ids="-".join)
def test_every_bounded_path_is_in_a_cause(bounded: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BOUNDED, bounded)
    assert list(causes_are_bounded(MACHINES[bounded[0]])), "take it out of BOUNDED: no Cause holds it"


@catches(
    Broken(
        causes_are_bounded,
        "agent_input",
        "DecisionRefused",
        lambda s: s.update(CausePath="States.Format('{}', $.input.approvalId)"),
    ),
    Broken(
        causes_are_bounded,
        "agent_input",
        "InputFailed",
        lambda s: s.update(CausePath="States.Format('The input was lost: {}', $.error.Cause)"),
    ),
    Broken(
        causes_are_bounded,
        "agent_turn",
        "PlanningFailed",
        lambda s: s["Parameters"]["failure"].update({"errorMessage.$": "States.Format('No plan: {}', $.error.Cause)"}),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
