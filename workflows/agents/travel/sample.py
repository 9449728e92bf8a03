"""The travel agents' world: flights and bookings, how they are filled, shown, and compared with the ledgers.

It does what `turnstile_cli.stack.sample.Sample` says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from tools.flights import VOID, Booking, Flight, from_item, sample_flights, to_item, utc_today
from turnstile_agents.items import Attributes, Effect, attributes_of
from turnstile_agents.record import EffectStatus
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.sample import Inconsistency, Layout, Rows

M = TypeVar("M", bound=BaseModel)
FLIGHTS, BOOKINGS = "FlightsTableName", "BookingsTableName"
"""The outputs of the template that name the tables."""
DAYS = 30
"""For how many days there are flights."""
BOOKING_TOOLS = frozenset({"book_flight", "book_flight_partner"})
CANCELLING_TOOL = "cancel_flight"
HAPPENED = frozenset({EffectStatus.COMMITTED, EffectStatus.COMPENSATING, EffectStatus.COMPENSATED})
_SEATS_WRONG = "SEATS_WRONG", "Correct the flight by hand: the bookings show what was sold."
_COMPARE = "Compare the booking with the ledger of its agent, and correct the inventory by hand."
_UNDECIDED = "BOOKING_UNDECIDED", _COMPARE
_MISSING = "BOOKING_MISSING", _COMPARE
_CONTRADICTED = "BOOKING_CONTRADICTED", _COMPARE


def seed(stack: Stack, seats: int | None = None) -> None:
    """Put the sample flights into the table Flights of a stack that has none: an item that is there is replaced."""
    items = sample_flights(utc_today(), DAYS)
    if seats is not None:
        items = [{**item, "seatsLeft": {"N": str(seats)}} if item["seatsLeft"]["N"] != "0" else item for item in items]
    stack.write_batches(stack.all_outputs[FLIGHTS], [{"PutRequest": {"Item": item}} for item in items])


def made_by(stack: Stack, agent_id: str) -> list[Attributes]:
    """Return the bookings of an agent, VOID items included."""
    return _scan(
        stack,
        BOOKINGS,
        FilterExpression="begins_with(#key, :agent)",
        ExpressionAttributeNames={"#key": "key"},
        ExpressionAttributeValues={":agent": {"S": f"{agent_id}#"}},
    )


def inconsistencies(stack: Stack, effects: Sequence[Effect], agent_id: str | None) -> Iterator[Inconsistency]:
    """Yield the contradictions between bookings and ledgers: of all agents and flights, or of one agent."""
    if BOOKINGS not in stack.all_outputs:
        return
    if agent_id:
        yield from booking_findings(made_by(stack, agent_id), effects)
    else:
        yield from inventory_findings(_scan(stack, FLIGHTS), _scan(stack, BOOKINGS), effects)


def rows(stack: Stack) -> Rows:
    """Return the bookings and their flights."""
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=stack.all_outputs[BOOKINGS], ConsistentRead=True)
    items = [item for page in pages for item in page["Items"] if item["status"]["S"] != VOID]
    bookings = [_known(Booking, item) for item in items]
    flights = [_flight(stack, flight_id) for flight_id in sorted({booking.flight_id for booking in bookings})]
    return {
        "bookings": [booking.model_dump(mode="json", by_alias=True) for booking in bookings],
        "flights": [flight.model_dump(mode="json", by_alias=True) for flight in flights],
    }


def layout(rows: Rows) -> Layout:
    """Lay out bookings as a table, with a sentence for each flight on the seats that it has left."""
    bookings = [Booking.model_validate(row) for row in rows["bookings"]]
    flights = [Flight.model_validate(row) for row in rows["flights"]]
    return Layout(
        title="What the tables Bookings and Flights hold",
        columns=("Booking", "Status", "Flight", "Seats", "Price"),
        rows=[
            (
                booking.booking_id,
                booking.status,
                f"{booking.flight_id.partition('#')[0]} on {booking.date} at {booking.departs}",
                str(booking.passengers),
                f"${booking.total_usd}",
            )
            for booking in bookings
        ],
        lines=[
            f"{flight.flight_id.partition('#')[0]} {flight.from_city} → {flight.to_city} has {flight.seats_left} "
            f"seat{'' if flight.seats_left == 1 else 's'} left on {flight.date}."
            for flight in flights
        ],
    )


def inventory_findings(
    flights: Iterable[Attributes], bookings: Iterable[Attributes], effects: Iterable[Effect]
) -> list[Inconsistency]:
    """Find the inconsistencies between all flights, all bookings and the ledgers of all agents. Pure."""
    booked, ledger = _made(bookings), list(effects)
    return [
        *_seats(flights, booked),
        *booking_findings(booked, ledger),
        *_cancelled_without_a_call(booked, ledger),
    ]


def booking_findings(bookings: Iterable[Attributes], effects: Iterable[Effect]) -> list[Inconsistency]:
    """Find the inconsistencies between bookings and the ledgers of the agents that made them. Pure."""
    booked, ledger = _made(bookings), list(effects)
    return [*_bookings(booked, ledger), *_booking_effects(booked, ledger)]


def _made(bookings: Iterable[Attributes]) -> list[Attributes]:
    """Return the bookings without the VOID items, which stand for bookings that were never made."""
    return [booking for booking in bookings if booking["status"] != VOID]


def _seats(flights: Iterable[Attributes], bookings: list[Attributes]) -> Iterator[Inconsistency]:
    sold = {flight["flightId"]: int(flight["seatsSold"]) for flight in flights}
    standing: Counter[str] = Counter()
    for booking in bookings:
        if booking["status"] == "BOOKED":
            standing[booking["flightId"]] += int(booking["passengers"])
    for flight in sorted(sold.keys() | standing.keys()):
        if flight not in sold:
            what = f"{standing[flight]} seats are booked, but there is no flight"
            yield _inconsistency("", _SEATS_WRONG, flight, what)
        elif sold[flight] != standing[flight]:
            what = f"{sold[flight]} seats are sold, but the bookings that stand have {standing[flight]}"
            yield _inconsistency("", _SEATS_WRONG, flight, what)


def _bookings(bookings: list[Attributes], effects: list[Effect]) -> Iterator[Inconsistency]:
    """Check that each booking has a ledger entry that agrees with it."""
    ledger = {_full_key(effect): effect for effect in effects if effect.tool in BOOKING_TOOLS}
    for booking in bookings:
        agent_id, booking_id, status = booking["key"].partition("#")[0], booking["bookingId"], booking["status"]
        effect = ledger.get(booking["key"])
        if effect is None:
            what = f"It was made by the call {booking['key']}, but the ledger has no such booking"
            yield _inconsistency(agent_id, _UNDECIDED, booking_id, what)
        elif effect.status is EffectStatus.FAILED:
            what = f"It is {status}, but {booking['key']} is FAILED: nothing happened"
            yield _inconsistency(agent_id, _CONTRADICTED, booking_id, what)
        elif effect.status is EffectStatus.COMPENSATED and status != "CANCELLED":
            what = f"It is {status}, but {booking['key']} is COMPENSATED"
            yield _inconsistency(agent_id, _CONTRADICTED, booking_id, what)


def _booking_effects(bookings: list[Attributes], effects: list[Effect]) -> Iterator[Inconsistency]:
    """Check that each effect that happened, by the ledger, is in the inventory."""
    by_key: defaultdict[str, list[Attributes]] = defaultdict(list)
    for booking in bookings:
        by_key[booking["key"]].append(booking)
    by_id = {booking["bookingId"]: booking for booking in bookings}
    for effect in effects:
        agent_id, record = effect.agent_id, effect.record
        if effect.tool in BOOKING_TOOLS and effect.status in HAPPENED:
            made = by_key[_full_key(effect)]
            if len(made) != 1:
                what = f"{effect.tool} is {effect.status}, but it has {len(made)} bookings"
                yield _inconsistency(agent_id, _MISSING, record, what)
        elif effect.tool == CANCELLING_TOOL and effect.status is EffectStatus.COMMITTED:
            cancelled = by_id.get(_cancels(effect))
            if cancelled and cancelled["status"] != "CANCELLED":
                what = f"{CANCELLING_TOOL} is COMMITTED, but {cancelled['bookingId']} is {cancelled['status']}"
                yield _inconsistency(agent_id, _CONTRADICTED, record, what)


def _cancelled_without_a_call(bookings: list[Attributes], effects: list[Effect]) -> Iterator[Inconsistency]:
    cancels = {
        _cancels(effect)
        for effect in effects
        if effect.tool == CANCELLING_TOOL and effect.status is not EffectStatus.FAILED
    }
    for booking in bookings:
        if booking["status"] == "CANCELLED" and booking["bookingId"] not in cancels:
            agent_id = booking["key"].partition("#")[0]
            what = "It is CANCELLED, but no call in the ledger has cancelled it"
            yield _inconsistency(agent_id, _UNDECIDED, booking["bookingId"], what)


def _full_key(effect: Effect) -> str:
    return f"{effect.agent_id}#{effect.record}"


def _cancels(effect: Effect) -> str:
    return str(effect.arguments["booking_id"])


def _inconsistency(agent_id: str, kind: tuple[str, str], record: str, what: str) -> Inconsistency:
    name, advice = kind
    return Inconsistency(agent_id, name, record, f"{what}. {advice}")


def _flight(stack: Stack, flight_id: str) -> Flight:
    key = to_item({"flight_id": flight_id})
    return _known(
        Flight, stack.dynamodb.get_item(TableName=stack.all_outputs[FLIGHTS], Key=key, ConsistentRead=True)["Item"]
    )


def _known(model: type[M], item: Mapping[str, Any]) -> M:
    """Return what a model knows of an item; the item may hold more."""
    return model.model_validate({name: text for name, text in from_item(item).items() if name in model.model_fields})


def _scan(stack: Stack, output: str, **only: Any) -> list[Attributes]:
    table = stack.all_outputs[output]
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True, **only)
    return [attributes_of(item) for page in pages for item in page["Items"]]
