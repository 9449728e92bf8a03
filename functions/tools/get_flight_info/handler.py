"""Lambda: the tool get_flight_info."""

from tools.flights import FlightInfo, Trip
from tools.inventory import reject_past, sale
from turnstile_agents import tool


@tool(effect="read")
def get_flight_info(request: Trip) -> FlightInfo:
    """List the flights from one city to another on a day, with departure, price and the seats left.

    Booking needs no look-up first: book_flight finds the earliest flight with seats by itself.
    """
    reject_past(request.date)
    offer = sale(request, "turnstile")
    has_seats = any(flight.seats_left for flight in offer.flights)
    return FlightInfo(
        flights=offer.flights, message="" if has_seats else f"No seats on {request.date}. {offer.advice()}"
    )


handler = get_flight_info
