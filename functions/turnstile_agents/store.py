"""Reads the record for the Lambdas that fold it."""

import os
from functools import cache

from turnstile_agents.border import plain
from turnstile_agents.conversation import Item
from turnstile_agents.definition import Definition, definition_key, version_record
from turnstile_agents.dynamodb import reading_client
from turnstile_agents.errors import InvalidRecord


def read_agent(agent_id: str) -> list[Item]:
    """Read all items of an agent consistently, in order of `record`. Numbers come as text."""
    pages = (
        reading_client()
        .get_paginator("query")
        .paginate(
            TableName=os.environ["TABLE_NAME"],
            KeyConditionExpression="agentId = :agentId",
            ExpressionAttributeValues={":agentId": {"S": agent_id}},
            ConsistentRead=True,
        )
    )
    return [plain(item) for page in pages for item in page["Items"]]


def read_above(agent_id: str) -> Item:
    """Read `status` and `parent` of an agent consistently; empty if there is no such agent."""
    answer = reading_client().get_item(
        TableName=os.environ["TABLE_NAME"],
        Key={"agentId": {"S": agent_id}, "record": {"S": "STATE"}},
        ProjectionExpression="#status, parent",
        ExpressionAttributeNames={"#status": "status"},
        ConsistentRead=True,
    )
    return {name: value["S"] for name, value in answer.get("Item", {}).items()}


@cache
def read_definition(name: str, version: int) -> Definition:
    """Read one version of a definition, once, because it never changes. Raises InvalidRecord if it does not exist."""
    answer = reading_client().get_item(
        TableName=os.environ["TABLE_NAME"],
        Key={"agentId": {"S": definition_key(name)}, "record": {"S": version_record(version)}},
        ConsistentRead=True,
    )
    if "Item" not in answer:
        raise InvalidRecord(f"Version {version} of the definition {name} is no longer in the table.")
    return Definition.model_validate_json(answer["Item"]["definition"]["S"])
