"""What the static tests share: the machines, and a table of changes that prove that a rule can fail.

A rule takes a machine and yields what is wrong with it: file, state and what to do.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workflows.machines import Machine, State, load_machines

ROOT = Path(__file__).parents[2]
MACHINES = {machine.name: machine for machine in load_machines(ROOT / "asl")}
Rule = Callable[[Machine], Iterator[str]]


def problem(machine: Machine, state: State | str, text: str) -> str:
    """A rule's message; `state` is empty for what concerns the whole machine."""
    place = state if isinstance(state, str) else state.path
    return f"asl/{machine.name}.asl.yaml{': ' if place else ''}{place}: {text}"


def holds(*rules: Rule) -> pytest.MarkDecorator:
    """Runs a test `(rule, machine)` for each rule on each machine."""
    cases = [
        pytest.param(rule, machine, id=f"{machine.name}-{rule.__name__}")
        for machine in MACHINES.values()
        for rule in rules
    ]
    return pytest.mark.parametrize(("rule", "machine"), cases)


@dataclass(frozen=True)
class Broken:
    """A change that `rule` must catch: `change` gets the definition of the state at `path`, or of the machine."""

    rule: Rule
    machine: str
    path: str
    change: Callable[[dict[str, Any]], object]

    def assert_caught(self) -> None:
        """The rule is content with the machine as it is, and names the state once it is broken."""
        assert not [text for text in self.rule(MACHINES[self.machine]) if self.path in text], "broken before the change"
        broken = Machine(self.machine, copy.deepcopy(MACHINES[self.machine].definition))
        states = {state.path: state.fields for state in broken.states()}
        self.change(states[self.path] if self.path else broken.definition)
        found = list(self.rule(broken))
        assert any(f"asl/{self.machine}.asl.yaml" in text and self.path in text for text in found), (
            f"{self.rule.__name__} overlooks it; it says {found}"
        )


def catches(*broken: Broken) -> pytest.MarkDecorator:
    """Runs a test `(broken)` for each of them."""
    cases = [
        pytest.param(entry, id=f"{entry.rule.__name__}-{entry.machine}.{entry.path}-{number}")
        for number, entry in enumerate(broken)
    ]
    return pytest.mark.parametrize("broken", cases)
