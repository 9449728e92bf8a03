"""The core's Lambdas: the real functions, on the items of the world. Equal calls are computed once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from tests.protocol.machines import Failed
from tests.protocol.table import plain
from tests.protocol.text import data, text
from turnstile_agents.definition import Definition
from turnstile_agents.errors import ContextTooLarge, EffectUncertain, InvalidRecord, LeaseLost
from turnstile_agents.items import AgentState, Record, item_of, record_of
from turnstile_agents.load_recovery.load import load_recovery
from turnstile_agents.load_recovery.shapes import LoadRecoveryInput, OperatorQuestion
from turnstile_agents.load_turn.load import load_turn
from turnstile_agents.load_watch.load import Patience, find_stale
from turnstile_agents.read_reply.read import read_reply
from turnstile_agents.table import AgentTable
from turnstile_agents.turn import Claim, ReadReplyInput

Stored = tuple[tuple[str, str], ...]
"""The items of the agent, in order of their `record`."""
RAISED = (LeaseLost, InvalidRecord, EffectUncertain, ContextTooLarge)
LATER = datetime(2099, 1, 1, tzinfo=UTC)
"""The time at which the watch looks: every record looks stale by then. The model does not decide which really are."""
PATIENCE = Patience(stale=timedelta(minutes=15), approval=timedelta(days=1), watch=timedelta(minutes=5))


LOOK = text({"FunctionName": "load_watch", "Payload": {}})


class Lambdas:
    """The functions, for agents of one definition."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._functions: dict[str, Callable[[Any, Stored], Any]] = {
            "load_turn": self._load_turn,
            "read_reply": self._read_reply,
            "load_recovery": self._load_recovery,
            "load_watch": self._load_watch,
        }
        self.call = cache(self._call)

    def _call(self, parameters: str, record: Stored) -> str | Failed:
        """Return the answer or the error of a function, called with the Parameters of its Task."""
        given = data(parameters)
        try:
            return text({"Payload": self._functions[given["FunctionName"]](given["Payload"], record)})
        except RAISED as error:
            return Failed(type(error).__name__, text({"errorMessage": str(error)}))

    def stale(self, record: Stored) -> list[Any]:
        """Return the agents that the watch would find."""
        found = self.call(LOOK, record)
        assert isinstance(found, str)
        return list(data(found)["Payload"]["agents"])

    def _load_turn(self, payload: Any, record: Stored) -> Any:
        claim = Claim.model_validate(payload)
        return load_turn(claim, _read(record), self._read_definition, _no_child, _no_parent, "2026-11-24").dump()

    def _read_reply(self, payload: Any, _record: Stored) -> Any:
        return read_reply(ReadReplyInput.model_validate(payload)).dump()

    def _load_recovery(self, payload: Any, record: Stored) -> Any:
        operator = OperatorQuestion(reminder_seconds=60, reminders=0)
        return load_recovery(
            LoadRecoveryInput.model_validate(payload), _read(record), self._read_definition, _no_parent, operator
        ).dump()

    def _load_watch(self, _payload: Any, record: Stored) -> Any:
        client: Any = _Client(record)
        return find_stale(AgentTable(client, ""), LATER, PATIENCE, run=0).dump()

    def _read_definition(self, _name: str, _version: int) -> Definition:
        return self._definition


def _read(record: Stored) -> Record:
    return record_of(item_of(plain(item)) for _, item in record)


def _no_child(_agent_id: str) -> Record:
    return Record()


def _no_parent(_agent_id: str) -> AgentState | None:
    return None


class _Client:
    """The part of a client that LoadWatch uses: the index of agents by status, and single items."""

    def __init__(self, record: Stored) -> None:
        self._items = dict(record)

    def get_paginator(self, _operation: str) -> "_Client":
        return self

    def paginate(self, ExpressionAttributeValues: dict[str, dict[str, str]], **_: Any) -> list[Any]:  # noqa: N803
        state = self._items.get("STATE")
        if state is None or data(state)["status"] != ExpressionAttributeValues[":status"]:
            return [{"Items": []}]
        return [{"Items": [{"agentId": data(state)["agentId"]}]}]

    def get_item(self, Key: dict[str, dict[str, str]], **_: Any) -> dict[str, Any]:  # noqa: N803
        item = self._items.get(Key["record"]["S"])
        return {"Item": data(item)} if item else {}
