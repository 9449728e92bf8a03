"""The stage on which the command plays an agent: it brings the agent to a point, and stops it there."""

import datetime as dt
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kept.files import Kept, RawItem, is_state
from tests.world import World
from tools.flights import sample_flights
from turnstile_agents.definition import definition_key
from turnstile_agents.events import AgentRequested
from turnstile_agents.record import Status
from turnstile_cli.chaos.tools import SAMPLE
from turnstile_cli.engines.faults import Delivery, Fault, met_at
from turnstile_cli.files import AGENTS
from turnstile_cli.stack.registry import register

ROUTE = {("New York", "San Francisco")}
CHILDREN = {("Paris", "New York"), ("London", "New York")}
"""The routes that an agent books, or its children, as from and to: a file keeps no other flights."""
DAYS = 2
"""Days with flights, from the situation's first day on."""
SHORT = 1
"""Seconds that a call may run which is made again by its key: a recovery waits as long, and a margin, before that."""
DEAD = "Stopped"
"""The error with which a task fails that was held when its execution was stopped."""


@dataclass
class Stage:
    """One agent in one situation."""

    world: World
    id: str
    """The agent's id."""
    agent: str
    """The name of its definition."""
    day: dt.date
    """The first day of its flights: no other situation of any version books on these days."""
    script: list[dict[str, Any]]
    lost: list[Path] = field(default_factory=list)
    """Events that were to be lost, which `at_rest` waits for."""
    before: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        routes = CHILDREN if len(self.script) > 1 else ROUTE
        flights = [item for item in sample_flights(self.day, DAYS) if _route(item) in routes]
        self._put_flights(flights)
        self.before = {_text(item) for table in self._guests() for item in self._scan(table)} - set(map(_text, flights))

    # ---- What happens to the agent

    def start(self) -> None:
        """Request the agent, and wait until its record exists."""
        request = AgentRequested(prompt=self.script[0]["prompt"], agent=self.agent, agent_id=self.id)
        self.world.stack.wait_for(self.world.stack.request(request))

    def lose(self, machine: str, skip: int = 0) -> None:
        """Lose an event for a machine, by its logical id: the agent's next event, or a later one."""
        self.lost.append(self.world.faults.put(Delivery(agent_id=self.id, machine=machine, how="lost", skip=skip)))

    def fault(self, state: str, error: str = "", **more: Any) -> None:
        """Let a task fail, or its execution die."""
        self.world.faults.put(Fault(agent_id=self.id, state=state, error=error, **more))

    @contextmanager
    def dies(self, state: str, machine: str = "AgentTurn") -> Iterator[Callable[[], None]]:
        """Stop the execution that holds the lease before a task of it, unnoticed; inside, the agent is brought there.

        The context's value is a function that waits until it is there.
        """
        with self.world.faults.held(self.id, state, error=DEAD, machine=machine) as until_there:
            yield until_there
            until_there()
            if machine == "AgentTurn":
                self.lose("AgentRecovery")
            self.world.stack.stepfunctions.stop_execution(executionArn=self.owner())

    def owner(self) -> str:
        """Return the ARN of the execution that holds the agent's lease."""
        [state] = filter(is_state, self.items(self.id))
        return str(state["owner"]["S"]).partition("#")[0]

    def death(self) -> dict[str, str]:
        """Return what Step Functions' event tells of the dead execution that holds the lease."""
        told = self.world.stack.stepfunctions.describe_execution(executionArn=self.owner())
        return {name: told[name] for name in ("executionArn", "stateMachineArn", "status", "input")}

    def stands(self, *statuses: Status, agent: str = "") -> dict[str, str]:
        """Wait until the agent, or another, has one of these statuses and its turn is over; return STATE."""
        return dict(self.world.settle(agent or self.id, *statuses))

    def at_rest(self) -> None:
        """Wait until each event that was to be lost is lost."""
        self.world.until(lambda: all(met_at(file) for file in self.lost))

    # ---- What is kept of it

    def kept(self, what: str, then: Sequence[dict[str, Any]], ends: str, effects: Sequence[str]) -> Kept:
        """Read everything that the agent needs to go on."""
        self.at_rest()
        family = self._family(self.id)
        children = family[1:]
        acts = [{**act, "agent": children[act["child"]]} if "child" in act else act for act in then]
        acts = [{"died": self.death()} if "died" in act else act for act in acts]
        items = [item for agent_id in family for item in self.items(agent_id)]
        guests = {
            table: [item for item in self._scan(table) if _text(item) not in self.before] for table in self._guests()
        }
        return Kept(
            what=what,
            agent=self.id,
            family=family,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            then=[{name: value for name, value in act.items() if name != "child"} for act in acts],
            ends=ends,
            effects=[*effects],
            script=self.script,
            tables={self.world.stack.outputs.table_name: items, **guests},
        )

    def items(self, agent_id: str) -> list[RawItem]:
        """Return the items of an agent, as DynamoDB writes them."""
        return partition(self.world, agent_id)

    def _family(self, agent_id: str) -> list[str]:
        """Return the ids of an agent and of all agents below it that exist."""
        states = [*filter(is_state, self.items(agent_id))]
        below = [child for state in states for child in json.loads(state["children"]["S"])]
        return [*(agent_id for _ in states), *(member for child in below for member in self._family(child))]

    def _guests(self) -> list[str]:
        """Return the names of the other tables: the sample's, and that of its calls."""
        names = self.world.stack.dynamodb.list_tables()["TableNames"]
        return [name for name in names if name != self.world.stack.outputs.table_name]

    def _scan(self, table: str) -> Iterator[RawItem]:
        pages = self.world.stack.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return (dict[str, Any](item) for page in pages for item in page["Items"])

    def _put_flights(self, flights: Sequence[RawItem]) -> None:
        table = self.world.stack.all_outputs["FlightsTableName"]
        for item in flights:
            self.world.stack.dynamodb.put_item(TableName=table, Item=item)


