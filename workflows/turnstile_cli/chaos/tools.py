"""The tools of the cases: short timeouts for the sample's functions, and a tool from elsewhere that acts at every call.

A recovery waits until no call can still run: for as long as a function may run. No engine shortens this wait, so the
functions of the cases may run for a few seconds only.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from turnstile_agents.items import Effect
from turnstile_agents.record import EffectStatus
from turnstile_cli.stack.client import Stack

SHORT = 6
"""Seconds that a tool's function may run: enough for a recovery to come before a slow call acts."""
SAMPLE = ("book_flight", "book_flight_partner", "cancel_flight")
"""The sample's tools that write."""
SLOW = 4.5
"""Seconds after which the slow call acts."""
NOTE, FIND_NOTE = "acme-tool-note", "acme-tool-find_note"
ACTS = "acme-acts"
_CODE = '''"""Tools from elsewhere: `note` acts at every call and ignores the key; `find_note` is its look-up."""

import time
import uuid

import boto3

acts = boto3.client("dynamodb")
TABLE = "acme-acts"


def note(event, context):
    time.sleep(event["input"]["seconds"])
    acts.put_item(TableName=TABLE, Item={"id": {"S": str(uuid.uuid4())}, "key": {"S": event["key"]}})
    return {"noted": event["input"]["text"]}


def find_note(event, context):
    found = acts.scan(TableName=TABLE, ConsistentRead=True)["Items"]
    happened = any(item["key"]["S"] == event["input"]["key"] for item in found)
    return {"happened": happened, "result": {"noted": event["input"]["input"]["text"]}}
'''
_TRUST = {
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ]
}
_MAY_ACT = {
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["dynamodb:PutItem", "dynamodb:Scan"],
            "Resource": f"arn:aws:dynamodb:*:*:table/{ACTS}",
        }
    ]
}
OPEN = {
    "Policy": json.dumps(
        {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}]}
    )
}
"""The attributes of a queue that takes messages from every sender."""
_TEXT = {"type": "object", "properties": {"seconds": {"type": "number"}, "text": {"type": "string"}}}
_CALL = {"type": "object", "properties": {name: {} for name in ("key", "tool", "input")}}
CLERK: dict[str, Any] = {
    "name": "clerk",
    "instructions": "You write notes.",
    "tools": [
        {
            "name": "note",
            "function": NOTE,
            "description": "Write a note.",
            "effect": "write",
            "inputSchema": _TEXT,
            "timeoutSeconds": SHORT,
            "reconcile": "find_note",
        },
        {
            "name": "find_note",
            "function": FIND_NOTE,
            "description": "Find a note by its call.",
            "effect": "read",
            "inputSchema": _CALL,
            "timeoutSeconds": SHORT,
            "hidden": True,
        },
    ],
}
"""An agent whose tool does not recognise a call by its key, but has a look-up."""


def shorten(stack: Stack) -> None:
    """Let the functions of the sample's tools run for `SHORT` seconds only."""
    for name in SAMPLE:
        stack.lambdas.update_function_configuration(FunctionName=f"{stack.name}-tool-{name}", Timeout=SHORT)


def shortened(agent: dict[str, Any]) -> dict[str, Any]:
    """Set the shortened timeouts in the content of an agent.yaml. Return the content."""
    for tool in agent.get("tools", []):
        if tool["name"] in SAMPLE:
            tool["timeoutSeconds"] = SHORT
    return agent


def deploy_note(stack: Stack, client: Callable[[str], Any]) -> None:
    """Deploy the tool from elsewhere, its look-up, and the table of its acts. Let the machines call both."""
    role = client("iam").create_role(RoleName="notes", AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]["Arn"]
    client("iam").put_role_policy(RoleName="notes", PolicyName="acts", PolicyDocument=json.dumps(_MAY_ACT))
    client("dynamodb").create_table(
        TableName=ACTS,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("notes.py", _CODE)
    for name in (NOTE, FIND_NOTE):
        client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role,
            Handler=f"notes.{name.removeprefix('acme-tool-')}",
            Code={"ZipFile": code.getvalue()},
            Timeout=SHORT,
        )
        for machine in (stack.outputs.agent_turn_role_arn, stack.outputs.agent_recovery_role_arn):
            client("lambda").add_permission(
                FunctionName=name,
                Action="lambda:InvokeFunction",
                StatementId=machine.rpartition("/")[2],
                Principal=machine,
            )


def acts(client: Callable[[str], Any], agent_id: str) -> list[str]:
    """Return the key of each note that an agent's calls wrote, once for each time that it was written."""
    found = client("dynamodb").scan(TableName=ACTS, ConsistentRead=True)["Items"]
    return sorted(item["key"]["S"] for item in found if item["key"]["S"].startswith(f"{agent_id}#"))


def false_entries(ledger: Sequence[Effect], written: list[str]) -> list[str]:
    """Compare a ledger with the acts of the tool from elsewhere. Return a sentence for each entry that is wrong.

    The call of a FAILED entry must not have acted, the call of a COMMITTED entry must have acted once. Every other
    status allows both.
    """
    wrong = []
    for effect in ledger:
        times = written.count(f"{effect.agent_id}#{effect.record}")
        allowed = {EffectStatus.COMMITTED: (1,), EffectStatus.FAILED: (0,)}.get(effect.status, (0, 1))
        if times not in allowed:
            wrong.append(f"{effect.record} is {effect.status} {json.dumps(effect.error)}, and acted {times} times")
    return wrong
