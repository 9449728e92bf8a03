"""Lambda: the tool cancel_flight, the compensation of book_flight."""

from tools.flights import Booking, CancelFlight
from tools.inventory import cancel
from turnstile_agents import ToolCall, tool


@tool(effect="write")
def cancel_flight(request: CancelFlight, call: ToolCall) -> Booking:
    """Cancel a booking and give its seats back. Cancelling it again changes nothing and returns the same."""
    return cancel(request.booking_id, call.key)


handler = cancel_flight
