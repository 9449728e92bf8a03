"""One look at a stack's tables."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable

from turnstile_agents.items import Attributes, Effect
from turnstile_agents.record import FREE
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.sample import load_sample
from turnstile_cli.verify.agent import findings
from turnstile_cli.verify.family import family_findings
from turnstile_cli.verify.kinds import Finding, VerifyReport
from turnstile_cli.verify.stored import read_sound


def look(stack: Stack, agent_id: str | None) -> VerifyReport:
    """Read the tables once and run all checks. Raise UnknownAgent if there is no such agent."""
    items = _items(stack, agent_id)
    by_agent: defaultdict[str, list[Attributes]] = defaultdict(list)
    for item in items:
        if "#" not in item["agentId"]:  # leave out definitions and agent_watch's counters
            by_agent[item["agentId"]].append(item)
    records = [record for _, record in sorted(by_agent.items())]
    over = _over(stack, items)
    found = [finding for record in records for finding in findings(record, over)]
    known = {(item["agentId"], item["record"]): item for item in items}

    def read(other_id: str, record: str) -> Attributes | None:
        return known.get((other_id, record)) if agent_id is None else stack.table.item_attributes(other_id, record)

    now = dt.datetime.now(dt.UTC)
    for record in records:
        found += family_findings(record, read, now)
    effects = [item for item in map(read_sound, items) if isinstance(item, Effect)]
    found += [Finding(**each._asdict()) for each in load_sample().inconsistencies(stack, effects, agent_id)]
    return VerifyReport(agents=len(records), findings=found)


def _over(stack: Stack, items: Iterable[Attributes]) -> dict[str, str]:
    """Return the executions that hold a lease but have ended, by ARN, with their status."""
    owners = {item.get("owner", FREE).partition("#")[0] for item in items if item["record"] == "STATE"} - {FREE}
    known = {arn: stack.execution(arn) for arn in sorted(owners)}
    return {
        arn: execution.status if execution else "Step Functions no longer keeps it"
        for arn, execution in known.items()
        if execution is None or execution.status != "RUNNING"
    }


def _items(stack: Stack, agent_id: str | None) -> list[Attributes]:
    """Read the items of an agent, or of all, as text: a broken one must be readable."""
    if agent_id is None:
        return list(stack.table.all_attributes())
    items = stack.table.attributes(agent_id)
    if not items:
        raise stack.unknown(agent_id)
    return items
