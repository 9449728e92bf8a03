"""Lambda: the tool book_flight."""

from tools.flights import BookFlight, Booking
from tools.inventory import book
from turnstile_agents import ToolCall, tool


@tool(effect="write")
def book_flight(request: BookFlight, call: ToolCall) -> Booking:
    """Book seats on a flight from one city to another on a day, at once and without a look-up.

    Takes the earliest flight that has enough seats, unless flight_id names another. Returns the booking.
    """
    return book(request, "turnstile", call.key)


handler = book_flight
