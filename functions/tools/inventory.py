"""The seat inventory in DynamoDB: tables `FLIGHTS_TABLE` (key flightId) and `BOOKINGS_TABLE` (key bookingId).

A booking and its seats change in one transaction, so that the seats sold are the passengers of the bookings that stand.
A booking's id is made from the call's key: a call that comes twice finds its booking and takes no more seats.
"""

import base64
import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from tools.flights import (
    TIMETABLE,
    VOID,
    BookFlight,
    Booking,
    CallLookUp,
    CallOutcome,
    Carrier,
    Flight,
    Trip,
    flight_id,
    from_item,
    to_item,
    utc_today,
)
from turnstile_agents.dynamodb import client
from turnstile_agents.environment import Environment
from turnstile_agents.errors import ToolOutcomeUnknown, ToolRejected, ToolUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

OTHER_DAYS = 3
"""Number of following days that are read for other dates with seats."""
_BUSY = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
}
"""Errors of requests that DynamoDB refused before it did anything."""
_BUSY_REASONS = {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"}
"""The same errors, as the reasons of a cancelled transaction."""
_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError)


class FlightsEnvironment(Environment):
    """The variables of a tool that reads or takes seats."""

    flights_table: str


class BookingsEnvironment(FlightsEnvironment):
    """The variables of a tool that reads or writes bookings too."""

    bookings_table: str


class Sale(NamedTuple):
    """The flights of one carrier on a route."""

    flights: list[Flight]
    """The flights on the requested day, in order of departure."""
    other_dates: list[dt.date]
    """The next days that have seats."""

    def advice(self) -> str:
        """Say in a sentence on which other days there are seats."""
        dates = ", ".join(date.isoformat() for date in self.other_dates)
        return f"Dates with seats: {dates}." if dates else f"Nor on the {OTHER_DAYS} days after it."


def sale(trip: Trip, carrier: Carrier, passengers: int = 1) -> Sale:
    """Read the flights of a trip's day, and the next days with seats for as many passengers.

    Raises ToolUnavailable if the inventory does not answer.
    """
    numbers = [
        line.number
        for line in TIMETABLE
        if (line.carrier, line.from_city, line.to_city) == (carrier, trip.from_city, trip.to_city)
    ]
    dates = [trip.date + dt.timedelta(days=day) for day in range(OTHER_DAYS + 1)]
    keys = [to_item({"flight_id": flight_id(number, date)}) for date in dates for number in numbers]
    table = FlightsEnvironment.read().flights_table
    with _reading():
        answer = client().batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    if answer["UnprocessedKeys"]:
        raise ToolUnavailable("The seat inventory answered only in part")
    flights = [Flight.model_validate(from_item(item)) for item in answer["Responses"][table]]
    flights.sort(key=lambda flight: (flight.date, flight.departs))
    return Sale(
        [flight for flight in flights if flight.date == trip.date],
        sorted({flight.date for flight in flights if flight.date > trip.date and flight.seats_left >= passengers}),
    )


def reject_past(date: dt.date) -> None:
    """Raise ToolRejected for a date before today."""
    today = utc_today()
    if date < today:
        raise ToolRejected(f"{date} is in the past; today is {today} (UTC)")


