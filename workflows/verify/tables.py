"""One look at a stack's tables."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable

from agent.border import plain
from agent.conversation import Item
from agent.record import FREE
from workflows.client import Stack
from workflows.verify.agent import findings
from workflows.verify.family import family_findings
from workflows.verify.inventory import booking_findings, inventory_findings
from workflows.verify.kinds import Verdict


def look(stack: Stack, agent_id: str | None) -> Verdict:
    """Read the tables once and run all checks. Raise UnknownAgent if there is no such agent."""
    outputs = stack.outputs
    items = stack.read_agent(agent_id) if agent_id else _scan(stack, outputs.table_name)
    by_agent: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        if "#" not in item["agentId"]:  # leave out definitions and agent_watch's counters
            by_agent[item["agentId"]].append(item)
    records = [record for _, record in sorted(by_agent.items())]
    over = _over(stack, items)
    found = [finding for record in records for finding in findings(record, over)]
    known = {(item["agentId"], item["record"]): item for item in items}

    def read(other_id: str, record: str) -> Item | None:
        return known.get((other_id, record)) if agent_id is None else stack.item(other_id, record)

    now = dt.datetime.now(dt.UTC)
    for record in records:
        found += family_findings(record, read, now)
    effects = [item for item in items if item["record"].startswith("EFFECT#")]
    bookings = _scan(stack, outputs.bookings_table_name)
    if agent_id:
        own = [booking for booking in bookings if booking["key"].startswith(f"{agent_id}#")]
        found += booking_findings(own, effects)
    else:
        found += inventory_findings(_scan(stack, outputs.flights_table_name), bookings, effects)
    return Verdict(agents=len(records), findings=found)


def _over(stack: Stack, items: Iterable[Item]) -> dict[str, str]:
    """Return the executions that hold a lease but have ended, by ARN, with their status."""
    owners = {item["owner"].partition("#")[0] for item in items if item["record"] == "STATE"} - {FREE}
    known = {arn: stack.execution(arn) for arn in sorted(owners)}
    return {
        arn: execution.status if execution else "Step Functions no longer keeps it"
        for arn, execution in known.items()
        if execution is None or execution.status != "RUNNING"
    }


def _scan(stack: Stack, table: str) -> list[Item]:
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [plain(item) for page in pages for item in page["Items"]]
