"""The lists: agents by their status, and the journal of an agent."""

import base64
import json
import os
from typing import Annotated, Any

from pydantic import StringConstraints, ValidationError

from turnstile_agents import journal
from turnstile_agents.api import record
from turnstile_agents.api.problems import HttpRefusal, invalid, unknown_agent
from turnstile_agents.api.shapes import AgentPage, AgentSummary, JournalPage
from turnstile_agents.border import plain
from turnstile_agents.dynamodb import reading_client
from turnstile_agents.record import Model, Status, step_record

INDEX = "ByStatus"
LAST_STEP = 999_999

_Text = Annotated[str, StringConstraints(min_length=1)]


class _Key(Model):
    """Where a page ends: a key of the index."""

    agent_id: _Text
    record: _Text
    status: Status
    last_updated: _Text


class _Token(Model):
    """The content of a `nextToken`."""

    asked: Status | None
    after: _Key


def list_agents(status: Status | None, limit: int, token: str | None) -> AgentPage:
    """Read a page of agents: in a status, the last updated first, or all agents in no order."""
    arguments: dict[str, Any] = {"TableName": os.environ["TABLE_NAME"], "IndexName": INDEX, "Limit": limit}
    if token is not None:
        after = _read_token(token, status).dump()
        arguments["ExclusiveStartKey"] = {name: {"S": value} for name, value in after.items()}
    if status is None:
        answer: Any = reading_client().scan(**arguments)
    else:
        answer = reading_client().query(
            **arguments,
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}},
            ScanIndexForward=False,
        )
    last = answer.get("LastEvaluatedKey")
    return AgentPage(
        agents=[_summary(plain(item)) for item in answer["Items"]],
        next_token=_write_token(status, plain(last)) if last else None,
    )


def read_journal(agent_id: str, after: int, limit: int) -> JournalPage:
    """Read the entries after a step, in order. Raises Refused if there is no such agent."""
    state = record.read(agent_id, "STATE")
    if state is None:
        raise unknown_agent(agent_id)
    # Read the entry before them too: it tells whether the first entry follows from a decision about calls.
    before = 1 if after else 0
    answer = reading_client().query(
        TableName=os.environ["TABLE_NAME"],
        KeyConditionExpression="agentId = :agentId AND #record BETWEEN :first AND :last",
        ExpressionAttributeNames={"#record": "record"},
        ExpressionAttributeValues={
            ":agentId": {"S": agent_id},
            ":first": {"S": step_record(after + 1 - before)},
            ":last": {"S": step_record(LAST_STEP)},
        },
        ConsistentRead=True,
        Limit=limit + before,
    )
    items = [state, *map(plain, answer["Items"]), *record.read_kind(agent_id, "INPUT#")]
    entries = [entry for entry in journal.read_journal(items) if entry.step > after]
    more = entries and "LastEvaluatedKey" in answer
    return JournalPage(entries=entries, next_after=entries[-1].step if more else None)


def _summary(item: dict[str, str]) -> AgentSummary:
    return AgentSummary(
        agent_id=item["agentId"],
        status=Status(item["status"]),
        agent=item["agent"],
        goal=item["goal"],
        step=int(item["step"]),
        created_at=item["createdAt"],
        last_updated=item["lastUpdated"],
        error=item["error"],
    )


def _write_token(asked: Status | None, after: dict[str, str]) -> str:
    token = json.dumps({"asked": asked, "after": after}, separators=(",", ":"))
    return base64.urlsafe_b64encode(token.encode()).decode()


def _read_token(token: str, asked: Status | None) -> _Key:
    refused: HttpRefusal = invalid("nextToken is not from this list; leave it out to begin with the first page")
    try:
        read = _Token.model_validate_json(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, ValidationError) as error:
        raise refused from error
    if read.asked != asked or (asked and read.after.status != asked) or read.after.record != "STATE":
        raise refused
    return read.after
