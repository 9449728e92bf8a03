"""Lambda: the tool book_flight."""

from agent.tool import ToolCall, tool
from tools.flights import BookFlight, Booking
from tools.inventory import book


@tool(effect="write")
def book_flight(request: BookFlight, call: ToolCall) -> Booking:
    """Book seats on a flight from one city to another on a day, at once and without a look-up.

    Takes the earliest flight that has enough seats, unless flight_id names another. Returns the booking.
    """
    return book(request, "turnstile", call.key)


handler = book_flight
