"""The travel tools against moto's DynamoDB: every refusal, every lost answer, and no seat sold twice."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError
from moto import mock_aws

from tools import inventory
from tools.book_flight.handler import handler as book_flight
from tools.book_flight_partner.handler import handler as book_flight_partner
from tools.cancel_flight.handler import handler as cancel_flight
from tools.find_booking.handler import handler as find_booking
from tools.flights import CITIES, SEATS, TIMETABLE, BookFlight, from_item, sample_flights
from tools.get_flight_info.handler import handler as get_flight_info
from turnstile_agents import once
from turnstile_agents.dynamodb import client
from turnstile_agents.errors import ToolOutcomeUnknown, ToolRejected, ToolUnavailable

TODAY = dt.date(2026, 11, 23)
TOMORROW = "2026-11-24"
SOLD_OUT = "2026-11-25"
FREE_AGAIN = "2026-11-26"
TRIP = {"from_city": "New York", "to_city": "San Francisco", "date": TOMORROW}
FLIGHTS = [
    item
    for item in sample_flights(TODAY, days=6)
    if (item["fromCity"]["S"], item["toCity"]["S"]) == ("New York", "San Francisco")
]
TABLES = {"FLIGHTS_TABLE": "flightId", "BOOKINGS_TABLE": "bookingId", "IDEMPOTENCY_TABLE": "id"}


@pytest.fixture(scope="module", autouse=True)
def own_client() -> Iterator[None]:
    client.cache_clear()
    once._store.cache_clear()
    yield
    client.cache_clear()
    once._store.cache_clear()


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make tables with no bookings and the flights of one route; after each test, compare sold and booked seats."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(inventory, "utc_today", lambda: TODAY)
    with mock_aws():
        for variable, key in TABLES.items():
            monkeypatch.setenv(variable, key + "s")
            client().create_table(
                TableName=key + "s",
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        client().batch_write_item(RequestItems={"flightIds": [{"PutRequest": {"Item": item}} for item in FLIGHTS]})
        yield
        assert sold() == booked()


def scan(table: str) -> list[dict[str, str]]:
    return [from_item(item) for item in client().scan(TableName=table)["Items"]]


def sold() -> dict[str, int]:
    """Return the sold seats from the flights alone; check that no seat appeared or vanished."""
    flights = scan("flightIds")
    assert all(int(flight["seats_left"]) + int(flight["seats_sold"]) in (0, SEATS) for flight in flights)
    return {flight["flight_id"]: int(flight["seats_sold"]) for flight in flights if flight["seats_sold"] != "0"}


def booked() -> dict[str, int]:
    """Return the seats of the valid bookings, from the bookings alone."""
    seats: dict[str, int] = {}
    for booking in scan("bookingIds"):
        if booking["status"] == "BOOKED":
            seats[booking["flight_id"]] = seats.get(booking["flight_id"], 0) + int(booking["passengers"])
    return seats


def call(handler: Callable[[Any, object], dict[str, Any]], key: str = "a#EFFECT#000002#0", **arguments: Any) -> Any:
    return handler({"agentId": "a", "key": key, "input": arguments}, None)


def instead_of_writing(monkeypatch: pytest.MonkeyPatch, fault: Exception, *, written: bool = False) -> None:
    """Let the next transaction end with this fault, carried out or not; later transactions work."""
    real = client().transact_write_items

    def faulty(**request: Any) -> Any:
        monkeypatch.setattr(client(), "transact_write_items", real)
        if written:
            real(**request)
        raise fault

    monkeypatch.setattr(client(), "transact_write_items", faulty)


def before_writing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Run `act` between the next call's reading and its transaction."""
    real = client().transact_write_items

    def late(**request: Any) -> Any:
        monkeypatch.setattr(client(), "transact_write_items", real)
        act()
        return real(**request)

    monkeypatch.setattr(client(), "transact_write_items", late)


