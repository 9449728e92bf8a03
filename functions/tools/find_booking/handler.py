"""Lambda: the tool find_booking, the look-up for calls whose outcome is unknown."""

from tools.flights import CallLookUp, CallOutcome
from tools.inventory import find_call
from turnstile_agents import tool


@tool(effect="read")
def find_booking(request: CallLookUp) -> CallOutcome:
    """Find out whether a call that books or cancels took effect."""
    return find_call(request)


handler = find_booking
