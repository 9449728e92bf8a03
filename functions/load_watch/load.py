"""Which agents have not moved for too long, or wait in vain, and where they stand."""

import itertools
import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from agent.border import plain, read_object
from agent.conversation import Item, reason
from agent.record import FINISHED, SETTLED, Model, Status, step_record

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "ByStatus"
WATCHED = frozenset(Status) - SETTLED - {Status.WAITING_FOR_AGENT} | {Status.WAITING_FOR_OPERATOR}
"""In one of these somebody ought to be at work: a turn, a recovery, or the recovery that asks the operator."""
LIMIT = 50
"""Agents that one run looks after, and parents whose children it looks at."""
CANDIDATES = 1000
"""Agents of one status among which they are chosen."""
MESSAGE_LIMIT = 1000
"""Characters of an error's message: with LIMIT, what keeps the answer within a state's payload of 256 KiB."""


REMINDING_RUNS = 2
"""Runs in which an approver may be reminded when half of the time is over: one may fail, or come late."""


class Patience(NamedTuple):
    """How long nothing may happen."""

    stale: timedelta
    """To a record that somebody ought to work on."""
    approval: timedelta
    """About an approval that was asked for."""
    watch: timedelta
    """Between two runs."""


class Stale(Model):
    """An agent whose record has not moved for too long."""

    agent_id: str
    step: Annotated[int, Field(description="The newest entry of the journal")]
    status: Status
    next_action: Annotated[str, Field(description="The turn that was announced, or NONE")]
    owner: Annotated[str, Field(description="The execution that holds the lease, or NONE")]
    waits_for: Annotated[str, Field(description="What has to come before it goes on, if it waits")]
    reminded: Annotated[
        bool, Field(description="While it waits for an approval: whether that was asked for a second time")
    ]
    parent: Annotated[str, Field(description="The agent that delegated to it; empty if none did")]
    error: Annotated[str, Field(description="What a recovery is about; empty while a turn works")]
    error_message: str


class Watch(Model):
    """What LoadWatch answers."""

    agents: list[Stale]
    left_out: Annotated[int, Field(ge=0, description="How many more there were; the next runs come to them")]


def find_stale(client: "DynamoDBClient", table: str, now: datetime, patience: Patience) -> Watch:
    """The agents that somebody must look after, at most LIMIT of them: those in a watched status whose record has not
    moved for too long; for parents that have waited as long, each child that has ended unheard, or the parent itself
    if it waits for a child that does not exist; and those whose approval was asked for too long ago, or half as long
    and nobody was reminded.

    If there are more, those that wait for an operator come last, for most of them have a good reason; beyond that
    chance decides: the oldest may be those that have one, run after run.
    """
    limit, decision_limit = _text(now - patience.stale), _text(now - patience.approval)
    limits = dict.fromkeys(sorted(WATCHED), limit) | {Status.WAITING_FOR_APPROVAL: decision_limit}
    by_status = {status: _candidates(client, table, status, moved) for status, moved in limits.items()}
    asking = by_status.pop(Status.WAITING_FOR_OPERATOR, [])
    found = [agent_id for agents in by_status.values() for agent_id in agents]

    def still(agents: list[str], room: int) -> list[Item]:
        states = [_state(client, table, agent_id) for agent_id in random.sample(agents, min(room, len(agents)))]
        # The index tells of a moment ago.
        return [state for state in states if state and state["lastUpdated"] < limits.get(Status(state["status"]), "")]

    stale = still(found, LIMIT)
    parents = _candidates(client, table, Status.WAITING_FOR_AGENT, limit)
    for agent_id in random.sample(parents, min(LIMIT, len(parents))):
        stale += _waits_in_vain(client, table, _state(client, table, agent_id))
    stale += _unreminded(client, table, now, patience)
    room = max(0, LIMIT - len(stale))
    left_out = max(0, len(found) - LIMIT) + len(stale[LIMIT:]) + max(0, len(asking) - room)
    stale += still(asking, room)
    return Watch(agents=[_stale(state) for state in stale[:LIMIT]], left_out=left_out)


def _waits_in_vain(client: "DynamoDBClient", table: str, parent: Item) -> list[Item]:
    """The children that a parent waits for and whose end it has not heard of, and itself if one does not exist."""
    if parent.get("status") != Status.WAITING_FOR_AGENT or not parent["waitsFor"].isdecimal():
        return []
    # Not those of a delegation before: some of them may never have been started, and nobody waits for them.
    delegation = _read(client, table, parent["agentId"], step_record(int(parent["waitsFor"])))
    children = read_object(delegation.get("decision", "")).get("children", [])
    stale: list[Item] = []
    for child_id in [child["agentId"] for child in children]:
        child = _state(client, table, child_id)
        if not child and parent not in stale:
            stale.append(parent)
        elif child and child["status"] in FINISHED and not _read(client, table, parent["agentId"], f"INPUT#{child_id}"):
            stale.append(child)
    return stale


def _unreminded(client: "DynamoDBClient", table: str, now: datetime, patience: Patience) -> list[Item]:
    """Those that have waited for an approval for half of the time, if nobody was told a second time."""
    half = now - patience.approval / 2
    # What has expired is found anyway, and reminded of before it counts.
    since = max(half - REMINDING_RUNS * patience.watch, now - patience.approval)
    found = _candidates(client, table, Status.WAITING_FOR_APPROVAL, _text(half), _text(since))
    states = (_state(client, table, agent_id) for agent_id in random.sample(found, len(found)))
    waiting = (state for state in states if state.get("status") == Status.WAITING_FOR_APPROVAL)
    return list(itertools.islice((state for state in waiting if not _reminded(state)), LIMIT))


def _reminded(state: Item) -> bool:
    return state.get("remindedOf") == state["waitsFor"]


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


def _candidates(client: "DynamoDBClient", table: str, status: Status, before: str, since: str = "0") -> list[str]:
    pages = client.get_paginator("query").paginate(
        TableName=table,
        IndexName=INDEX,
        KeyConditionExpression="#status = :status AND lastUpdated BETWEEN :since AND :before",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}, ":since": {"S": since}, ":before": {"S": before}},
        ProjectionExpression="agentId",
        PaginationConfig={"MaxItems": CANDIDATES},
    )
    return [item["agentId"]["S"] for page in pages for item in page["Items"]]


def _state(client: "DynamoDBClient", table: str, agent_id: str) -> Item:
    return _read(client, table, agent_id, "STATE")


def _read(client: "DynamoDBClient", table: str, agent_id: str, record: str) -> Item:
    """An item as it is now; empty if there is none."""
    answer = client.get_item(
        TableName=table, Key={"agentId": {"S": agent_id}, "record": {"S": record}}, ConsistentRead=True
    )
    return plain(answer.get("Item", {}))


def _stale(state: Item) -> Stale:
    return Stale(
        agent_id=state["agentId"],
        step=int(state["step"]),
        status=Status(state["status"]),
        next_action=state["nextAction"],
        owner=state["owner"].partition("#")[0],
        waits_for=state["waitsFor"],
        reminded=_reminded(state),
        parent=state["parent"],
        error=state["error"],
        error_message=reason(state["errorMessage"])[:MESSAGE_LIMIT],
    )


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
