"""The data of the travel tools, without DynamoDB: cities, timetable, arguments and results.

The same flights run every day between every two cities. The inventory (`tools.inventory`) holds one item per flight and
date, with the seats that are left and sold.
"""

import datetime as dt
from collections.abc import Mapping
from itertools import permutations
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel, to_snake

Carrier = Literal["turnstile", "partner"]

CITIES = {
    "Chicago": {"ord"},
    "London": {"lon", "lhr"},
    "New York": {"new york city", "nyc", "ny", "jfk"},
    "Paris": {"par", "cdg"},
    "San Francisco": {"sf", "sfo"},
}
"""The cities with flights, each with its other names."""
KNOWN_CITIES = ", ".join(CITIES)
DEPARTURES: tuple[tuple[Carrier, str, str], ...] = (
    ("turnstile", "TS", "08:15"),
    ("turnstile", "TS", "17:40"),
    ("partner", "PA", "12:30"),
)
"""Carrier, code and local departure time of the flights of a day, on every route."""
SEATS = 9
VOID = "VOID"
"""The status of an item that takes the place of a booking, so that the booking can never be made."""
OFF_SALE_AFTER = dt.timedelta(days=2)


def _city(text: str) -> str:
    name = " ".join(text.split(",")[0].split()).casefold()
    for city, others in CITIES.items():
        if name == city.casefold() or name in others:
            return city
    raise ValueError(f"no flights from or to {text!r}; known cities: {KNOWN_CITIES}")


City = Annotated[str, StringConstraints(max_length=60), AfterValidator(_city)]


class Trip(BaseModel):
    """The arguments that the tools share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_city: Annotated[City, Field(description=f"Where the flight starts: {KNOWN_CITIES}")]
    to_city: Annotated[City, Field(description=f"Where the flight ends: {KNOWN_CITIES}")]
    date: Annotated[dt.date, Field(description="The day of departure, as YYYY-MM-DD")]

    @model_validator(mode="after")
    def _two_cities(self) -> "Trip":
        if self.from_city == self.to_city:
            raise ValueError(f"from_city and to_city are both {self.from_city}")
        return self


class BookFlight(Trip):
    """What is to be booked."""

    passengers: Annotated[int, Field(ge=1, le=SEATS, description="How many seats")] = 1
    flight_id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Z]{2}\d{3}#\d{4}-\d{2}-\d{2}$",
            description="A flight_id from get_flight_info; without it, the earliest flight with seats is booked",
        ),
    ] = None


class CancelFlight(BaseModel):
    """What is to be cancelled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    booking_id: Annotated[
        str, Field(pattern=r"^BK-[A-Z2-7]{16}$", description="The booking_id that the booking returned")
    ]


class Flight(BaseModel):
    """A flight on one date, with the seats that are left."""

    flight_id: str
    carrier: Carrier
    from_city: str
    to_city: str
    date: dt.date
    departs: Annotated[str, Field(description="Local time, HH:MM")]
    price_usd: Annotated[int, Field(description="US dollars for one passenger")]
    seats_left: int


class FlightInfo(BaseModel):
    """The flights of a day."""

    flights: list[Flight]
    message: Annotated[str, Field(description="Advice if no flight of the list has seats; empty otherwise")]


class Booking(BaseModel):
    """A booking and whether it stands."""

    booking_id: str
    status: Literal["BOOKED", "CANCELLED"]
    flight_id: str
    carrier: Carrier
    from_city: str
    to_city: str
    date: dt.date
    departs: Annotated[str, Field(description="Local time, HH:MM")]
    passengers: int
    total_usd: Annotated[int, Field(description="US dollars for all passengers")]


class CallLookUp(BaseModel):
    """A call whose outcome is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, Field(max_length=200, description="The key that the call had")]
    tool: Annotated[str, Field(max_length=64, description="The tool that was called")]
    input: Annotated[dict[str, Any], Field(description="Its arguments")]


class CallOutcome(BaseModel):
    """Whether a call took effect."""

    happened: bool
    result: Annotated[dict[str, Any], Field(description="What the call would have returned; empty if it did nothing")]


class Scheduled(NamedTuple):
    """A line of the timetable."""

    number: str
    carrier: Carrier
    from_city: str
    to_city: str
    departs: str
    price_usd: int


TIMETABLE = [
    Scheduled(f"{code}{101 + 10 * route + place}", carrier, start, end, departs, 120 + 35 * (route % 8) + 20 * place)
    for route, (start, end) in enumerate(permutations(CITIES, 2))
    for place, (carrier, code, departs) in enumerate(DEPARTURES)
]


def flight_id(number: str, date: dt.date) -> str:
    """Return the key of a flight in the inventory, as `TS161#2026-11-24`."""
    return f"{number}#{date.isoformat()}"


def utc_today() -> dt.date:
    """Return the date that the tools call today; on an earlier date nothing can be booked."""
    return dt.datetime.now(dt.UTC).date()


Item = dict[str, dict[str, str]]
"""An item as DynamoDB's API writes it: `{"seatsLeft": {"N": "9"}}`."""


def to_item(values: Mapping[str, str | int]) -> Item:
    """Make an item: field names become camelCase attributes, strings type S and integers type N."""
    return {
        to_camel(name): {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in values.items()
    }


def from_item(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of an item, numbers as text: a model's `model_validate` takes them."""
    return {to_snake(name): text for name, value in item.items() for text in value.values()}


def sample_flights(today: dt.date, days: int = 30) -> list[Item]:
    """Make the inventory's items for `days` days from `today` on, no seat sold: put them into the table Flights.

    Each flight has 9 seats, except that from New York to San Francisco no carrier has any on `today` + 2; they are off
    sale, not sold. So on every flight, and at any time:

        seatsSold = the passengers of its bookings with status BOOKED
        seatsLeft + seatsSold = 9 (0 for flights off sale)

    Writing an item again loses its sold seats: put only items that do not exist (`attribute_not_exists`).
    """
    items = []
    off_sale = ("New York", "San Francisco", today + OFF_SALE_AFTER)
    for date in (today + dt.timedelta(days=day) for day in range(days)):
        for line in TIMETABLE:
            flight = Flight(
                flight_id=flight_id(line.number, date),
                carrier=line.carrier,
                from_city=line.from_city,
                to_city=line.to_city,
                date=date,
                departs=line.departs,
                price_usd=line.price_usd,
                seats_left=0 if (line.from_city, line.to_city, date) == off_sale else SEATS,
            )
            items.append(to_item(flight.model_dump(mode="json") | {"seats_sold": 0}))
    return items
