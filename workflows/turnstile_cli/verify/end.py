"""The check of an agent's end, against its journal: no agent leaves COMPLETED, FAILED or CANCELLED."""

import itertools
from collections.abc import Iterator

from turnstile_agents.items import ModelStep
from turnstile_agents.record import FINISHED, Status
from turnstile_cli.verify.kinds import Found, Kind
from turnstile_cli.verify.stored import StoredAgent

_WAKING = frozenset({"AgentInputReceived", "AgentCancelRequested"})
"""The inputs that wake an agent whose user was asked."""


def check_end(agent: StoredAgent) -> Iterator[Found]:
    """Find entries after an end, and an agent that went on without an input after a recovery had asked its user."""
    yield from _counted(agent)
    yield from _last(agent)
    yield from _woken(agent)


def _counted(agent: StoredAgent) -> Iterator[Found]:
    ends, ended = agent.state.ends, int(agent.state.status in FINISHED)
    if ends != ended:
        kind = Kind.END_LEFT if ends > ended else Kind.COUNTER_WRONG
        yield kind, "STATE", f"The agent is {agent.state.status}, but `ends` says that it has ended {ends} times"


def _last(agent: StoredAgent) -> Iterator[Found]:
    """Check that a recovery's entry that ended the agent is the last entry, and that STATE has the same status."""
    for entry, after in itertools.zip_longest(agent.entries, agent.entries[1:]):
        recovery = entry.recovery
        if recovery is None or recovery.status not in FINISHED:
            continue
        end = f"step {entry.step} ({recovery.action}) left the agent {recovery.status}"
        if after:
            yield Kind.END_LEFT, agent.record.steps[after.step - 1].record, f"It follows an end: {end}"
        elif agent.state.status is not recovery.status:
            yield Kind.END_LEFT, "STATE", f"The agent is {agent.state.status}, but {end}"


def _woken(agent: StoredAgent) -> Iterator[Found]:
    """Check that only an input moves the agent after a recovery has asked the user."""
    waking = {record for record, each in agent.inputs.items() if each.type in _WAKING}
    steps = agent.record.steps
    for step, entry, after in itertools.zip_longest(steps, agent.entries, steps[1:]):
        waking -= set(step.inputs) if isinstance(step, ModelStep) else set()
        asks = entry.recovery is not None and entry.recovery.status is Status.WAITING_FOR_INPUT
        moved = after is not None or agent.state.status is not Status.WAITING_FOR_INPUT
        if asks and moved and not waking:
            where = after.record if after else "STATE"
            what = f"Step {entry.step} left the agent {Status.WAITING_FOR_INPUT}, and it went on without any input"
            yield Kind.STATUS_WRONG, where, what
