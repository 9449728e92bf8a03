"""The real machines with the real handlers on a local stack, with helpers for the tests."""

import json
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.unit.records import decided
from tools.flights import VOID
from turnstile_agents.events import SOURCE, AgentRequested
from turnstile_agents.items import Attributes, item_of, stored
from turnstile_agents.record import FINISHED, SETTLED, Child, Decision, Status, child_id, step_record
from turnstile_cli.chaos.tools import shortened
from turnstile_cli.engines.faults import Faults
from turnstile_cli.files import AGENTS
from turnstile_cli.machines.trace import Visit, visits
from turnstile_cli.models.scenarios import Scenario, load_scenarios
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.registry import read_agent_file, register

T = TypeVar("T")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.8
"""Seconds between two looks at an agent or an execution."""
_FILES = tempfile.TemporaryDirectory(prefix="turnstile-agents-")


@cache
def short_calls(path: Path) -> Path:
    """Write a copy of an agent.yaml whose tools end soon: a recovery waits as long as a call may run."""
    content = shortened(yaml.safe_load(path.read_text("utf-8")))
    copy = Path(_FILES.name) / f"{content['name']}.yaml"
    copy.write_text(yaml.safe_dump(content), "utf-8")
    return copy


@cache
def delegates(path: Path) -> list[str]:
    """Return the names of the agents that the agent of an agent.yaml delegates to."""
    return [delegate.name for delegate in read_agent_file(path).delegates]


TRAVEL = short_calls(AGENTS / "travel" / "agent.yaml")


