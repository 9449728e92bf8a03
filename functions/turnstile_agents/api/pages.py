"""The lists: agents by their status, and the journal of an agent."""

import base64
import json
from typing import Annotated, Any

from pydantic import StringConstraints, ValidationError

from turnstile_agents import journal
from turnstile_agents.api.problems import HttpRefusal, invalid, unknown_agent
from turnstile_agents.api.shapes import AgentPage, AgentSummary, JournalPage
from turnstile_agents.items import ListedState, Record, attributes_of
from turnstile_agents.record import Model, Status
from turnstile_agents.store import table
from turnstile_agents.table import INDEX, listed_state

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
    arguments: dict[str, Any] = {"TableName": table().name, "IndexName": INDEX, "Limit": limit}
    if token is not None:
        after = _read_token(token, status).dump()
        arguments["ExclusiveStartKey"] = {name: {"S": value} for name, value in after.items()}
    if status is None:
        answer: Any = table().client.scan(**arguments)
    else:
        answer = table().client.query(
            **arguments,
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}},
            ScanIndexForward=False,
        )
    last = answer.get("LastEvaluatedKey")
    return AgentPage(
        agents=[_summary(listed_state(stored)) for stored in answer["Items"]],
        next_token=_write_token(status, attributes_of(last)) if last else None,
    )


def read_journal(agent_id: str, after: int, limit: int) -> JournalPage:
    """Read the entries after a step, in order. Raises HttpRefusal if there is no such agent."""
    state = table().state(agent_id)
    if state is None:
        raise unknown_agent(agent_id)
    # Read the entry before them too: it tells whether the first entry follows from a decision about calls.
    before = 1 if after else 0
    steps, more = table().steps(agent_id, after + 1 - before, limit=limit + before)
    read = journal.read_journal(Record(state=state, steps=steps, inputs=table().inputs(agent_id)))
    entries = [entry for entry in read if entry.step > after]
    return JournalPage(entries=entries, next_after=entries[-1].step if entries and more else None)


def _summary(listed: ListedState) -> AgentSummary:
    return AgentSummary.model_validate(listed.model_dump(include=set(AgentSummary.model_fields)))


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
