"""The Source of each role's events, and the rules that accept each Source: template.yaml, evaluated as IAM does."""

import json
import re
from typing import Any

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from tests.asl.support import ROOT
from turnstile_agents.events import API_SOURCE, EVENTS, SOURCE
from turnstile_cli.engines.template import load_template

RESOURCES = load_template(ROOT / "template.yaml")["Resources"]
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/AgentWorkflowBus"
API = "arn:aws:iam::123456789012:role/turnstile-ApiRole-1"
BUS_POLICY = json.loads(
    json.dumps(RESOURCES["AgentWorkflowBus"]["Properties"]["Policy"]).replace(
        '{"Fn::GetAtt": ["ApiRole", "Arn"]}', f'"{API}"'
    )
)
ADMINISTRATOR = {"Effect": "Allow", "Action": "*", "Resource": "*"}
PUT_BY_THE_API = {"AgentRequested", "AgentInputReceived", "AgentDecisionGiven", "AgentCancelRequested"}


def senders() -> dict[str, dict[str, Any]]:
    """Return the statement that lets each role put events, by the role's logical id; a function names its role."""
    found = {}
    for name, resource in RESOURCES.items():
        policies = resource.get("Properties", {}).get("Policies", [])
        for policy in policies if isinstance(policies, list) else []:
            for statement in policy.get("PolicyDocument", policy).get("Statement", []):
                if "events:PutEvents" in statement["Action"]:
                    found[name] = statement
    return found


def decision(sender: dict[str, Any], source: str, principal: str = API, kind: str = "AgentRequested") -> str:
    """Return IAM's decision on an event under a Source: the sender's own statement and the bus's policy together."""
    statements = [{**sender, "Resource": "*"}, *({**each, "Resource": BUS} for each in BUS_POLICY["Statement"])]
    context = EvalContext(
        principal_arn=principal,
        principal_type="AssumedRole",
        principal_account="123456789012",
        action="events:PutEvents",
        resource_arn=BUS,
        region="us-east-1",
        service_context={"events:source": [source], "events:detail-type": kind},
    )
    return str(evaluate(context, [parse_policy_document({"Version": "2012-10-17", "Statement": statements})]).decision)


@pytest.mark.parametrize("source", [SOURCE, API_SOURCE, "com.example.orders"])
@pytest.mark.parametrize("name", senders())
def test_each_role_puts_events_under_its_own_source(name: str, source: str) -> None:
    own = API_SOURCE if name == "Api" else SOURCE
    # By its own statement alone: the bus's policy also lets the API's role pass.
    assert (decision(senders()[name], source) == "Allow") == (source == own)


@pytest.mark.parametrize("source", [SOURCE, API_SOURCE, "com.example.orders"])
def test_the_bus_takes_the_source_of_the_api_from_the_api_alone(source: str) -> None:
    administrator = "arn:aws:iam::123456789012:role/Administrator"
    assert decision(ADMINISTRATOR, source, administrator) == ("Deny" if source == API_SOURCE else "Allow")
    assert decision(ADMINISTRATOR, source, API) == "Allow"


@pytest.mark.parametrize(
    ("number", "kinds"),
    [
        (0, {"AgentRequested"}),
        (1, {"AgentRequested", "AgentInputReceived", "AgentCancelRequested"}),
        (2, {"AgentDecisionGiven"}),
    ],
)
def test_the_statements_of_the_page_let_senders_do_what_it_says(number: int, kinds: set[str]) -> None:
    page = (ROOT / "docs/ways-in.md").read_text("utf-8")
    statement = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[number])
    sender = "arn:aws:iam::123456789012:role/Sender"
    assert {kind for kind in EVENTS if decision(statement, SOURCE, sender, kind) == "Allow"} == kinds
    assert not [kind for kind in EVENTS if decision(statement, API_SOURCE, sender, kind) == "Allow"]


def test_the_policy_names_the_bus_and_no_other() -> None:
    [statement] = BUS_POLICY["Statement"]
    [(_, arn)] = statement["Resource"].items()
    assert arn.endswith(":event-bus/${BusName}")
    assert RESOURCES["AgentWorkflowBus"]["Properties"]["Name"] == {"Ref": "BusName"}


def test_rules_take_from_the_api_what_it_sends_and_nothing_else() -> None:
    taken: dict[str, bool] = {}
    for resource in RESOURCES.values():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            pattern = event["Properties"].get("Pattern", {})
            if SOURCE in pattern.get("source", []):
                taken |= dict.fromkeys(pattern["detail-type"], API_SOURCE in pattern["source"])
    assert {kind for kind, by_the_api in taken.items() if by_the_api} == PUT_BY_THE_API
