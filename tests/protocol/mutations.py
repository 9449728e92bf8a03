"""Take single conditions out of the machines, and explore the result.

A mutation takes out one term of a ConditionExpression on STATE or on the ledger, or the whole expression. Where a
condition refuses nothing, the world is the same without it, so only the steps after a refusal are explored.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from tests.asl.dynamodb import ENTRY, STATE, requests
from tests.asl.support import MACHINES
from tests.protocol.explore import Explored, explore
from tests.protocol.missed import CAUGHT, CAUGHT_DEEPER, HARMLESS, REDUNDANT, UNREFUSED
from tests.protocol.steps import MODELLED, Part, Steps

ALWAYS = "attribute_exists(agentId) OR attribute_not_exists(agentId)"


class Mutation(NamedTuple):
    """A condition without one of its terms, or without all of them."""

    name: str
    """The state, and the part taken out: `CloseTurn: inbox = :inbox`."""
    part: Part
    condition: str
    """The rest of the condition."""


class Found(StrEnum):
    """The result of a mutation, the most telling first."""

    BROKEN = "a sentence breaks"
    HARMLESS = "the write is carried out, and no sentence breaks"
    REDUNDANT = "another condition refuses the write"
    UNREFUSED = "the condition refuses nothing"


def mutations() -> list[Mutation]:
    """Return every mutation of the modelled machines."""
    return [mutation for name in MODELLED for mutation in _of_machine(name)]


def search(steps: Steps, known: Explored, mutation: Mutation) -> Found:
    """Return the result of a mutation in a scenario.

    Args:
        steps: the scenario's steps.
        known: the scenario without the mutation, explored.
        mutation: the condition to change.
    """
    refused = known.refusals.get((mutation.part.machine, mutation.part.path))
    if not refused:
        return Found.UNREFUSED
    found = explore(steps.with_conditions({mutation.part: mutation.condition}), refused, known.seen)
    if found.broken:
        return Found.BROKEN
    return Found.HARMLESS if found.seen.keys() - known.seen.keys() else Found.REDUNDANT


def expected() -> dict[str, Found]:
    """Return the result in missed.py of each mutation that needs no deeper bound, by its name."""
    said = {name: Found.BROKEN for names in CAUGHT.values() for name in names}
    said |= dict.fromkeys(HARMLESS, Found.HARMLESS) | dict.fromkeys(REDUNDANT, Found.REDUNDANT)
    deeper = {name for names in CAUGHT_DEEPER.values() for name in names}
    unrefused = {state for states in UNREFUSED.values() for state in states}
    for name in (each.name for each in mutations() if each.name not in deeper):
        if name.partition(":")[0] in unrefused:
            said[name] = Found.UNREFUSED
    return said


def _of_machine(name: str) -> Iterator[Mutation]:
    for task in MACHINES[name].tasks():
        changing = [request for request in requests(MACHINES[name]) if request.state == task and request.kind != "Get"]
        for place, request in enumerate(changing):
            if request.record not in (STATE, ENTRY):
                continue
            part = Part(name, task.path, place)
            word = " OR " if " OR " in request.condition else " AND "
            terms = request.condition.split(word)
            for term in terms if len(terms) > 1 else ():
                rest = word.join(each for each in terms if each != term)
                yield Mutation(f"{task.name}: {term}", part, rest)
            yield Mutation(f"{task.name}: {request.condition}", part, ALWAYS)
