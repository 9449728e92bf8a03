"""The check of STATE, which is the fold of the journal and the inbox."""

from collections.abc import Iterator, Mapping

from pydantic.alias_generators import to_camel

from turnstile_agents.items import AgentState, InputItem
from turnstile_agents.record import FINISHED, FREE, SETTLED, Status, Usage
from turnstile_cli.verify.kinds import Found, Kind
from turnstile_cli.verify.stored import StoredAgent

_DUE = frozenset({Status.INITIATED, Status.PLANNING})
"""The statuses in which a turn may be announced."""
_WAITING = frozenset({Status.WAITING_FOR_INPUT, Status.WAITING_FOR_APPROVAL, Status.WAITING_FOR_AGENT})
_AT_REST = _WAITING | FINISHED
"""The statuses in which no execution works on the agent."""
_FAILED = frozenset({Status.FAILED, Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED})


def check_lease(state: AgentState, over: Mapping[str, str]) -> Iterator[Found]:
    """Check that an agent at work has a running execution or an announced turn."""
    if state.execution in over:
        what = f"{state.execution} holds the lease, but it has ended: {over[state.execution]}"
        yield Kind.LEASE_DEAD, "STATE", what
    elif state.owner == FREE and state.next_action == FREE and state.status not in SETTLED | _FAILED | _WAITING:
        # A failed agent was announced to the recovery; the tables do not show whether that event arrives.
        what = f"The agent is {state.status}, but no execution works on it and no turn is announced"
        yield Kind.AGENT_LOST, "STATE", what
    elif state.owner == FREE and state.status is Status.WAITING_FOR_OPERATOR:
        yield Kind.AGENT_LOST, "STATE", "The agent waits for its operator, but no recovery waits for the decision"


def check_state(agent: StoredAgent) -> Iterator[Found]:
    """Check that STATE's counters agree with the items, and its status with the journal's last entry."""
    yield from _counters(agent)
    yield from _status(agent)


def _counters(agent: StoredAgent) -> Iterator[Found]:
    entries = agent.entries
    # A child's tokens and cost also count for its parent.
    usages: list[Usage | InputItem] = [entry.usage for entry in entries if entry.usage]
    usages += agent.inputs.values()
    decided = [entry.decision or entry.recovery for entry in entries]
    counted = {
        "model_calls": sum(entry.who == "MODEL" for entry in entries),
        "tool_calls": sum(len(entry.results) for entry in entries),
        "replans": sum(each is not None and each.action == "REPLAN" for each in decided),
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "cost_micro_usd": sum(usage.cost_micro_usd for usage in usages),
        "inbox": len(agent.inputs),
        "cancels": sum(each.type == "AgentCancelRequested" for each in agent.inputs.values()),
    }
    for name, number in counted.items():
        told = getattr(agent.state, name)
        if told != number:
            where = "the items INPUT# give" if name in ("inbox", "cancels") else "the journal gives"
            yield Kind.COUNTER_WRONG, "STATE", f"`{to_camel(name)}` is {told}, but {where} {number}"


def _status(agent: StoredAgent) -> Iterator[Found]:
    state, last, closing = agent.state, agent.entries[-1], agent.closing
    decision, recovery = last.decision, last.recovery
    match state.status:
        case Status.INITIATED:
            fits = last.who == "USER"
        case Status.PLANNING_COMPLETE | Status.TOOL_EXECUTION_PENDING:
            fits = decision is not None and decision.status is state.status
        case Status.TOOL_EXECUTION_SUCCESS:
            fits = last.who == "TOOLS"
        case Status.COMPLETED:
            fits = closing is not None and closing.action == "COMPLETE"
        case Status.WAITING_FOR_INPUT:
            fits = (closing is not None and closing.action == "ASK_USER") or bool(recovery and recovery.question)
        case Status.WAITING_FOR_APPROVAL:
            fits = closing is not None and closing.action == "ASK_APPROVAL"
        case Status.WAITING_FOR_AGENT:
            fits = closing is not None and closing.action == "DELEGATE"
        case Status.CANCELLED:
            # Any decision may be the last one. But there must be a request to cancel, or a parent that has ended.
            fits = state.cancels > 0 or state.parent != "" or (recovery is not None and recovery.action == "CANCEL")
        case Status.FAILED:
            fits = recovery is not None and recovery.status is Status.FAILED
        case _:
            fits = True
    if not fits:
        what = f"{last.who}: {decided.action}" if (decided := decision or recovery) else last.who
        yield Kind.STATUS_WRONG, "STATE", f"The agent is {state.status}, but the last entry of its journal is {what}"
    waits = state.status in (Status.WAITING_FOR_APPROVAL, Status.WAITING_FOR_AGENT)
    if fits and waits and closing and state.waits_for != closing.waits_for:
        what = f"`waitsFor` is {state.waits_for!r}, but the agent is {state.status} by decision {closing.waits_for}"
        yield Kind.STATUS_WRONG, "STATE", what
    if state.status in _FAILED and not state.error:
        yield Kind.STATUS_WRONG, "STATE", f"The agent is {state.status}, but `error` is empty"
    worker = "no execution" if state.owner == FREE else state.execution
    if state.next_action != FREE and (state.owner != FREE or state.status not in _DUE):
        what = f"`nextAction` is {state.next_action}, but the agent is {state.status} and {worker} works on it"
        yield Kind.STATUS_WRONG, "STATE", what
    if state.owner != FREE and state.status in _AT_REST:
        yield Kind.STATUS_WRONG, "STATE", f"The agent is {state.status}, but {worker} holds the lease"
