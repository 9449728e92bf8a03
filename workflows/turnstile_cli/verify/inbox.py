"""The check of an agent's inbox, against its journal and its delegations."""

from collections import Counter
from collections.abc import Iterator

from turnstile_agents.record import Status
from turnstile_cli.verify.kinds import Found, Kind
from turnstile_cli.verify.stored import StoredAgent


def check_inbox(agent: StoredAgent) -> Iterator[Found]:
    """Check that the journal has each input once, and that children and their ends belong to the agent's decisions."""
    yield from _inputs(agent)
    yield from _children(agent)


def _inputs(agent: StoredAgent) -> Iterator[Found]:
    for record, times in Counter(agent.folded).items():
        if record not in agent.inputs:
            yield Kind.INPUT_MISSING, record, "The journal has folded this input in, but the input does not exist"
        if times > 1:
            yield Kind.INPUT_TWICE, record, f"The journal has folded this input in {times} times"
    if agent.state.status in (Status.COMPLETED, Status.WAITING_FOR_INPUT):
        for record in sorted(agent.inputs.keys() - set(agent.folded)):
            if agent.state.status is Status.WAITING_FOR_INPUT and agent.inputs[record].type == "AgentStateUpdated":
                continue  # the end of a child that the agent no longer waits for does not wake the agent
            yield Kind.INPUT_UNHEARD, record, f"The agent is {agent.state.status} and has not heard this input"


def _children(agent: StoredAgent) -> Iterator[Found]:
    """Check that STATE names the children of all decisions, and that every child's end is of such a child."""
    decided = [child.agent_id for entry in agent.entries if entry.decision for child in entry.decision.children]
    known = set(agent.state.children)
    for child in sorted(known - set(decided)):
        yield Kind.CHILD_UNDECIDED, "STATE", f"{child} is among its `children`, but no decision has delegated to it"
    for child in sorted(set(decided) - known):
        yield Kind.CHILD_UNDECIDED, "STATE", f"A decision has delegated to {child}, which is not among its `children`"
    for record, each in sorted(agent.inputs.items()):
        if each.type == "AgentStateUpdated" and record.removeprefix("INPUT#") not in decided:
            yield Kind.CHILD_UNDECIDED, record, "It tells of the end of an agent that no decision has delegated to"
