"""Visit every world of a scenario, breadth first, so that a violation is found by a shortest way."""

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tests.protocol.invariants import GOES_ON, broken_at, broken_by, is_settled
from tests.protocol.steps import Steps
from tests.protocol.world import World

Place = tuple[str, str]
"""A machine and one of its states."""


@dataclass
class Explored:
    """The result of an exploration."""

    scenario: str
    seconds: float = 0
    """Seconds of processor time."""
    broken: list[str] = field(default_factory=list)
    """The sentences that do not hold, each with the violation; empty if all of them hold."""
    way: list[str] = field(default_factory=list)
    """The steps that lead to the violation."""
    seen: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Each world by its hash, with the world before it and the step between them."""
    refusals: defaultdict[Place, list[World]] = field(default_factory=lambda: defaultdict(list))
    """The worlds in which a condition refuses a write, by the Task that writes."""

    def way_to(self, last: int) -> list[str]:
        """Return the steps to a world."""
        steps: list[str] = []
        while self.seen[last][1]:
            last, label = self.seen[last]
            steps.append(label)
        return steps[::-1]


def explore(steps: Steps, start: Iterable[World] = (), known: Collection[int] = ()) -> Explored:
    """Visit every world of a scenario, up to the first that breaks a sentence.

    Args:
        steps: the scenario's steps.
        start: the first worlds, instead of the world before the first event.
        known: worlds, by their hashes, that need not be visited.
    """
    began = time.process_time()
    found = Explored(steps.scenario.name)
    begin = list(start) or [steps.start]
    found.seen.update({hash(world): (0, "") for world in begin})
    onward: defaultdict[int, list[int]] = defaultdict(list)
    settled: list[int] = []
    waiting = deque(begin)
    while waiting and not found.broken:
        world = waiting.popleft()
        here = hash(world)
        if is_settled(world):
            settled.append(here)
        if broken := broken_at(steps, world):
            found.broken, found.way = broken, found.way_to(here)
            break
        for step in steps(world):
            if broken := broken_by(world, step):
                found.broken, found.way = broken, [*found.way_to(here), step.label]
                break
            there = hash(step.world)
            if step.world.left.faults == world.left.faults:
                onward[there].append(here)
            if there in known:
                settled.append(there)
            elif there not in found.seen:
                found.seen[there] = (here, step.label)
                waiting.append(step.world)
        for place in steps.refused:
            found.refusals[place].append(world)
    if not found.broken and (stuck := _stuck(found, settled, onward)):
        found.broken, found.way = [GOES_ON], found.way_to(stuck)
    found.seconds = time.process_time() - began
    return found


def _stuck(found: Explored, settled: list[int], before: dict[int, list[int]]) -> int | None:
    """Return a world from which no settled world can be reached without a fault."""
    good, waiting = set(settled), list(settled)
    while waiting:
        for world in before.get(waiting.pop(), []):
            if world not in good:
                good.add(world)
                waiting.append(world)
    return next((world for world in found.seen if world not in good), None)
