"""The check of parents and children: whether they name each other."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator

from turnstile_agents.errors import RecordTooNew
from turnstile_agents.family import deserted
from turnstile_agents.items import AgentState, Attributes, item_of, record_of
from turnstile_agents.journal import Entry, read_journal
from turnstile_agents.record import FINISHED, Child, Status, step_record
from turnstile_cli.verify.kinds import Finding, Kind
from turnstile_cli.verify.stored import read_sound

ReadItem = Callable[[str, str], Attributes | None]
"""Read an item as text by its agent's id and its `record`; None if it does not exist."""
NEWS_SECONDS = 60
"""Seconds that the event of a child's end, or of its start, may be on its way."""


def family_findings(items: Iterable[Attributes], read: ReadItem, now: dt.datetime) -> list[Finding]:
    """Find the inconsistencies between an agent and the agents above and below it.

    A child that does not exist yet, or whose end the agent has not heard of, is reported only after `NEWS_SECONDS`.
    """
    try:
        record = record_of(map(item_of, items))
        entries = read_journal(record)
    except (KeyError, TypeError, ValueError, RecordTooNew):
        return []  # already reported as RECORD_UNREADABLE
    state = record.state
    if state is None:
        return []  # already reported too
    agent_id = state.agent_id
    strangers = [*_unnamed(agent_id, state, read), *_strangers(agent_id, entries, read)]
    if _ended_by_itself(state, entries, read):
        what = f"The agent is CANCELLED, but no request asked for that, and its parent {state.parent} goes on"
        return [*strangers, Finding.of(agent_id, Kind.STATUS_WRONG, "STATE", what)]
    if state.status is not Status.WAITING_FOR_AGENT:
        return strangers
    open_one = (entry.decision for entry in entries if entry.decision and entry.decision.waits_for == state.waits_for)
    children = [child.agent_id for decision in open_one for child in decision.children]
    heard = {item.record for item in record.inputs}
    awaited = [child for child in children if f"INPUT#{child}" not in heard]
    if children and not awaited:
        what = f"The agent waits for {', '.join(children)}, but has heard of the end of all, and no turn is announced"
        return [*strangers, Finding.of(agent_id, Kind.AGENT_LOST, "STATE", what)]
    return [*strangers, *_unheard(agent_id, state, awaited, read, now - dt.timedelta(seconds=NEWS_SECONDS))]


def _ended_by_itself(state: AgentState, entries: list[Entry], read: ReadItem) -> bool:
    """Return True if a child is CANCELLED although no request asked for that and its parent goes on."""
    recovery = entries[-1].recovery if entries else None
    asked_to = state.cancels > 0 or (recovery is not None and recovery.action == "CANCEL")
    if state.status is not Status.CANCELLED or state.parent == "" or asked_to:
        return False
    return not deserted(state, lambda above: _state(read, above))


def _unnamed(agent_id: str, state: AgentState, read: ReadItem) -> Iterator[Finding]:
    """Check that the agent's parent has delegated to it."""
    parent = _state(read, state.parent) if state.parent else None
    if parent and agent_id not in parent.children:
        what = f"The agent says that {state.parent} is its parent, but no decision of {state.parent} delegates to it"
        yield Finding.of(agent_id, Kind.CHILD_FOREIGN, "STATE", what)


def _strangers(agent_id: str, entries: list[Entry], read: ReadItem) -> Iterator[Finding]:
    """Compare the children that exist with the decisions that name them."""
    for child in (child for entry in entries if entry.decision for child in entry.decision.children):
        state = _state(read, child.agent_id)
        if state is None:
            continue
        is_now = state.model_dump(by_alias=True)
        decided = _decided(agent_id, child)
        wrong = [f"{name} is {is_now[name]}" for name, value in decided.items() if is_now[name] != value]
        if wrong:
            what = (
                f"The agent is not the child that {agent_id} delegates to at {child.step}: its {', its '.join(wrong)}"
            )
            yield Finding.of(child.agent_id, Kind.CHILD_FOREIGN, "STATE", what)
        first = read(child.agent_id, step_record(1))
        if first and first.get("text") != child.prompt:
            what = f"The agent's first prompt is another one than {agent_id} delegates to it at {child.step}"
            yield Finding.of(child.agent_id, Kind.CHILD_FOREIGN, step_record(1), what)


def _decided(agent_id: str, child: Child) -> dict[str, str | int]:
    """Return the values that STATE of a child must have."""
    return {
        "parent": agent_id,
        "agent": child.agent,
        "goal": child.goal,
        "depth": child.depth,
        "tokenLimit": child.tokens,
        "costLimit": child.cost_micro_usd,
    }


def _unheard(
    agent_id: str, state: AgentState, awaited: list[str], read: ReadItem, late: dt.datetime
) -> Iterator[Finding]:
    """Find the children that were never created, and the ends that the agent has not heard of."""
    for child in awaited:
        now_is = _state(read, child)
        if now_is is None:
            if dt.datetime.fromisoformat(state.last_updated) < late:
                what = f"{agent_id} waits for this agent, but it does not exist"
                yield Finding.of(child, Kind.CHILD_MISSING, "STATE", what)
            continue
        ended = now_is.status in FINISHED and dt.datetime.fromisoformat(now_is.last_updated) < late
        if ended and now_is.parent == agent_id:
            what = f"The agent waits for {child}, which is {now_is.status}, but has not heard of this end"
            yield Finding.of(agent_id, Kind.CHILD_UNHEARD, f"INPUT#{child}", what)


def _state(read: ReadItem, agent_id: str) -> AgentState | None:
    """Read an agent; None if it does not exist, or if its STATE is broken."""
    item = read_sound(read(agent_id, "STATE"))
    return item if isinstance(item, AgentState) else None