@dataclass(frozen=True)
class World:
    """A local stack and the faults that a test can put into it."""

    stack: Stack
    faults: Faults
    client: Callable[[str], Any]
    """A function that makes the boto3 client of a service."""
    short: bool = False
    """Whether the sample's functions were shortened, so that a wait for a call that may still run is short."""
    _registered: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """The version and the limits of each agent that this world registered: to register takes long."""

    def start(self, scenario: Scenario, name: str = "") -> str:
        """Request an agent that plays the scenario; return its id once its record exists."""
        agent_id = name or f"{scenario.name}-{uuid.uuid4().hex[:8]}"
        self.register(scenario.agent, scenario.limits)
        requested = AgentRequested(prompt=scenario.prompt, agent=scenario.agent, agent_id=agent_id)
        self.stack.wait_for(self.stack.request(requested))
        return agent_id

    def register(self, agent: str, limits: dict[str, Any]) -> None:
        """Register a sample agent, after the agents that it delegates to, unless it is registered so already."""
        path = AGENTS / agent / "agent.yaml"
        for delegate in delegates(path):
            if delegate != agent:
                self.register(delegate, {})
        latest = self.stack.table.definition(agent)
        if latest is None or self._registered.get(agent) != (latest.version, limits):
            made = register(self.stack, short_calls(path) if self.short else path, limits)
            self._registered[agent] = made.version, limits

    def play(self, scenario: Scenario, name: str = "") -> str:
        """Play a scenario to its end, with the user's inputs and all decisions; return the agent's id."""
        agent_id = self.start(scenario, name)
        inputs, decisions = iter(scenario.inputs), iter(scenario.decisions)
        while True:
            before = self.settle(agent_id)
            if before["status"] == Status.WAITING_FOR_INPUT and (text := next(inputs, None)):
                self.stack.send_input(agent_id, text)
            elif before["status"] == Status.WAITING_FOR_APPROVAL and (ruling := next(decisions, None)):
                self.stack.decide_approval(agent_id, before["waitsFor"], ruling.decision, ruling.note)
            else:
                return agent_id
            self.hears(agent_id, before)

    def hears(self, agent_id: str, before: Attributes) -> None:
        """Wait until the agent has a new input."""
        self.wait(agent_id, lambda state: state["inbox"] != before["inbox"])

    def settle(self, agent_id: str, *statuses: Status) -> Attributes:
        """Wait until the agent's status stays the same and its turn's execution is over; return STATE."""
        state = self.wait(agent_id, lambda state: state["status"] in (statuses or SETTLED))
        if state["status"] != Status.WAITING_FOR_OPERATOR:
            self.ended(state["lastUpdatedBy"])
        return state

    def wait(self, agent_id: str, condition: Callable[[Attributes], bool], seconds: float = 40) -> Attributes:
        """Wait until STATE fulfils the condition; return STATE."""

        def look() -> Attributes | None:
            state = self.item(agent_id, "STATE")
            return state if state and condition(state) else None

        return self.until(look, seconds, lambda: f"{agent_id} is {self.item(agent_id, 'STATE')}")

    def until(
        self, look: Callable[[], T | None], seconds: float = 60, why: Callable[[], str] = lambda: "nothing came"
    ) -> T:
        """Call `look` until its result is true; return that result. Raise TimeoutError, with a reason, if it never is.

        The longer it has waited, the longer are the pauses: each look takes time from the engine.
        """
        began = time.monotonic()
        while not (found := look()):
            waited = time.monotonic() - began
            if waited > seconds:
                raise TimeoutError(why())
            time.sleep(min(LONGEST_PAUSE, max(SHORTEST_PAUSE, waited / 10)))
        return found

    def ended(self, arn: str) -> dict[str, Any]:
        """Wait for an execution to end; return its description."""

        def look() -> dict[str, Any] | None:
            execution = dict(self.stack.stepfunctions.describe_execution(executionArn=arn))
            return execution if execution["status"] != "RUNNING" else None

        return self.until(look, why=lambda: f"{arn} still runs")

    def run(
        self, machine: str, detail: Any, event_id: str = "", kind: str = "AgentInputReceived", source: str = SOURCE
    ) -> dict[str, Any]:
        """Run a machine (`agent_start`, …) on an event as a rule would; describe the execution once it has ended."""
        return self.ended(self.deliver(machine, detail, event_id, kind, source))

    def deliver(
        self, machine: str, detail: Any, event_id: str = "", kind: str = "AgentInputReceived", source: str = SOURCE
    ) -> str:
        """Start a machine on an event as a rule would; return the execution's ARN. `kind`: for agent_input."""
        event = {
            "id": event_id or str(uuid.uuid4()),
            "time": "2026-01-01T00:00:00Z",
            "source": source,
            "detail-type": kind,
            "detail": detail,
        }
        arn = getattr(self.stack.outputs, f"{machine}_arn")
        return self.stack.stepfunctions.start_execution(stateMachineArn=arn, input=json.dumps(event))["executionArn"]

    def delegate(self, parent: str, prompt: str, place: int = 0, **more: Any) -> dict[str, Any]:
        """Write a decision of an agent that delegates to travel; return the request that asks for the child.

        `place`: how many other children the decision names before this one.
        """
        step = 2
        limits = {"depth": 1, "tokens": 100_000, "cost_micro_usd": 1_000_000}
        children = [
            Child(
                tool_use_id="u1",
                agent_id=child_id(parent, step, index),
                agent="travel",
                goal="A flight",
                prompt=prompt,
                step=step_record(step),
                place=index,
                **limits | more,
            )
            for index in range(place + 1)
        ]
        decision = Decision(
            action="DELEGATE",
            status=Status.PLANNING_COMPLETE,
            closes_as=Status.WAITING_FOR_AGENT,
            waits_for=str(step),
            children=children,
            results_record=step_record(step + 1),
        )
        item = item_of({**decided(step, decision), "agentId": parent})
        self.stack.dynamodb.put_item(TableName=self.stack.outputs.table_name, Item=stored(item))
        asked = children[place]
        named = {"agentId": parent, "step": asked.step, "place": place}
        return {"agentId": asked.agent_id, "requestId": asked.agent_id, "parent": named}

    def visited(self, agent_id: str) -> list[Visit]:
        """Return every visit of a state in the agent's turns; the iterations of a Map one after the other."""
        turns = [e for e in self.stack.executions(self.stack.table.record(agent_id)) if e.machine.endswith("AgentTurn")]
        return [visit for turn in turns for visit in self.history(turn.arn)]

    def history(self, arn: str) -> list[Visit]:
        """Return the visits of an execution; the iterations of a Map one after the other."""
        return in_order(visits(self.stack.history(arn)))

    def items(self, agent_id: str, kind: str = "") -> list[Attributes]:
        """Return the agent's items, or only the items of one kind (`STEP`, `EFFECT`, `INPUT`)."""
        return [item for item in self.stack.table.attributes(agent_id) if item["record"].startswith(kind)]

    def item(self, agent_id: str, record: str) -> Attributes | None:
        """Return one item as text; None if it does not exist."""
        return self.stack.table.item_attributes(agent_id, record)

    def children(self, agent_id: str) -> list[str]:
        """Return the ids of the agents that it has delegated to."""
        ids: list[str] = json.loads(next(iter(self.items(agent_id, "STATE")))["children"])
        return ids

    def family(self, agent_id: str) -> list[str]:
        """Return the ids of the agent and of all agents below it."""
        return [agent_id, *(member for child in self.children(agent_id) for member in self.family(child))]

    def bookings(self, agent_id: str) -> list[dict[str, Any]]:
        """Return the bookings that calls of this agent made."""
        made = [item for item in self.scan("bookings") if item["status"] != VOID]
        return [item for item in made if item["key"].startswith(f"{agent_id}#")]

    def assert_inventory_agrees(self) -> None:
        """Check that each flight's sold seats are the passengers of its valid bookings."""
        flights = self.scan(
            "flights", FilterExpression="seatsSold > :none", ExpressionAttributeValues={":none": {"N": "0"}}
        )
        sold = {item["flightId"]: int(item["seatsSold"]) for item in flights}
        booked: dict[str, int] = {}
        for item in self.scan("bookings"):
            if item["status"] == "BOOKED":
                booked[item["flightId"]] = booked.get(item["flightId"], 0) + int(item["passengers"])
        assert sold == booked

    def assert_sound(self, agent_id: str) -> None:
        """Check the record: no gap in the journal, STATE at its end, the lease free, every effect settled."""
        items = self.items(agent_id)
        state = next(item for item in items if item["record"] == "STATE")
        steps = [item["record"] for item in items if item["record"].startswith("STEP#")]
        assert steps == [f"STEP#{number:06d}" for number in range(1, int(state["step"]) + 1)]
        # While the operator is asked, the recovery that asks holds the lease.
        assert (state["owner"] == "NONE") == (state["status"] != Status.WAITING_FOR_OPERATOR)
        unsettled = [
            item["record"] for item in items if item.get("status") in ("RESERVED", "UNCERTAIN", "COMPENSATING")
        ]
        assert unsettled == []
        if state["status"] in FINISHED:
            assert state["nextAction"] == "NONE"

    def give_seats_back(self) -> None:
        """Delete every booking and free its seats."""
        bookings = self.scan("bookings")
        for booking in bookings:
            key = {"bookingId": {"S": booking["bookingId"]}}
            self.stack.dynamodb.delete_item(TableName=self.stack.all_outputs["BookingsTableName"], Key=key)
        for flight_id in {booking["flightId"] for booking in bookings if booking["status"] != VOID}:
            self.stack.dynamodb.update_item(
                TableName=self.stack.all_outputs["FlightsTableName"],
                Key={"flightId": {"S": flight_id}},
                UpdateExpression="SET seatsLeft = seatsLeft + seatsSold, seatsSold = :none",
                ExpressionAttributeValues={":none": {"N": "0"}},
            )

    def scan(self, table: str, **only: Any) -> list[dict[str, str]]:
        """Return the items of `flights` or `bookings`, values as text."""
        name = self.stack.all_outputs[f"{table.capitalize()}TableName"]
        pages = self.stack.dynamodb.get_paginator("scan").paginate(TableName=name, **only)
        return [{k: str(next(iter(v.values()))) for k, v in item.items()} for page in pages for item in page["Items"]]


def in_order(found: list[Visit]) -> list[Visit]:
    """Return the visits with the iterations of each Map one after the other, even if they ran in parallel."""
    ordered: list[Visit] = []
    inside: list[Visit] = []
    for visit in [*found, None]:
        if visit and visit.iteration is not None:
            inside.append(visit)
            continue
        ordered += sorted(inside, key=lambda visit: visit.iteration or 0)
        inside = []
        if visit:
            ordered.append(visit)
    return ordered


@cache
def scenario(name: str) -> Scenario:
    """Return a scenario of a sample agent."""
    return next(scenario for scenario in load_scenarios() if scenario.name == name)


def waiting(world: World) -> str:
    """Return an agent that has asked its user for the day of the flight."""
    agent_id = world.start(scenario("ask_the_user"))
    world.settle(agent_id, Status.WAITING_FOR_INPUT)
    return agent_id
