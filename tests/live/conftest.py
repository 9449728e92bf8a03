"""A stack in AWS, deployed by `make deploy-scripted`: its name is in TURNSTILE_STACK."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.live.stack import OUTPUT
from tests.world import World
from turnstile_agents.items import Attributes
from turnstile_cli.engines.faults import Faults
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.sample import load_sample

STACK = "TURNSTILE_STACK"


@dataclass(frozen=True)
class LiveWorld(World):
    """A stack in AWS. Its waits and retries take their real time."""

    def wait(self, agent_id: str, condition: Callable[[Attributes], bool], seconds: float = 600) -> Attributes:
        """Wait until STATE fulfils the condition; return STATE."""
        return super().wait(agent_id, condition, seconds)


@pytest.fixture(scope="session")
def live_stack() -> Stack:
    """Return the stack, with flights. Refuse a stack without a scripted model: the tests delete its bookings."""
    name = os.environ.get(STACK)
    if not name:
        pytest.fail(f"{STACK} names no stack; deploy one with `make deploy-scripted`", pytrace=False)
    stacks: Any = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    if OUTPUT not in {output["OutputKey"] for output in stacks[0].get("Outputs", [])}:
        pytest.fail(f"The stack {name} has no scripted model; deploy one with `make deploy-scripted`", pytrace=False)
    stack = Stack.named(name)
    if not stack.dynamodb.scan(TableName=stack.all_outputs["FlightsTableName"], Limit=1)["Items"]:
        load_sample().seed(stack)
    return stack


@pytest.fixture
def live_world(live_stack: Stack, tmp_path: Path) -> LiveWorld:
    """Return a world on the stack, with every seat free. Its only faults are those of the scenarios' replies."""
    session = boto3.Session()
    world = LiveWorld(live_stack, Faults(tmp_path), lambda service: session.client(service))  # type: ignore[call-overload]
    world.give_seats_back()
    return world
