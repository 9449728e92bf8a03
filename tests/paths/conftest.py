"""One local stack for the tests of each process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limits import within_limits
from tests.world import World
from turnstile_cli.chaos.plays import plays
from turnstile_cli.chaos.tools import shorten
from turnstile_cli.engines.faults import FOLDER, Faults
from turnstile_cli.local.stack import Local, local_stack
from turnstile_cli.models.scenarios import load_scenarios

TWO_WRITES = plays()["two_writes"].scenario
"""Two notes in one reply; the second note is written late."""


@pytest.fixture
def world(shared_world: World) -> World:
    """Return the local stack, with every seat free."""
    shared_world.give_seats_back()
    return shared_world


@pytest.fixture(scope="session")
def shared_world(local: tuple[Local, Faults]) -> World:
    """Return one stack for all path tests of a process; each test has its own agents."""
    shorten(local[0].stack)
    made = World(local[0].stack, local[1], local[0].engine.client, short=True)
    made.register("travel", {})
    return made


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Local, Faults]]:
    """Yield the running stack and its faults."""
    folder: Path = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(FOLDER, str(folder))
        engine = tmp_path_factory.mktemp("engine")
        with (
            local_stack([*load_scenarios(), TWO_WRITES], engine, "travel", {}, lambda _: None, wait_scale=0) as local,
            within_limits(local.stack.stepfunctions),
        ):
            yield local, Faults(folder)
