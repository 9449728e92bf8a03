"""The role of each machine allows what its Tasks need, and nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.asl import template
from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_cli.machines.definition import Machine
from turnstile_cli.machines.permissions import Account, as_written, needed

WRITES = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}
ACCOUNT = Account("us-east-1", "123456789012")


def role_fits(machine: Machine) -> Iterator[str]:
    granted = {action for statement in template.statements(machine.name) for action in actions(statement)}
    wanted: dict[str, str] = {}
    for task in machine.tasks():
        for permission in needed(task.fields["Resource"], as_written(task.fields["Parameters"]), ACCOUNT):
            wanted.setdefault(permission.action, task.name)
    for action in sorted(wanted.keys() - granted):
        yield problem(machine, None, f"{wanted[action]} needs {action}; allow it in the role in template.yaml")
    for action in sorted(granted - wanted.keys()):
        yield problem(machine, None, f"no Task needs {action}; take it out of the role in template.yaml")


@holds(role_fits)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("name", MACHINES)
def test_definitions_are_out_of_reach(name: str) -> None:
    for statement in template.statements(name):
        if WRITES & set(actions(statement)):
            protected = statement["Condition"]["ForAllValues:StringNotLike"]["dynamodb:LeadingKeys"]
            assert protected == ["DEFINITION#*", "WATCH#"]


def actions(statement: dict[str, Any]) -> list[str]:
    return statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


@catches(
    Broken(role_fits, "agent_notify", "", lambda m: m["States"].pop("CancelChildren")),
    Broken(
        role_fits,
        "agent_watch",
        "LoadWatch",
        lambda s: s.update(Resource="arn:aws:states:::sns:publish", Parameters={"TopicArn": "t"}),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