def refusal(code: str, operation: str = "TransactWriteItems", reasons: list[str] | None = None) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "..."}}
    if reasons:
        response["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return ClientError(response, operation)


LOST = ReadTimeoutError(endpoint_url="http://dynamodb")
THROTTLED = refusal("ThrottlingException", "GetItem")


def failing(fault: Exception) -> Callable[..., Any]:
    def fail(**_request: Any) -> Any:
        raise fault

    return fail


# Flights on offer


def test_flights_of_a_day_come_in_order_with_their_seats() -> None:
    info = call(get_flight_info, **TRIP)
    assert [(flight["departs"], flight["seats_left"]) for flight in info["flights"]] == [("08:15", 9), ("17:40", 9)]
    assert info["flights"][0]["flight_id"] == "TS211#2026-11-24"
    assert info["message"] == ""


def test_a_day_without_seats_names_days_that_have_some() -> None:
    info = call(get_flight_info, **TRIP | {"date": SOLD_OUT})
    assert [flight["seats_left"] for flight in info["flights"]] == [0, 0]
    assert info["message"] == "No seats on 2026-11-25. Dates with seats: 2026-11-26, 2026-11-27, 2026-11-28."


def test_a_day_beyond_the_timetable_has_no_flights() -> None:
    info = call(get_flight_info, **TRIP | {"date": "2027-06-01"})
    assert info == {"flights": [], "message": "No seats on 2027-06-01. Nor on the 3 days after it."}


@pytest.mark.parametrize("handler", [get_flight_info, book_flight])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"from_city": "Atlantis"},
            "from_city: no flights from or to 'Atlantis'; known cities: Chicago, London, New York",
        ),
        ({"to_city": "NYC"}, "from_city and to_city are both New York"),
        ({"date": "2026-11-22"}, "2026-11-22 is in the past; today is 2026-11-23 (UTC)"),
        ({"date": "tomorrow"}, "date: Input should be a valid date"),
        ({"seat": "12A"}, "seat: unknown argument. Its arguments: from_city, to_city, date"),
    ],
)
def test_wrong_arguments_are_rejected_with_what_is_wrong(handler: Any, change: dict[str, str], message: str) -> None:
    with pytest.raises(ToolRejected) as rejected:
        call(handler, **TRIP | change)
    assert message in str(rejected.value)


@pytest.mark.parametrize("name", ["NYC", "  new   york ", "New York, NY", "jfk", "New York City"])
def test_cities_go_by_their_usual_names(name: str) -> None:
    assert call(book_flight, **TRIP | {"from_city": name})["from_city"] == "New York"


@pytest.mark.parametrize(
    "fault", [THROTTLED, refusal("InternalServerError"), LOST, ConnectTimeoutError(endpoint_url="x")]
)
def test_an_inventory_that_cannot_be_read_is_unavailable(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    monkeypatch.setattr(client(), "batch_get_item", failing(fault))
    for handler in (get_flight_info, book_flight):
        with pytest.raises(ToolUnavailable):
            call(handler, **TRIP)


def test_a_partial_answer_is_not_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"Responses": {"flightIds": []}, "UnprocessedKeys": {"flightIds": {"Keys": [{}]}}}
    monkeypatch.setattr(client(), "batch_get_item", lambda **_request: answer)
    with pytest.raises(ToolUnavailable):
        call(get_flight_info, **TRIP)


def test_an_unexpected_error_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client(), "batch_get_item", failing(refusal("AccessDeniedException")))
    with pytest.raises(ClientError):
        call(get_flight_info, **TRIP)


# Booking


def test_a_booking_takes_its_seats_on_the_earliest_flight() -> None:
    booking = call(book_flight, **TRIP, passengers=2)
    assert booking["booking_id"].startswith("BK-")
    assert booking == {
        "booking_id": booking["booking_id"],
        "status": "BOOKED",
        "flight_id": "TS211#2026-11-24",
        "carrier": "turnstile",
        "from_city": "New York",
        "to_city": "San Francisco",
        "date": "2026-11-24",
        "departs": "08:15",
        "passengers": 2,
        "total_usd": 2 * 225,
    }
    assert sold() == {"TS211#2026-11-24": 2}
    assert scan("bookingIds")[0]["key"] == "a#EFFECT#000002#0"


def test_a_flight_of_today_can_be_booked() -> None:
    assert call(book_flight, **TRIP | {"date": TODAY.isoformat()})["date"] == TODAY.isoformat()


def test_a_later_flight_is_taken_if_the_earliest_is_full_or_if_it_was_named() -> None:
    call(book_flight, "k1", **TRIP, passengers=SEATS)
    assert call(book_flight, "k2", **TRIP)["departs"] == "17:40"
    named = call(book_flight, "k3", **TRIP | {"date": FREE_AGAIN}, flight_id="TS212#2026-11-26")
    assert named["flight_id"] == "TS212#2026-11-26"


