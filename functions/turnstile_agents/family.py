"""Tells whether the agents above a child still run. Pure."""

from collections.abc import Callable

from turnstile_agents.items import AgentState
from turnstile_agents.record import FINISHED

ReadState = Callable[[str], AgentState | None]
"""Reads an agent by its id; None if there is no such agent."""


def deserted(state: AgentState, read_state: ReadState) -> str:
    """Say why no agent needs a child any more: its parent, or an agent further up, has ended or does not exist. Empty
    if all of them go on, or if the agent has no parent.

    An agent that ends cancels its children; this finds children whose cancellation was lost, or that did not
    exist yet.
    """
    parent, seen = state.parent, set[str]()
    # No agent is above itself, unless another program has written to the table.
    while parent and parent not in seen:
        seen.add(parent)
        above = read_state(parent)
        name = f"Its parent {parent}" if len(seen) == 1 else f"{parent}, which is above its parent,"
        if above is None:
            return f"{name} does not exist."
        if above.status in FINISHED:
            return f"{name} is {above.status}."
        parent = above.parent
    return ""
