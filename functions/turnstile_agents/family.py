"""Tells whether the agents above a child still run. Pure."""

from collections.abc import Callable

from turnstile_agents.conversation import Item
from turnstile_agents.record import FINISHED

ReadAbove = Callable[[str], Item]
"""Reads `status` and `parent` of an agent by its id; empty if there is no such agent."""


def deserted(state: Item, read_above: ReadAbove) -> str:
    """Say why no agent needs a child any more: its parent, or an agent further up, has ended or does not exist. Empty
    if all of them go on, or if the agent has no parent.

    An agent that ends cancels its children; this finds children whose cancellation was lost, or that did not
    exist yet.
    """
    above, seen = state, set[str]()
    # No agent is above itself, unless another program has written to the table.
    while (parent := above.get("parent")) and parent not in seen:
        seen.add(parent)
        above = read_above(parent)
        who = f"Its parent {parent}" if len(seen) == 1 else f"{parent}, which is above its parent,"
        if not above:
            return f"{who} does not exist."
        if above.get("status") in FINISHED:
            return f"{who} is {above['status']}."
    return ""