def test_the_partner_sells_its_own_seats() -> None:
    booking = call(book_flight_partner, **TRIP)
    assert (booking["carrier"], booking["flight_id"]) == ("partner", "PA213#2026-11-24")
    assert book_flight_partner.input_schema == book_flight.input_schema
    assert book_flight_partner.output_model is book_flight.output_model


@pytest.mark.parametrize("handler", [book_flight, book_flight_partner])
def test_a_sold_out_day_is_rejected_with_other_dates(handler: Any) -> None:
    with pytest.raises(ToolRejected, match=r"No seats left .* on 2026-11-25 .*0 left.* Dates with seats: 2026-11-26, "):
        call(handler, **TRIP | {"date": SOLD_OUT})
    assert call(handler, **TRIP | {"date": FREE_AGAIN})["status"] == "BOOKED"


def test_a_flight_of_another_day_is_rejected_with_the_flights_there_are() -> None:
    with pytest.raises(ToolRejected, match=r"no flight from New York .* that day: TS211#2026-11-24, TS212#2026-11-24"):
        call(book_flight, **TRIP, flight_id="TS211#2026-11-26")


def test_a_day_without_flights_is_rejected() -> None:
    with pytest.raises(ToolRejected, match="no flights on sale"):
        call(book_flight, **TRIP | {"date": "2027-06-01"})


def test_the_last_seat_is_sold_once() -> None:
    call(book_flight, "k1", **TRIP, passengers=SEATS - 1, flight_id="TS211#2026-11-24")
    call(book_flight, "k2", **TRIP, flight_id="TS211#2026-11-24")
    with pytest.raises(ToolRejected, match="0 left"):
        call(book_flight, "k3", **TRIP, flight_id="TS211#2026-11-24")


def test_the_last_seat_is_sold_once_to_two_calls_that_both_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    request = BookFlight.model_validate(TRIP | {"flight_id": "TS211#2026-11-24"})
    call(book_flight, "k1", **TRIP, passengers=SEATS - 1, flight_id=request.flight_id)
    before_writing(monkeypatch, lambda: inventory.book(request, "turnstile", "k2"))
    with pytest.raises(ToolRejected, match=r"have just been sold\. Dates with seats: 2026-11-26"):
        call(book_flight, "k3", **TRIP, flight_id=request.flight_id)
    assert sold() == {"TS211#2026-11-24": SEATS}


# The same call again


def test_the_same_call_gives_its_stored_result() -> None:
    first = call(book_flight, **TRIP)
    assert call(book_flight, **TRIP) == first
    assert sold() == {first["flight_id"]: 1}


def test_the_transaction_alone_keeps_a_call_to_one_booking() -> None:
    request = BookFlight.model_validate(TRIP | {"passengers": SEATS})
    first = inventory.book(request, "turnstile", "k1")
    assert inventory.book(request, "turnstile", "k1") == first
    assert sold() == {first.flight_id: SEATS}


def test_the_same_call_on_the_next_day_finds_its_booking(monkeypatch: pytest.MonkeyPatch) -> None:
    request = BookFlight.model_validate(TRIP)
    first = inventory.book(request, "turnstile", "k1")
    monkeypatch.setattr(inventory, "utc_today", lambda: TODAY + dt.timedelta(days=2))
    assert inventory.book(request, "turnstile", "k1") == first


def test_two_attempts_of_one_call_at_once_make_one_booking(monkeypatch: pytest.MonkeyPatch) -> None:
    request = BookFlight.model_validate(TRIP | {"passengers": SEATS})
    before_writing(monkeypatch, lambda: inventory.book(request, "turnstile", "k1"))
    booking = inventory.book(request, "turnstile", "k1")
    assert sold() == {booking.flight_id: SEATS}


