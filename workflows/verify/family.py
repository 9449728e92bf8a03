"""Parents and their children: whether they know of each other."""

import datetime as dt
from collections.abc import Callable, Iterable

from agent.conversation import Item
from agent.family import deserted
from agent.journal import read_journal
from agent.record import FINISHED, Status
from workflows.verify.kinds import Finding, Kind
from workflows.verify.stored import State

NEWS_SECONDS = 60
"""How long a child's news may be on its way, and its start."""


def family_findings(items: Iterable[Item], read_state: Callable[[str], Item | None], now: dt.datetime) -> list[Finding]:
    """What is inconsistent between an agent and those above and below it, whose STATE `read_state` finds.

    A child that is not there yet, or whose news has not come, is told `NEWS_SECONDS` later.
    """
    found = list(items)
    record = {item["record"]: item for item in found}
    try:
        state, entries = State.model_validate(record["STATE"]), read_journal(found)
    except (KeyError, TypeError, ValueError):
        return []  # told already
    agent_id, recovery = record["STATE"]["agentId"], entries[-1].recovery if entries else None
    asked_to = state.cancels > 0 or (recovery is not None and recovery.action == "CANCEL")
    by_itself = state.status is Status.CANCELLED and state.parent != "" and not asked_to
    if by_itself and not deserted(record["STATE"], lambda above: read_state(above) or {}):
        what = f"The agent is CANCELLED, but nobody asked for that, and {state.parent} goes on"
        return [Finding.of(agent_id, Kind.STATUS_WRONG, "STATE", what)]
    if state.status is not Status.WAITING_FOR_AGENT:
        return []
    late = now - dt.timedelta(seconds=NEWS_SECONDS)
    open_one = (entry.decision for entry in entries if entry.decision and entry.decision.waits_for == state.waits_for)
    children = [child.agent_id for decision in open_one for child in decision.children]
    awaited = [child for child in children if f"INPUT#{child}" not in record]
    if children and not awaited:
        what = f"The agent waits for {', '.join(children)}, but has heard of all of them, and nobody wakes it"
        return [Finding.of(agent_id, Kind.AGENT_LOST, "STATE", what)]
    missing = []
    for child in awaited:
        now_is = read_state(child)
        if now_is is None:
            if state.last_updated < late:
                what = f"{agent_id} waits for it, but there is no such agent"
                missing.append(Finding.of(child, Kind.CHILD_MISSING, "STATE", what))
        elif now_is["status"] in FINISHED and dt.datetime.fromisoformat(now_is["lastUpdated"]) < late:
            what = f"The agent waits for {child}, which is {now_is['status']}, but has not heard of it"
            missing.append(Finding.of(agent_id, Kind.CHILD_UNHEARD, f"INPUT#{child}", what))
    return missing
