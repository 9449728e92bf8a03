"""A stack for unit tests: moto's services, with one table and the named functions."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from moto import mock_aws

from turnstile_cli.stack.client import Stack

OUTPUTS = {
    "TableName": "AgentWorkflows",
    "BusName": "AgentWorkflowBus",
    "FlightsTableName": "turnstile-Flights",
    "BookingsTableName": "turnstile-Bookings",
    "AgentStartArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentStart",
    "AgentTurnArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentTurn",
    "AgentTurnRoleArn": "arn:aws:iam::123456789012:role/turnstile-AgentTurnRole",
    "AgentInputArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentInput",
    "AgentPublishArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentPublish",
    "OutboxDeadLettersUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/turnstile-OutboxDeadLetters",
    "AgentRecoveryArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentRecovery",
    "AgentRecoveryRoleArn": "arn:aws:iam::123456789012:role/turnstile-AgentRecoveryRole",
    "AgentWatchArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentWatch",
    "AgentRedeliverArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentRedeliver",
    "AgentNotifyArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentNotify",
    "AgentTopicArn": "arn:aws:sns:us-east-1:123456789012:turnstile-AgentTopic",
    "AgentChangesUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/turnstile-AgentChanges",
    "ApiId": "abc123",
    "ApiUrl": "https://abc123.execute-api.us-east-1.amazonaws.com",
    "OperatorTopicArn": "arn:aws:sns:us-east-1:123456789012:turnstile-OperatorTopic",
    "ModelId": "model-of-the-stack",
}


@contextmanager
def mock_stack(*functions: str, clients: Mapping[str, Any] | None = None) -> Iterator[Stack]:
    """Yield a stack. `functions`: its Lambdas, with a timeout of 15 seconds. `clients` replace moto's."""
    with mock_aws():
        stack = Stack("turnstile", OUTPUTS, lambda service: (clients or {}).get(service) or client(service))
        stack.by = "ana"
        stack.dynamodb.create_table(
            TableName=stack.outputs.table_name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "agentId", "KeyType": "HASH"},
                {"AttributeName": "record", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("agentId", "record", "status", "lastUpdated")
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "ByStatus",
                    "KeySchema": [
                        {"AttributeName": "status", "KeyType": "HASH"},
                        {"AttributeName": "lastUpdated", "KeyType": "RANGE"},
                    ],
                    "Projection": {
                        "ProjectionType": "INCLUDE",
                        "NonKeyAttributes": ["agent", "goal", "step", "createdAt", "error"],
                    },
                }
            ],
        )
        stack.events.create_event_bus(Name=stack.outputs.bus_name)
        for function in functions:
            add_function(stack, function)
        yield stack


@cache
def client(service: Any) -> Any:
    """Return the client of a service. A process makes each client once: that takes longer than most of the tests."""
    return _session().client(service)


@cache
def _session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")


def add_function(stack: Stack, name: str) -> None:
    role = client("iam").create_role(RoleName=f"role-of-{name}", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("handler.py", "")
    stack.lambdas.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=role,
        Handler="handler.handler",
        Code={"ZipFile": code.getvalue()},
        Timeout=15,
    )


def put(stack: Stack, item: Mapping[str, str]) -> None:
    """Put an item; every attribute as text."""
    stack.dynamodb.put_item(
        TableName=stack.outputs.table_name, Item={name: {"S": value} for name, value in item.items()}
    )
