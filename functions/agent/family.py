"""Whether anybody still waits for what an agent does. Pure."""

from collections.abc import Callable

from agent.conversation import Item
from agent.record import FINISHED

ReadAbove = Callable[[str], Item]
"""How `status` and `parent` of an agent are found: by its id. Nothing of one that does not exist."""


def deserted(state: Item, read_above: ReadAbove) -> str:
    """Why nobody waits for a child any more: its parent has come to its end, or is gone, or that is so of one further
    up. Empty if all of them go on, or if nobody has delegated to it.

    Whoever ends cancels its children; this finds those whose cancellation was lost, or who did not exist yet.
    """
    above, seen = state, set[str]()
    # Nobody is above itself, unless somebody else has written to the table.
    while (parent := above.get("parent")) and parent not in seen:
        seen.add(parent)
        above = read_above(parent)
        who = f"Its parent {parent}" if len(seen) == 1 else f"{parent}, which is above its parent,"
        if not above:
            return f"{who} does not exist."
        if above.get("status") in FINISHED:
            return f"{who} is {above['status']}."
    return ""
