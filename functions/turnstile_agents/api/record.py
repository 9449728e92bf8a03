"""Reads single items of the record, and puts events on the bus."""

import os
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from turnstile_agents.api.problems import HttpRefusal
from turnstile_agents.border import plain
from turnstile_agents.dynamodb import reading_client
from turnstile_agents.events import API_SOURCE
from turnstile_agents.record import Model

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_stepfunctions import SFNClient

# Retries do no harm: an event is known by its ids, and a task token works only once.
_CONFIG = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})


def read(agent_id: str, name: str) -> dict[str, str] | None:
    """Read one item consistently; None if it does not exist."""
    answer = reading_client().get_item(
        TableName=os.environ["TABLE_NAME"], Key={"agentId": {"S": agent_id}, "record": {"S": name}}, ConsistentRead=True
    )
    return plain(answer["Item"]) if "Item" in answer else None


def read_kind(agent_id: str, kind: str) -> list[dict[str, str]]:
    """Read an agent's items of a kind: `EFFECT#` is its ledger, `INPUT#` its inbox."""
    pages = (
        reading_client()
        .get_paginator("query")
        .paginate(
            TableName=os.environ["TABLE_NAME"],
            KeyConditionExpression="agentId = :agentId AND begins_with(#record, :kind)",
            ExpressionAttributeNames={"#record": "record"},
            ExpressionAttributeValues={":agentId": {"S": agent_id}, ":kind": {"S": kind}},
            ConsistentRead=True,
        )
    )
    return [plain(item) for page in pages for item in page["Items"]]


def put(event: Model) -> None:
    """Put an event on the bus. Raises Refused if the bus does not take it."""
    name = type(event).__name__
    answer = _events().put_events(
        Entries=[
            {
                "Source": API_SOURCE,
                "DetailType": name,
                "EventBusName": os.environ["BUS_NAME"],
                # Leave out fields that were not given: the machine checks which fields are present.
                "Detail": event.model_dump_json(by_alias=True, exclude_none=True),
            }
        ]
    )
    if answer["FailedEntryCount"]:
        code = answer["Entries"][0].get("ErrorCode", "no code")
        raise HttpRefusal(
            503, "BusUnavailable", f"The bus did not take {name}: {code}. Nothing was done; send it again."
        )


@cache
def _events() -> "EventBridgeClient":
    return boto3.client("events", config=_CONFIG)


@cache
def stepfunctions() -> "SFNClient":
    """Make the client at the first decision of an operator."""
    return boto3.client("stepfunctions", config=_CONFIG)
