"""The permissions of a stack on this machine: which each role has, which the engine was asked for, and which it lacks.

A permission is needed if a call that was made is refused without it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from turnstile_cli.engines.embedded import Connection
from turnstile_cli.engines.iam import Asked


@dataclass(frozen=True)
class Reason:
    """The reason for a permission: for those of this action, role and resource. An empty field fits every one."""

    action: str
    """The beginning of the action."""
    why: str
    role: str = ""
    resource: str = ""
    """A part of the resource."""


NOT_ASKED = (
    Reason("logs:", "Step Functions needs it to deliver a machine's logs; the engine writes no such logs"),
    Reason("xray:", "Step Functions sends a machine's traces; the engine has none"),
    Reason(
        "sqs:SendMessage",
        "the pipe keeps the place of records that it gives up; the engine's pipe does not ask for that",
        role="OutboxPipeRole",
    ),
    Reason(
        "dynamodb:GetItem",
        "Powertools reads the record of a call if DynamoDB's refusal does not carry it",
        resource="-ToolCalls",
    ),
    Reason(
        "states:StartExecution",
        "the schedule starts agent_watch; the engine of a test ends before",
        role="AgentWatchNowRole",
    ),
)
"""Why the stack has the permissions that the engine is never asked for."""
WILDCARDS = (
    Reason("logs:", "log deliveries belong to the account; the guide of Step Functions on logging asks for *"),
    Reason("xray:", "the actions know no resource"),
    Reason("states:SendTaskSuccess", "the action knows no resource; the token protects it, and it is in the table"),
    Reason("states:DescribeExecution", "the executions of these two machines"),
    Reason("lambda:InvokeFunction", "the tools of this stack", resource="-tool-"),
    Reason("bedrock:InvokeModel", "a definition may name any model, and a profile uses the model of several Regions"),
    Reason("dynamodb:ListStreams", "the action knows only all streams of a table"),
)
"""Why the resources of permissions have a wildcard."""
_NOTHING = {"Effect": "Deny", "Action": "*", "Resource": "*"}
"""The statement of a policy that allows nothing; a policy without a statement is refused."""
_MANAGED = "arn:aws:iam::aws:policy/"


@dataclass(frozen=True)
class Grant:
    """One action that a statement of a role's policy allows."""

    role: str
    """The role's logical id, such as `AgentTurnRole`."""
    action: str
    resources: tuple[str, ...]
    rest: str
    """The policy of the role without this grant, as JSON."""
    name: str
    """The role's name in IAM."""


def role_names(engine: Connection) -> dict[str, str]:
    """Return the name in IAM of each role of the stack, by its logical id."""
    stack = engine.client("cloudformation").describe_stack_resources(StackName=engine.running.stack)["StackResources"]
    roles = [resource for resource in stack if resource["ResourceType"] == "AWS::IAM::Role"]
    return {role["LogicalResourceId"]: role["PhysicalResourceId"] for role in roles}


def read_grants(engine: Connection) -> list[Grant]:
    """Return every permission of every role of the stack. The policies that AWS manages are not read."""
    iam = engine.client("iam")
    found = [grant for role, name in role_names(engine).items() for grant in _grants(role, name, _documents(iam, name))]
    return sorted(found, key=lambda grant: (grant.role, grant.action, grant.resources))


def needs(grant: Grant, asked: Sequence[Asked]) -> list[Asked]:
    """Return the calls that are refused without the grant."""
    policies = [parse_policy_document(grant.rest)]
    return [ask for ask in asked if ask.role == grant.name and ask.allowed and not _allows(policies, ask)]


def explain(grant: Grant, reasons: Iterable[Reason]) -> str:
    """Return the first reason that fits the grant; empty if none does."""
    return next(
        (
            reason.why
            for reason in reasons
            if grant.action.startswith(reason.action)
            and reason.role in ("", grant.role)
            and any(reason.resource in resource for resource in grant.resources)
        ),
        "",
    )


def _documents(iam: Any, role: str) -> Iterator[dict[str, Any]]:
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        yield iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = policy["PolicyArn"]
        if not arn.startswith(_MANAGED):
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            yield iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def _grants(role: str, name: str, documents: Iterable[dict[str, Any]]) -> Iterator[Grant]:
    statements = [statement for document in documents for statement in _listed(document["Statement"])]
    for place, statement in enumerate(statements):
        for action in _listed(statement["Action"]):
            actions = [other for other in _listed(statement["Action"]) if other != action]
            same = [{**statement, "Action": actions}] if actions else []
            others = statements[:place] + same + statements[place + 1 :]
            rest = json.dumps({"Statement": others or [_NOTHING]})
            yield Grant(role, action, tuple(_listed(statement["Resource"])), rest, name)


def _allows(policies: list[Any], ask: Asked) -> bool:
    context = EvalContext(
        principal_arn=f"arn:aws:sts::000000000000:assumed-role/{ask.role}/turnstile",
        principal_type="AssumedRole",
        principal_account="000000000000",
        action=ask.action,
        resource_arn=ask.resource,
        region="us-east-1",
        service_context={name.lower(): values for name, values in ask.keys.items()},
    )
    return bool(evaluate(context, policies).decision == "Allow")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
