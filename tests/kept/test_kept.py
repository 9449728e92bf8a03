"""Agents that an earlier version left in the tables finish on this version, and are read by it."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.kept.files import AGENTS, HERE, Kept, RawItem, is_state, kept_files, read, read_definitions, scenario
from tests.kept.revive import act, asked_anew, put, put_items
from tests.kept.stage import partition
from tests.paths.test_api import Door
from tests.world import World
from turnstile_agents.items import SCHEMA_VERSION, Attributes
from turnstile_agents.record import FINISHED, Status
from turnstile_cli.engines.faults import FOLDER, Faults
from turnstile_cli.local.stack import local_stack
from turnstile_cli.verify import verify

pytestmark = pytest.mark.xdist_group("kept")

NOW = dt.datetime.now(dt.UTC)
FILES = {f"{file.parent.name}-{file.stem}": file for file in kept_files()}
BOOKED = {"COMMITTED": "BOOKED", "COMPENSATED": "CANCELLED"}
"""The status of a booking, by the status of the effect that made it."""


@cache
def kept(name: str) -> Kept:
    return read(FILES[name], NOW)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a new stack of this version."""
    faults: Path = tmp_path_factory.mktemp("faults")
    scripts = [scenario(name, kept(name).script) for name in FILES]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(FOLDER, str(faults))
        engine = tmp_path_factory.mktemp("engine")
        with local_stack(scripts, engine, "travel", {}, lambda _: None, wait_scale=0) as local:
            made = World(local.stack, Faults(faults), local.engine.client)
            for folder in sorted({file.parent for file in FILES.values()}):
                put_items(made, AGENTS, read_definitions(folder))
            yield made
            made.assert_inventory_agrees()


@pytest.mark.parametrize("name", FILES)
def test_a_kept_agent_ends_as_it_would_have(world: World, name: str) -> None:
    old = kept(name)
    put(world, old)
    for given in old.then:
        act(world, old, given)
    assert stops(world, old, old.agent) == old.ends
    for member in family(world, old):
        assert stops(world, old, member) in FINISHED
    assert_nothing_is_doubled(world, old)
    assert_its_past_stands(world, old)
    assert_it_can_be_read(world, old)


def stops(world: World, old: Kept, agent_id: str) -> str:
    """Wait until an agent has ended, or needs an operator; return its status."""

    def there(state: Attributes) -> bool:
        needs_operator = state["status"] == Status.WAITING_FOR_OPERATOR and asked_anew(world, old, agent_id)
        return state["status"] in FINISHED or needs_operator

    return world.wait(agent_id, there)["status"]


def family(world: World, old: Kept) -> list[str]:
    """Return the ids of an agent that has ended, and of those below it: it may have got children since."""
    [state] = filter(is_state, partition(world, old.agent))
    return [old.agent, *json.loads(state["children"]["S"])]


def assert_nothing_is_doubled(world: World, old: Kept) -> None:
    """Check that each effect of the ledger stands as the file says, and that each has its one booking."""
    ledger = [item for member in family(world, old) for item in partition(world, member) if kind(item) == "EFFECT"]
    assert Counter(f"{item['tool']['S']} {item['status']['S']}" for item in ledger) == Counter(old.effects)
    made = [
        (f"{item['agentId']['S']}#{item['record']['S']}", BOOKED[item["status"]["S"]])
        for item in ledger
        if item["tool"]["S"].startswith("book_") and item["status"]["S"] in BOOKED
    ]
    found = [(each["key"], each["status"]) for member in family(world, old) for each in world.bookings(member)]
    assert sorted(found) == sorted(made)


def assert_its_past_stands(world: World, old: Kept) -> None:
    """Check that no entry of the journal or the inbox has changed; of a finished agent, that nothing has."""
    now = [item for member in family(world, old) for item in partition(world, member)]
    for item in old.tables[AGENTS]:
        if not old.then or kind(item) in ("STEP", "INPUT"):
            assert item in now


def assert_it_can_be_read(world: World, old: Kept) -> None:
    """Check that verify, the client and the HTTP API read the agent and its journal."""
    door = Door.of(world)
    for member in family(world, old):
        assert verify(world.stack, member).findings == []
        [*_, change] = world.stack.watch(member)
        read = door.get(f"/agents/{member}")
        assert read == world.stack.view(member).dump()
        journal = door.get(f"/agents/{member}/journal")["entries"]
        steps = [item for item in partition(world, member) if kind(item) == "STEP"]
        assert len(journal) == len(change.entries) == len(steps)


def kind(item: RawItem) -> str:
    """Return the kind of an item: `STEP`, `EFFECT`, `INPUT`, `STATE`."""
    return str(item["record"]["S"]).partition("#")[0]


def test_every_version_has_finished_and_unfinished_agents() -> None:
    folders = list(HERE.glob("[0-9]*"))
    assert {int(folder.name) for folder in folders} >= set(range(1, SCHEMA_VERSION))
    for folder in folders:
        ends = {kept(name).ends for name, file in FILES.items() if file.parent == folder and not kept(name).then}
        assert ends == FINISHED
        assert any(kept(name).then for name, file in FILES.items() if file.parent == folder)