def test_an_attempt_that_finds_the_seats_gone_sees_that_its_own_call_took_them(monkeypatch: pytest.MonkeyPatch) -> None:
    request = BookFlight.model_validate(TRIP | {"passengers": SEATS, "flight_id": "TS211#2026-11-24"})
    reads: list[str] = []

    def between_the_reads(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(**arguments: Any) -> Any:
            reads.append(name)
            if len(reads) == 2:
                inventory.book(request, "turnstile", "k1")
            return read(**arguments)

        return reading

    for name in ("batch_get_item", "get_item"):
        monkeypatch.setattr(client(), name, between_the_reads(name, getattr(client(), name)))
    assert inventory.book(request, "turnstile", "k1").status == "BOOKED"


# When DynamoDB does not answer


def test_an_error_is_that_of_the_only_attempt() -> None:
    requests: list[object] = []

    def lose(request: object, **_other: object) -> None:
        requests.append(request)
        raise LOST

    client().meta.events.register_first("before-send.dynamodb.TransactWriteItems", lose)
    try:
        with pytest.raises(ToolOutcomeUnknown):
            call(book_flight, **TRIP)
    finally:
        client().meta.events.unregister("before-send.dynamodb.TransactWriteItems", lose)
    assert len(requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        refusal("ThrottlingException"),
        refusal("ServiceUnavailable"),
        refusal("TransactionCanceledException", reasons=["None", "TransactionConflict"]),
        refusal("TransactionCanceledException", reasons=["ThrottlingError", "None"]),
        ConnectTimeoutError(endpoint_url="http://dynamodb"),
    ],
)
@pytest.mark.parametrize("act", ["book", "cancel"])
def test_a_call_that_wrote_nothing_is_unavailable_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, act: str
) -> None:
    arguments = TRIP if act == "book" else {"booking_id": call(book_flight, "earlier", **TRIP)["booking_id"]}
    handler = book_flight if act == "book" else cancel_flight
    instead_of_writing(monkeypatch, fault)
    with pytest.raises(ToolUnavailable):
        call(handler, **arguments)
    assert call(handler, **arguments)["status"] == ("BOOKED" if act == "book" else "CANCELLED")