def partition(world: World, key: str) -> list[RawItem]:
    """Return the items of a partition of the table of agents, as DynamoDB writes them."""
    pages = world.stack.dynamodb.get_paginator("query").paginate(
        TableName=world.stack.outputs.table_name,
        KeyConditionExpression="agentId = :key",
        ExpressionAttributeValues={":key": {"S": key}},
        ConsistentRead=True,
    )
    return [dict[str, Any](item) for page in pages for item in page["Items"]]


def kept_name(version: int, name: str) -> str:
    """Return the name of a kept agent or definition: no other version has it."""
    return f"kept{version}-{name}"


def register_agents(world: World, version: int) -> list[RawItem]:
    """Register the definitions of a version: travel, three variants of it, and an agent that delegates to travel.

    Return their items.
    """

    def by_key(content: dict[str, Any]) -> None:
        for tool in content["tools"]:
            tool.pop("onUnknown", None)
            tool.pop("reconcile", None)
            if tool["name"] in SAMPLE:
                tool["timeoutSeconds"] = SHORT

    def ask(content: dict[str, Any]) -> None:
        for tool in content["tools"]:
            tool.pop("reconcile", None)
            tool["onUnknown"] = "ask"

    def in_json(content: dict[str, Any]) -> None:
        content["model"]["protocol"] = "json"

    def delegates(content: dict[str, Any]) -> None:
        [travel, _] = content["delegates"]
        content["delegates"] = [travel | {"name": kept_name(version, "travel")}]

    variants: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
        "travel": ("travel", lambda _: None),
        "by_key": ("travel", by_key),
        "ask": ("travel", ask),
        "json": ("travel", in_json),
        "trip": ("trip", delegates),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (source, change) in variants.items():
            content = yaml.safe_load((AGENTS / source / "agent.yaml").read_text("utf-8"))
            content["name"] = kept_name(version, name)
            change(content)
            file = Path(folder) / f"{name}.yaml"
            file.write_text(yaml.safe_dump(content), "utf-8")
            with functions_run(world, SHORT) if change is by_key else nullcontext():
                register(world.stack, file)
    return [item for name in variants for item in partition(world, definition_key(kept_name(version, name)))]


@contextmanager
def functions_run(world: World, seconds: int) -> Iterator[None]:
    """Let the functions of the sample's tools run for so many seconds only, while an agent is registered with them."""
    lambdas = world.stack.lambdas
    names = [f"{world.stack.name}-tool-{name}" for name in SAMPLE]
    timeouts = {each: lambdas.get_function_configuration(FunctionName=each)["Timeout"] for each in names}
    for each in timeouts:
        lambdas.update_function_configuration(FunctionName=each, Timeout=seconds)
    yield
    for each, timeout in timeouts.items():
        lambdas.update_function_configuration(FunctionName=each, Timeout=timeout)


def _route(item: RawItem) -> tuple[str, str]:
    return str(item["fromCity"]["S"]), str(item["toCity"]["S"])


def _text(item: RawItem) -> str:
    return json.dumps(item, sort_keys=True)
