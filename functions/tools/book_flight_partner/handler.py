"""Lambda: the tool book_flight_partner, the alternative to book_flight."""

from tools.flights import BookFlight, Booking
from tools.inventory import book
from turnstile_agents import ToolCall, tool


@tool(effect="write")
def book_flight_partner(request: BookFlight, call: ToolCall) -> Booking:
    """Book seats with the partner airline, when book_flight does not work. Takes and returns the same."""
    return book(request, "partner", call.key)


handler = book_flight_partner