@pytest.mark.parametrize("fault", [LOST, refusal("InternalServerError")])
def test_a_lost_answer_is_looked_up(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    instead_of_writing(monkeypatch, fault, written=True)
    booking = call(book_flight, **TRIP)
    assert booking["status"] == "BOOKED"
    instead_of_writing(monkeypatch, fault, written=True)
    assert call(cancel_flight, "k2", booking_id=booking["booking_id"])["status"] == "CANCELLED"


@pytest.mark.parametrize("fault", [LOST, refusal("InternalServerError")])
def test_a_lost_answer_without_a_trace_is_unknown(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    instead_of_writing(monkeypatch, fault)
    with pytest.raises(ToolOutcomeUnknown):
        call(book_flight, **TRIP)
    with pytest.raises(ToolOutcomeUnknown, match="called before"):  # and the next attempt does not guess the outcome
        call(book_flight, **TRIP)
    booking = call(book_flight, "k2", **TRIP)
    instead_of_writing(monkeypatch, fault)
    with pytest.raises(ToolOutcomeUnknown):
        call(cancel_flight, "k3", booking_id=booking["booking_id"])


def test_a_look_up_that_fails_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(**request: Any) -> Any:
        real(**request)
        monkeypatch.setattr(client(), "get_item", failing(THROTTLED))
        raise LOST

    real = client().transact_write_items
    monkeypatch.setattr(client(), "transact_write_items", lose)
    with pytest.raises(ToolOutcomeUnknown):
        call(book_flight, **TRIP)


def test_a_transaction_that_is_wrong_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_writing(monkeypatch, refusal("TransactionCanceledException", reasons=["ValidationError", "None"]))
    with pytest.raises(ClientError):
        call(book_flight, **TRIP)


# Cancelling


def test_cancelling_gives_the_seats_back_once() -> None:
    booking = call(book_flight, "k1", **TRIP, passengers=3)
    cancelled = call(cancel_flight, "k2", booking_id=booking["booking_id"])
    assert cancelled == booking | {"status": "CANCELLED"}
    assert call(cancel_flight, "k2", booking_id=booking["booking_id"]) == cancelled
    assert call(cancel_flight, "k3", booking_id=booking["booking_id"]) == cancelled
    assert sold() == {}


def test_two_cancellations_at_once_give_the_seats_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    booking = call(book_flight, "k1", **TRIP)
    before_writing(monkeypatch, lambda: inventory.cancel(booking["booking_id"], "k2"))
    assert call(cancel_flight, "k2", booking_id=booking["booking_id"]) == booking | {"status": "CANCELLED"}
    assert sold() == {}


def test_an_unknown_booking_is_rejected() -> None:
    with pytest.raises(ToolRejected, match="no booking 'BK-AAAAAAAAAAAAAAAA'"):
        call(cancel_flight, booking_id="BK-AAAAAAAAAAAAAAAA")


def test_a_booking_whose_flight_is_gone_stays_as_it_is() -> None:
    booking = call(book_flight, "k1", **TRIP)
    flight = client().delete_item(
        TableName="flightIds", Key={"flightId": {"S": booking["flight_id"]}}, ReturnValues="ALL_OLD"
    )["Attributes"]
    with pytest.raises(ToolRejected, match="Nothing was cancelled"):
        call(cancel_flight, "k2", booking_id=booking["booking_id"])
    client().put_item(TableName="flightIds", Item=flight)


# The timetable


def test_every_route_has_flights_of_both_carriers_every_day() -> None:
    flights = [from_item(item) for item in sample_flights(TODAY, days=4)]
    routes = len(CITIES) * (len(CITIES) - 1)
    assert len({flight["flight_id"] for flight in flights}) == len(flights) == 4 * 3 * routes == 4 * len(TIMETABLE)
    assert sample_flights(TODAY, days=4) == sample_flights(TODAY, days=4)
    without = {(f["from_city"], f["to_city"], f["date"], f["seats_sold"]) for f in flights if f["seats_left"] == "0"}
    assert without == {("New York", "San Francisco", SOLD_OUT, "0")}


# ---- Look-ups of calls that may have taken effect


def look_up(tool: str, key: str = "a#EFFECT#000002#0", **arguments: Any) -> Any:
    about = {"key": key, "tool": tool, "input": arguments}
    return find_booking({"agentId": "a", "key": f"{key}#LOOKUP", "input": about}, None)


def test_a_booking_that_was_made_is_found() -> None:
    booking = call(book_flight, **TRIP)
    assert look_up("book_flight", **TRIP) == {"happened": True, "result": booking}


def test_a_call_that_was_denied_cannot_happen_later() -> None:
    for _ in range(2):
        assert look_up("book_flight", **TRIP) == {"happened": False, "result": {}}
    with pytest.raises(ToolRejected, match="given up before it arrived"):
        call(book_flight, **TRIP)
    assert booked() == {}


def test_a_call_that_is_on_its_way_finds_its_place_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    before_writing(monkeypatch, lambda: look_up("book_flight", **TRIP))
    with pytest.raises(ToolRejected, match="given up before it arrived"):
        call(book_flight, **TRIP)


def test_a_cancellation_is_found_by_its_booking() -> None:
    booking = call(book_flight, **TRIP)
    undo = {"key": "a#EFFECT#000002#0#UNDO#1", "booking_id": booking["booking_id"]}
    cancelled = call(cancel_flight, undo["key"], booking_id=booking["booking_id"])
    assert look_up("cancel_flight", **undo) == {"happened": True, "result": cancelled}


def test_a_cancellation_that_was_denied_cancels_nothing_when_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    booking = call(book_flight, **TRIP)
    first, second = (
        {"key": f"a#EFFECT#000002#0#UNDO#{number}", "booking_id": booking["booking_id"]} for number in (1, 2)
    )
    answers: list[object] = []
    before_writing(monkeypatch, lambda: answers.append(look_up("cancel_flight", **first)))
    with pytest.raises(ToolRejected, match="given up before it arrived; nothing was cancelled"):
        call(cancel_flight, first["key"], booking_id=booking["booking_id"])
    assert answers == [{"happened": False, "result": {}}]
    assert look_up("cancel_flight", **first) == {"happened": False, "result": {}}
    # The next attempt has its own key.
    assert call(cancel_flight, second["key"], booking_id=booking["booking_id"])["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("tool", "arguments", "wrong"),
    [
        (cancel_flight, {"booking_id": "x" * 5000}, "booking_id"),
        (cancel_flight, {"booking_id": ""}, "booking_id"),
        (book_flight, {**TRIP, "flight_id": "x" * 5000}, "flight_id"),
        (book_flight, {**TRIP, "from_city": "x" * 5000}, "from_city"),
        (book_flight, {**TRIP, "date": "9" * 5000}, "date"),
    ],
    ids=["booking", "no booking", "flight", "city", "date"],
)
def test_an_argument_that_is_too_long_is_rejected(tool: Any, arguments: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ToolRejected, match=f"Wrong arguments for .*: {wrong}: ") as rejected:
        call(tool, **arguments)
    assert len(str(rejected.value)) < 1000
    assert sold() == {}


@pytest.mark.parametrize("name", ["key", "tool"])
def test_a_look_up_with_an_argument_that_is_too_long_is_rejected(name: str) -> None:
    about = {"key": "k", "tool": "book_flight", "input": {}, name: "x" * 5000}
    with pytest.raises(ToolRejected, match=f"Wrong arguments for find_booking: {name}: "):
        find_booking({"agentId": "a", "key": "k#LOOKUP", "input": about}, None)
