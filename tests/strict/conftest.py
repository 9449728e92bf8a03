"""The embedded engine and the strict engine side by side, and scenarios that are played on both."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pytest

from tests.engines.sample_stack import wait_for
from tests.limits import within_limits
from tests.world import World
from turnstile_agents.items import OPERATOR, Attributes
from turnstile_agents.record import FINISHED, FREE, Status
from turnstile_cli.engines import strict
from turnstile_cli.engines.faults import FOLDER, Delivery, Faults, met_at
from turnstile_cli.engines.start import Start, start_embedded
from turnstile_cli.local.stack import Local, local_stack
from turnstile_cli.machines.trace import Execution
from turnstile_cli.models.scenarios import Scenario, load_scenarios

FAILURES = 3
"""The maximum number of failed executions in one scenario."""


@dataclass(frozen=True)
class Observed(World):
    """A world in which a test continues only after agent_notify has handled the agent's last change.

    Otherwise chance would decide what agent_notify reads: it reads the record as it is at that moment.
    """

    _seen: dict[str, Execution] = field(default_factory=dict)

    def settle(self, agent_id: str, *statuses: Status) -> Attributes:
        """Wait until the agent's status stays, its turn's execution is over, and agent_notify has handled it."""
        state = super().settle(agent_id, *statuses)
        now = (int(state["step"]), state["status"])
        ended_with_children = state["status"] in FINISHED and state["children"] != "[]"
        if not ended_with_children and state["status"] != Status.WAITING_FOR_APPROVAL:
            return state

        def told() -> bool:
            details = [each.event["detail"] for each in self.notifications(agent_id)]
            return now in [(detail["step"], detail["status"]) for detail in details]

        wait_for(told, f"agent_notify to hear that {agent_id} is {state['status']}")
        return state

    def notifications(self, agent_id: str) -> list[Execution]:
        """Return the ended executions of agent_notify for an agent, in the order of its journal."""
        stack = self.stack
        for arn in stack.execution_arns(stack.outputs.agent_notify_arn):
            if arn not in self._seen:
                self.ended(arn)
                found = stack.execution(arn)
                assert found
                self._seen[arn] = found
        own = [each for each in self._seen.values() if each.event["detail"]["agentId"] == agent_id]
        return sorted(own, key=lambda each: int(each.event["detail"]["step"]))


class Both:
    """Both worlds, and the scenarios played in them: each scenario once."""

    def __init__(self, embedded: Local, strictly: Local, faults: tuple[Faults, Faults]) -> None:
        self.embedded_engine, self.strict_engine = embedded.engine, strictly.engine
        self.embedded = Observed(embedded.stack, faults[0], embedded.engine.client)
        self.strictly = Observed(strictly.stack, faults[1], strictly.engine.client)
        self.play = cache(self._play)

    def _play(self, scenario: str) -> str:
        """Play a scenario in both worlds at the same time; return the agent's id, which is the same in both."""
        found = next(each for each in load_scenarios() if each.name == scenario)
        agent_id = f"both-{scenario}"
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda world: _play_in(world, found, agent_id), (self.embedded, self.strictly)))
        return agent_id


def _play_in(world: Observed, scenario: Scenario, agent_id: str) -> None:
    world.give_seats_back()
    with _told_once(world), _reported_one_by_one(world, agent_id, len(scenario.expect.children)):
        world.play(scenario, agent_id)
        for member in world.family(agent_id)[1:]:
            world.settle(member)
        if scenario.expect.status is Status.WAITING_FOR_OPERATOR:
            await_question(world, agent_id)


def await_question(world: World, agent_id: str) -> None:
    """Wait until the operator's question can be answered."""
    world.wait(agent_id, lambda _: bool(world.items(agent_id, OPERATOR)))


@contextmanager
def _told_once(world: World) -> Iterator[None]:
    """Let only AgentError report a failure.

    AgentError and the change of the execution's status both report it, and either may come first. Here the change of
    status is lost.
    """
    lost = [
        world.faults.put(Delivery(agent_id="aws.states", machine="AgentRecovery", how="lost", skip=number))
        for number in range(FAILURES)
    ]
    try:
        yield
    finally:
        for file in lost:
            file.unlink()


@contextmanager
def _reported_one_by_one(world: World, agent_id: str, children: int) -> Iterator[None]:
    """Deliver the reports of the children to their parent one by one, each when the parent waits.

    Otherwise chance would decide which report it reads during its work, and how often it wakes.
    """
    held = [
        world.faults.put(Delivery(agent_id=agent_id, machine="AgentInput", how="late", skip=number))
        for number in range(children)
    ]

    def waits(state: Attributes, heard: int) -> bool:
        free = (state["owner"], state["nextAction"]) == (FREE, FREE)
        return state["status"] == Status.WAITING_FOR_AGENT and free and state["inbox"] == str(heard)

    def release() -> None:
        for heard, file in enumerate(held):
            wait_for(partial(met_at, file), f"report {heard + 1} to {agent_id}")
            world.wait(agent_id, partial(waits, heard=heard))
            file.unlink()

    with ThreadPoolExecutor() as pool:
        released = pool.submit(release)
        yield
        released.result()


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Yield one stack of each kind for all tests of a process."""

    @contextmanager
    def stack(start: Start, faults: Path) -> Iterator[Local]:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(FOLDER, str(faults))
            engine = tmp_path_factory.mktemp("engine")
            with local_stack(load_scenarios(), engine, "travel", {}, lambda _: None, 0, start) as local:
                yield local

    folders = tmp_path_factory.mktemp("faults"), tmp_path_factory.mktemp("faults")
    with (
        stack(start_embedded, folders[0]) as embedded,
        stack(strict.start, folders[1]) as strictly,
        within_limits(embedded.stack.stepfunctions, strictly.stack.stepfunctions),
    ):
        yield Both(embedded, strictly, (Faults(folders[0]), Faults(folders[1])))
