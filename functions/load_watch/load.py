"""Which agents have not moved for too long, and where they stand."""

import random
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agent.conversation import Item, reason
from agent.record import SETTLED, Model, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "ByStatus"
WATCHED = frozenset(Status) - SETTLED - {Status.WAITING_FOR_AGENT} | {Status.WAITING_FOR_OPERATOR}
"""In one of these somebody ought to be at work: a turn, a recovery, or the recovery that asks the operator."""
LIMIT = 50
"""Agents that one run looks after."""
CANDIDATES = 1000
"""Agents of one status among which they are chosen."""
MESSAGE_LIMIT = 1000
"""Characters of an error's message: with LIMIT, what keeps the answer within a state's payload of 256 KiB."""


class Stale(Model):
    """An agent whose record has not moved for too long."""

    agent_id: str
    step: Annotated[int, Field(description="The newest entry of the journal")]
    status: Status
    next_action: Annotated[str, Field(description="The turn that was announced, or NONE")]
    owner: Annotated[str, Field(description="The execution that holds the lease, or NONE")]
    error: Annotated[str, Field(description="What a recovery is about; empty while a turn works")]
    error_message: str


class Watch(Model):
    """What LoadWatch answers."""

    agents: list[Stale]
    left_out: Annotated[int, Field(ge=0, description="How many more there were; the next runs come to them")]


def find_stale(client: "DynamoDBClient", table: str, before: datetime) -> Watch:
    """The agents in a watched status whose record has not moved since `before`, at most LIMIT of them.

    If there are more, those that wait for an operator come last, for most of them have a good reason; beyond that
    chance decides: the oldest may be those that have one, run after run.
    """
    limit = before.strftime("%Y-%m-%dT%H:%M:%SZ")
    waiting = _candidates(client, table, Status.WAITING_FOR_OPERATOR, limit)
    working = [
        agent_id
        for status in sorted(WATCHED - {Status.WAITING_FOR_OPERATOR})
        for agent_id in _candidates(client, table, status, limit)
    ]
    found = [*random.sample(working, len(working)), *random.sample(waiting, len(waiting))]
    chosen = found[:LIMIT]
    states = [_state(client, table, agent_id) for agent_id in chosen]
    # The index tells of a moment ago.
    stale = [_stale(state) for state in states if state and state["status"] in WATCHED and state["lastUpdated"] < limit]
    return Watch(agents=stale, left_out=len(found) - len(chosen))


def count_waiting(client: "DynamoDBClient", table: str) -> int:
    """How many agents wait for an operator."""
    pages = client.get_paginator("query").paginate(
        TableName=table,
        IndexName=INDEX,
        KeyConditionExpression="#status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": Status.WAITING_FOR_OPERATOR}},
        Select="COUNT",
    )
    return sum(page["Count"] for page in pages)


def _candidates(client: "DynamoDBClient", table: str, status: Status, before: str) -> list[str]:
    pages = client.get_paginator("query").paginate(
        TableName=table,
        IndexName=INDEX,
        KeyConditionExpression="#status = :status AND lastUpdated < :before",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}, ":before": {"S": before}},
        ProjectionExpression="agentId",
        PaginationConfig={"MaxItems": CANDIDATES},
    )
    return [item["agentId"]["S"] for page in pages for item in page["Items"]]


def _state(client: "DynamoDBClient", table: str, agent_id: str) -> Item:
    answer = client.get_item(
        TableName=table, Key={"agentId": {"S": agent_id}, "record": {"S": "STATE"}}, ConsistentRead=True
    )
    return {name: value.get("S", value.get("N", "")) for name, value in answer.get("Item", {}).items()}


def _stale(state: Item) -> Stale:
    return Stale(
        agent_id=state["agentId"],
        step=int(state["step"]),
        status=Status(state["status"]),
        next_action=state["nextAction"],
        owner=state["owner"].partition("#")[0],
        error=state["error"],
        error_message=reason(state["errorMessage"])[:MESSAGE_LIMIT],
    )