def book(request: BookFlight, carrier: Carrier, key: str) -> Booking:
    """Book seats, or return the booking that this key already made.

    Raises ToolRejected if there is no such flight or not enough seats, ToolUnavailable if nothing happened and it may
    be tried again, ToolOutcomeUnknown if the answer was lost.
    """
    booking_id = _booking_id(key)
    offer = sale(request, carrier, request.passengers)
    # Read the booking after the seats: a repeat of the call that took the last seats must find its booking.
    known = _find(booking_id)
    if known:
        return known
    flight = _choose(request, offer)
    booking = Booking(
        booking_id=booking_id,
        status="BOOKED",
        flight_id=flight.flight_id,
        carrier=carrier,
        from_city=flight.from_city,
        to_city=flight.to_city,
        date=flight.date,
        departs=flight.departs,
        passengers=request.passengers,
        total_usd=flight.price_usd * request.passengers,
    )
    values = booking.model_dump(mode="json") | {"key": key, "booked_at": _now()}
    put: TransactWriteItemTypeDef = {
        "Put": {
            "TableName": BookingsEnvironment.read().bookings_table,
            "Item": to_item(values),
            "ConditionExpression": "attribute_not_exists(bookingId)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }
    take = _move_seats(flight.flight_id, request.passengers, "seatsLeft", "seatsSold")
    try:
        refused = _transact([put, take])
    except ToolOutcomeUnknown:
        known = _look_up(booking_id)
        if known:
            return known
        raise  # a missing booking proves nothing: the write may still be carried out
    if not refused:
        return booking
    if "Item" in refused[0]:
        if refused[0]["Item"]["status"]["S"] == VOID:
            raise ToolRejected("This call was given up before it arrived; nothing was booked")
        return Booking.model_validate(from_item(refused[0]["Item"]))
    raise ToolRejected(f"The last seats on {flight.flight_id} have just been sold. {offer.advice()}")


def cancel(booking_id: str, key: str) -> Booking:
    """Cancel a booking and give its seats back; a booking that is cancelled already is returned as it is.

    Raises ToolRejected if there is no such booking, or if a look-up has denied the call with this key, ToolUnavailable
    if nothing happened and it may be tried again, ToolOutcomeUnknown if the answer was lost.
    """
    booking = _find(booking_id)
    if booking is None:
        raise ToolRejected(f"There is no booking {booking_id!r}; booking_id is what the booking returned")
    mark: TransactWriteItemTypeDef = {
        "Update": {
            "TableName": BookingsEnvironment.read().bookings_table,
            "Key": to_item({"booking_id": booking_id}),
            "UpdateExpression": "SET #status = :cancelled, cancelledAt = :now",
            "ConditionExpression": "#status = :booked",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {
                ":cancelled": {"S": "CANCELLED"},
                ":booked": {"S": "BOOKED"},
                ":now": {"S": _now()},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }
    give_back = _move_seats(booking.flight_id, booking.passengers, "seatsSold", "seatsLeft")
    not_denied: TransactWriteItemTypeDef = {
        "ConditionCheck": {
            "TableName": BookingsEnvironment.read().bookings_table,
            "Key": to_item({"booking_id": _booking_id(key)}),
            "ConditionExpression": "attribute_not_exists(bookingId)",
        }
    }
    try:
        refused = _transact([mark, give_back, not_denied])
    except ToolOutcomeUnknown:
        known = _look_up(booking_id)
        if known and known.status == "CANCELLED":
            return known
        raise
    if not refused:
        return booking.model_copy(update={"status": "CANCELLED"})
    if "Item" in refused[0]:
        return Booking.model_validate(from_item(refused[0]["Item"]))
    if refused[2]["Code"] == "ConditionalCheckFailed":
        raise ToolRejected("This call was given up before it arrived; nothing was cancelled")
    raise ToolRejected(f"Nothing was cancelled: the inventory has not sold {booking.passengers} of {booking.flight_id}")


def find_call(request: CallLookUp) -> CallOutcome:
    """Find out whether a booking was made under a call's key, or whether a cancellation's booking is cancelled.

    If the key has no booking, a VOID record takes its place, so that a call that is still on its way does nothing when
    it arrives. Raises ToolUnavailable if the inventory does not answer.
    """
    booking = _find_or_void(request.key)
    happened = booking is not None
    if request.tool == "cancel_flight":
        # Read after the VOID record is written: from then on this call cancels nothing.
        booking = _find(str(request.input.get("booking_id")))
        happened = booking is not None and booking.status == "CANCELLED"
    result = booking.model_dump(mode="json") if booking and happened else {}
    return CallOutcome(happened=happened, result=result)


def _find_or_void(key: str) -> Booking | None:
    booking_id = _booking_id(key)
    with _reading():
        try:
            client().put_item(
                TableName=BookingsEnvironment.read().bookings_table,
                Item=to_item({"booking_id": booking_id, "key": key, "status": VOID}),
                ConditionExpression="attribute_not_exists(bookingId)",
            )
        except client().exceptions.ConditionalCheckFailedException:
            return _find(booking_id)
    return None


def _choose(request: BookFlight, offer: Sale) -> Flight:
    reject_past(request.date)
    route = f"from {request.from_city} to {request.to_city} on {request.date}"
    wanted = [flight for flight in offer.flights if request.flight_id in (None, flight.flight_id)]
    if request.flight_id and not wanted:
        known = ", ".join(flight.flight_id for flight in offer.flights) or "none"
        raise ToolRejected(f"{request.flight_id!r} is no flight {route}; flights on that day: {known}")
    for flight in wanted:
        if flight.seats_left >= request.passengers:
            return flight
    left = ", ".join(f"{flight.flight_id} at {flight.departs}: {flight.seats_left} left" for flight in offer.flights)
    seats = f"passengers: {request.passengers}; {left or 'no flights on sale'}"
    raise ToolRejected(f"No seats left {route} ({seats}). {offer.advice()}")


def _booking_id(key: str) -> str:
    # 80 bits: no two keys share an id.
    return "BK-" + base64.b32encode(hashlib.sha256(key.encode()).digest()[:10]).decode()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _find(booking_id: str) -> Booking | None:
    with _reading():
        answer = client().get_item(
            TableName=BookingsEnvironment.read().bookings_table,
            Key=to_item({"booking_id": booking_id}),
            ConsistentRead=True,
        )
    item = from_item(answer.get("Item", {}))
    return Booking.model_validate(item) if item and item["status"] != VOID else None


def _look_up(booking_id: str) -> Booking | None:
    """Look up a booking after an answer was lost. A look-up that fails must not promise that nothing happened."""
    try:
        return _find(booking_id)
    except ToolUnavailable:
        return None


def _move_seats(flight: str, seats: int, source: str, target: str) -> "TransactWriteItemTypeDef":
    return {
        "Update": {
            "TableName": FlightsEnvironment.read().flights_table,
            "Key": to_item({"flight_id": flight}),
            "UpdateExpression": f"SET {source} = {source} - :seats, {target} = {target} + :seats",
            "ConditionExpression": f"{source} >= :seats",
            "ExpressionAttributeValues": {":seats": {"N": str(seats)}},
        }
    }


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in _BUSY | {"InternalServerError"}:
            raise ToolUnavailable(f"The seat inventory could not be read: {error}") from error
        raise
    except (*_NOT_SENT, HTTPClientError) as error:
        raise ToolUnavailable(f"The seat inventory could not be read: {error}") from error


def _transact(actions: "list[TransactWriteItemTypeDef]") -> list[Any]:
    """Write all actions or none of them. Return [] if they were written, else DynamoDB's reason for each action."""
    try:
        client().transact_write_items(TransactItems=actions)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        reasons: list[Any] = error.response.get("CancellationReasons", [])
        causes = {reason["Code"] for reason in reasons} - {"None"}
        if "ConditionalCheckFailed" in causes:
            return reasons
        if code in _BUSY or (causes and causes <= _BUSY_REASONS):
            raise ToolUnavailable(f"The seat inventory is busy, nothing was written: {error}") from error
        if code == "InternalServerError":
            raise ToolOutcomeUnknown(f"The seat inventory failed while it was writing: {error}") from error
        raise
    except _NOT_SENT as error:
        raise ToolUnavailable(f"The seat inventory could not be reached, nothing was written: {error}") from error
    except HTTPClientError as error:
        raise ToolOutcomeUnknown(f"The seat inventory was writing and its answer was lost: {error}") from error
    return []
