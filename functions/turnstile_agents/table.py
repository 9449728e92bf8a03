"""Reads the table `AgentWorkflows`, consistently: the same code in the Lambdas, the API and the command line."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from turnstile_agents.definition import Definition, definition_key, version_record
from turnstile_agents.items import (
    OPERATOR,
    AgentState,
    AnyItem,
    Attributes,
    Effect,
    InputItem,
    JournalItem,
    ListedState,
    Question,
    Record,
    StepItem,
    attributes_of,
    read_item,
    record_of,
)
from turnstile_agents.record import Status, step_record

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "ByStatus"
"""The index of STATE items by status and time of the last change. It may be out of date for a moment."""
LAST_STEP = 999_999
"""The largest number of an entry."""


class AgentTable:
    """The table of agents and definitions. Its methods raise botocore's errors, and ValueError for a broken item."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self.client = client
        self.name = name

    # ---- One agent

    def record(self, agent_id: str) -> Record:
        """Read all items of an agent."""
        return record_of(map(read_item, self._partition(agent_id)))

    def attributes(self, agent_id: str) -> list[Attributes]:
        """Read the same items as text, for a check that must be able to read broken ones."""
        return [attributes_of(stored) for stored in self._partition(agent_id)]

    def item_attributes(self, agent_id: str, record: str) -> Attributes | None:
        """Read one item as text; None if it does not exist."""
        stored = self._stored(agent_id, record)
        return attributes_of(stored) if stored else None

    def state(self, agent_id: str) -> AgentState | None:
        """Read the agent itself; None if there is no such agent."""
        item = self._item(agent_id, "STATE")
        return item if isinstance(item, AgentState) else None

    def question(self, agent_id: str) -> Question | None:
        """Read the last question to its operator; None if there was none."""
        item = self._item(agent_id, OPERATOR)
        return item if isinstance(item, Question) else None

    def input(self, agent_id: str, event_id: str) -> InputItem | None:
        """Read an input by its event's id; None if the event has not arrived."""
        item = self._item(agent_id, f"INPUT#{event_id}")
        return item if isinstance(item, InputItem) else None

    def step(self, agent_id: str, number: int) -> StepItem | None:
        """Read an entry of the journal; None if it does not exist."""
        item = self._item(agent_id, step_record(number))
        return item if isinstance(item, JournalItem) else None

    def effects(self, agent_id: str) -> list[Effect]:
        """Read the ledger."""
        return record_of(map(read_item, self._partition(agent_id, "EFFECT#"))).effects

    def inputs(self, agent_id: str) -> list[InputItem]:
        """Read the inbox."""
        return record_of(map(read_item, self._partition(agent_id, "INPUT#"))).inputs

    def steps(
        self, agent_id: str, first: int, last: int = LAST_STEP, limit: int | None = None
    ) -> tuple[list[StepItem], bool]:
        """Read the journal between two steps, at most `limit` entries. Return them, and whether there are more."""
        found = (
            self.client.get_paginator("query")
            .paginate(
                TableName=self.name,
                KeyConditionExpression="agentId = :agentId AND #record BETWEEN :first AND :last",
                ExpressionAttributeNames={"#record": "record"},
                ExpressionAttributeValues={
                    ":agentId": {"S": agent_id},
                    ":first": {"S": step_record(first)},
                    ":last": {"S": step_record(last)},
                },
                ConsistentRead=True,
                PaginationConfig={"MaxItems": limit, "PageSize": limit} if limit else {},
            )
            .build_full_result()
        )
        return record_of(map(read_item, found["Items"])).steps, "NextToken" in found

    # ---- Many agents

    def in_status(self, status: Status, since: str = "0", before: str = "9") -> Iterator[ListedState]:
        """Read the index: the agents in a status whose last change is between two times."""
        yield from map(listed_state, self._index(status, since, before))

    def ids_in_status(self, status: Status, since: str = "0", before: str = "9") -> list[str]:
        """Return the ids of the same agents, even if other attributes of their STATE are broken."""
        found = self._index(status, since, before, ProjectionExpression="agentId")
        return [attributes_of(stored)["agentId"] for stored in found]

    def all_attributes(self) -> Iterator[Attributes]:
        """Read every item of the table as text, those of definitions and of agent_watch included."""
        for page in self.client.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True):
            yield from map(attributes_of, page["Items"])

    # ---- Definitions

    def definition(self, name: str, version: int | None = None) -> Definition | None:
        """Read a version of a definition, the newest one by default; None if it does not exist."""
        record = "LATEST" if version is None else version_record(version)
        stored = self._stored(definition_key(name), record)
        return Definition.model_validate_json(attributes_of(stored)["definition"]) if stored else None

    # ----

    def _index(self, status: Status, since: str, before: str, **more: Any) -> Iterator[Mapping[str, Any]]:
        pages = self.client.get_paginator("query").paginate(
            TableName=self.name,
            IndexName=INDEX,
            KeyConditionExpression="#status = :status AND lastUpdated BETWEEN :since AND :before",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}, ":since": {"S": since}, ":before": {"S": before}},
            **more,
        )
        for page in pages:
            yield from page["Items"]

    def _item(self, agent_id: str, record: str) -> AnyItem | None:
        stored = self._stored(agent_id, record)
        return read_item(stored) if stored else None

    def _stored(self, agent_id: str, record: str) -> Mapping[str, Any] | None:
        answer = self.client.get_item(
            TableName=self.name, Key={"agentId": {"S": agent_id}, "record": {"S": record}}, ConsistentRead=True
        )
        return answer.get("Item")

    def _partition(self, agent_id: str, kind: str = "") -> Iterator[Mapping[str, Any]]:
        """Yield the items of an agent in DynamoDB's form: all of them, or those whose `record` begins with `kind`."""
        condition, names, values = "agentId = :agentId", {}, {":agentId": {"S": agent_id}}
        if kind:
            condition += " AND begins_with(#record, :kind)"
            names, values[":kind"] = {"ExpressionAttributeNames": {"#record": "record"}}, {"S": kind}
        pages = self.client.get_paginator("query").paginate(
            TableName=self.name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **names,  # type: ignore[arg-type]
        )
        for page in pages:
            yield from page["Items"]


def listed_state(stored: Mapping[str, Any]) -> ListedState:
    """Read an item of the index `ByStatus`."""
    return ListedState.model_validate(attributes_of(stored))
