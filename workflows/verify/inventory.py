"""The check of the sample agent's seat inventory, against the ledgers of the agents that booked."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from agent.conversation import Item
from agent.record import EffectStatus
from tools.flights import VOID
from workflows.verify.kinds import Finding, Kind
from workflows.verify.stored import HAPPENED

BOOKING_TOOLS = frozenset({"book_flight", "book_flight_partner"})
CANCELLING_TOOL = "cancel_flight"


def inventory_findings(flights: Iterable[Item], bookings: Iterable[Item], effects: Iterable[Item]) -> list[Finding]:
    """Find the inconsistencies between all flights, all bookings and the ledgers of all agents. Pure."""
    booked, ledger = _made(bookings), list(effects)
    return [
        *_seats(flights, booked),
        *booking_findings(booked, ledger),
        *_cancelled_by_nobody(booked, ledger),
    ]


def booking_findings(bookings: Iterable[Item], effects: Iterable[Item]) -> list[Finding]:
    """Find the inconsistencies between bookings and the ledgers of the agents that made them. Pure."""
    booked, ledger = _made(bookings), list(effects)
    return [*_bookings(booked, ledger), *_booking_effects(booked, ledger)]


def _made(bookings: Iterable[Item]) -> list[Item]:
    """Return the bookings without the VOID items, which stand for bookings that were never made."""
    return [booking for booking in bookings if booking["status"] != VOID]


def _seats(flights: Iterable[Item], bookings: list[Item]) -> Iterator[Finding]:
    sold = {flight["flightId"]: int(flight["seatsSold"]) for flight in flights}
    standing: Counter[str] = Counter()
    for booking in bookings:
        if booking["status"] == "BOOKED":
            standing[booking["flightId"]] += int(booking["passengers"])
    for flight in sorted(sold.keys() | standing.keys()):
        if flight not in sold:
            what = f"{standing[flight]} seats are booked, but there is no flight"
            yield Finding.of("", Kind.SEATS_WRONG, flight, what)
        elif sold[flight] != standing[flight]:
            what = f"{sold[flight]} seats are sold, but the bookings that stand have {standing[flight]}"
            yield Finding.of("", Kind.SEATS_WRONG, flight, what)


def _bookings(bookings: list[Item], effects: list[Item]) -> Iterator[Finding]:
    """Check that each booking has a ledger entry that agrees with it."""
    ledger = {_full_key(effect): effect for effect in effects if effect["tool"] in BOOKING_TOOLS}
    for booking in bookings:
        agent_id, booking_id, status = booking["key"].partition("#")[0], booking["bookingId"], booking["status"]
        effect = ledger.get(booking["key"])
        if effect is None:
            what = f"It was made by the call {booking['key']}, but the ledger has no such booking"
            yield Finding.of(agent_id, Kind.BOOKING_UNDECIDED, booking_id, what)
        elif effect["status"] == EffectStatus.FAILED:
            what = f"It is {status}, but {booking['key']} is FAILED: nothing happened"
            yield Finding.of(agent_id, Kind.BOOKING_CONTRADICTED, booking_id, what)
        elif effect["status"] == EffectStatus.COMPENSATED and status != "CANCELLED":
            what = f"It is {status}, but {booking['key']} is COMPENSATED"
            yield Finding.of(agent_id, Kind.BOOKING_CONTRADICTED, booking_id, what)


def _booking_effects(bookings: list[Item], effects: list[Item]) -> Iterator[Finding]:
    """Check that each effect that happened, by the ledger, is in the inventory."""
    by_key: defaultdict[str, list[Item]] = defaultdict(list)
    for booking in bookings:
        by_key[booking["key"]].append(booking)
    by_id = {booking["bookingId"]: booking for booking in bookings}
    for effect in effects:
        agent_id, record = effect["agentId"], effect["record"]
        if effect["tool"] in BOOKING_TOOLS and effect["status"] in HAPPENED:
            made = by_key[_full_key(effect)]
            if len(made) != 1:
                what = f"{effect['tool']} is {effect['status']}, but it has {len(made)} bookings"
                yield Finding.of(agent_id, Kind.BOOKING_MISSING, record, what)
        elif effect["tool"] == CANCELLING_TOOL and effect["status"] == EffectStatus.COMMITTED:
            cancelled = by_id.get(_cancels(effect))
            if cancelled and cancelled["status"] != "CANCELLED":
                what = f"{CANCELLING_TOOL} is COMMITTED, but {cancelled['bookingId']} is {cancelled['status']}"
                yield Finding.of(agent_id, Kind.BOOKING_CONTRADICTED, record, what)


def _cancelled_by_nobody(bookings: list[Item], effects: list[Item]) -> Iterator[Finding]:
    cancels = {
        _cancels(effect)
        for effect in effects
        if effect["tool"] == CANCELLING_TOOL and effect["status"] != EffectStatus.FAILED
    }
    for booking in bookings:
        if booking["status"] == "CANCELLED" and booking["bookingId"] not in cancels:
            agent_id = booking["key"].partition("#")[0]
            what = "It is CANCELLED, but no call in the ledger has cancelled it"
            yield Finding.of(agent_id, Kind.BOOKING_UNDECIDED, booking["bookingId"], what)


def _full_key(effect: Item) -> str:
    return f"{effect['agentId']}#{effect['record']}"


def _cancels(effect: Item) -> str:
    return str(json.loads(effect["input"])["booking_id"])
