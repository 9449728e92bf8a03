"""What a permission is needed for: the calls that are refused without it, or a reason."""

import json

import pytest

from turnstile_cli.engines.iam import Asked
from turnstile_cli.local.permissions import NOT_ASKED, Grant, explain, needs

TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/Agents"
REST = json.dumps({"Statement": [{"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": TABLE}]})
READ = Grant("TurnRole", "dynamodb:GetItem", (TABLE,), REST, "turn")


def asked(action: str, role: str = "turn") -> Asked:
    return Asked(role=role, action=action, resource=TABLE, keys={}, allowed=True)


def test_a_call_that_the_rest_of_the_policy_refuses_needs_the_grant() -> None:
    calls = [asked("dynamodb:GetItem"), asked("dynamodb:PutItem"), asked("dynamodb:GetItem", "another")]
    assert needs(READ, calls) == calls[:1]
    assert needs(READ, calls[1:]) == []


@pytest.mark.parametrize(
    ("role", "action", "resource", "explained"),
    [
        ("TurnRole", "logs:CreateLogDelivery", "*", True),
        ("TurnRole", "dynamodb:GetItem", TABLE, False),
        ("BookFlightRole", "dynamodb:GetItem", f"{TABLE}-ToolCalls", True),
        ("OutboxPipeRole", "sqs:SendMessage", "queue", True),
        ("PublishRole", "sqs:SendMessage", "queue", False),
        ("AgentWatchNowRole", "states:StartExecution", "machine", True),
        ("RedeliverRole", "states:StartExecution", "machine", False),
    ],
)
def test_a_reason_excuses_only_what_it_is_for(role: str, action: str, resource: str, explained: bool) -> None:
    assert bool(explain(Grant(role, action, (resource,), "{}", role), NOT_ASKED)) is explained
