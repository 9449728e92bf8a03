"""Reads the record, for those who fold it."""

import os
from functools import cache

from agent.border import plain
from agent.conversation import Item
from agent.definition import Definition, definition_key, version_record
from agent.dynamodb import reading_client
from agent.errors import InvalidRecord


def read_agent(agent_id: str) -> list[Item]:
    """All items of an agent, in order of `record`, read consistently. Numbers come as text."""
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
    """What tells whether an agent goes on, and who is above it, read consistently; empty if there is no such agent."""
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
    """One version of a definition; it never changes, so it is read once. Raises InvalidRecord if it is gone."""
    answer = reading_client().get_item(
        TableName=os.environ["TABLE_NAME"],
        Key={"agentId": {"S": definition_key(name)}, "record": {"S": version_record(version)}},
        ConsistentRead=True,
    )
    if "Item" not in answer:
        raise InvalidRecord(f"Version {version} of the definition {name} is not in the table any more.")
    return Definition.model_validate_json(answer["Item"]["definition"]["S"])
