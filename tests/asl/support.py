"""Shared parts of the static tests: the machines, and a table of changes that proves that each rule can fail.

A rule takes a machine and yields its problems: file, state and what to do.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from turnstile_cli.machines.definition import Machine, State, load_machines

ROOT = Path(__file__).parents[2]
MACHINES = {machine.name: machine for machine in load_machines(ROOT / "asl")}
Rule = Callable[[Machine], Iterator[str]]


def problem(machine: Machine, state: State | None, text: str) -> str:
    """Return a rule's message; `state` is None for a problem of the whole machine."""
    return f"asl/{machine.name}.asl.yaml: {f'{state.path}: ' if state else ''}{text}"


def holds(*rules: Rule) -> pytest.MarkDecorator:
    """Parametrize a test `(rule, machine)` with each rule on each machine."""
    cases = [
        pytest.param(rule, machine, id=f"{machine.name}-{rule.__name__}")
        for machine in MACHINES.values()
        for rule in rules
    ]
    return pytest.mark.parametrize(("rule", "machine"), cases)


def assert_holds(rule: Rule, machine: Machine) -> None:
    """Fail with the problems that the rule finds, one per line."""
    if found := list(rule(machine)):
        pytest.fail("\n".join(found), pytrace=False)


@dataclass(frozen=True)
class Broken:
    """A change that `rule` must catch: `change` gets the definition of the state at `path`, or of the whole machine.

    The problem must name that state, or the state in `named`.
    """

    rule: Rule
    machine: str
    path: str
    change: Callable[[dict[str, Any]], object]
    named: str | None = None

    def assert_caught(self) -> None:
        """Check that the change adds a problem that names the file and the state."""
        definition = copy.deepcopy(MACHINES[self.machine].definition)
        broken = Machine(self.machine, definition)
        states = {state.path: state.fields for state in broken.states()}
        self.change(states[self.path] if self.path else definition)
        found = set(self.rule(broken)) - _known(self.rule, self.machine)
        name = self.named or self.path.rpartition("/")[2]
        assert any(self.machine in text and name in text for text in found), f"overlooked; the rule only found: {found}"


@cache
def _known(rule: Rule, machine: str) -> frozenset[str]:
    return frozenset(rule(MACHINES[machine]))


def catches(*broken: Broken) -> pytest.MarkDecorator:
    """Parametrize a test `(broken)` with each change."""
    cases = [
        pytest.param(entry, id=f"{entry.rule.__name__}-{entry.machine}.{entry.path.rpartition('/')[2] or 'machine'}")
        for entry in broken
    ]
    return pytest.mark.parametrize("broken", cases)


def picked(place: Any, *way: str) -> Any:
    """Return what is at a place in a state: each step is a key, or for a list what one item alone says.

    `Next=AskModel` is the item that leads to AskModel, `record=STATE` the write to that record, and so on; `a=1 & b=2`
    is the item that says both.
    """
    for step in way:
        place = _item(place, step) if isinstance(place, list) else place[step]
    return place


def without(state: dict[str, Any], *way: str) -> None:
    """Remove the item of a list that `way` leads to, as in `picked`."""
    *before, last = way
    items = picked(state, *before)
    items.remove(_item(items, last))


def _item(items: list[Any], said: str) -> Any:
    found = [item for item in items if set(said.split(" & ")) <= set(_sayings(item))]
    assert len(found) == 1, f"{said} is said by {len(found)} items of {items}"
    return found[0]


def _sayings(value: Any, name: str = "") -> Iterator[str]:
    """Yield `name=text` for each text in a value; a text in a list, or typed as `S`, has the name of what holds it."""
    if isinstance(value, str | bool):
        yield f"{name}={value}"
    elif isinstance(value, list):
        for item in value:
            yield from _sayings(item, name)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _sayings(part, name if key in ("S", "S.$") else key)
