"""The test cases of each state, from the definitions. As a command it prints their numbers:

.venv/bin/python -m tests.states.cases
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.asl.support import MACHINES
from tests.states.walk import named
from turnstile_cli.machines.definition import Machine, State

WORKING = ("Task", "Map", "Parallel")
"""The types of states that do work, which can be mocked."""


class Case(NamedTuple):
    """A state. For a retry or a catch: also an error, and the place of the retrier or catcher that names it."""

    machine: str
    path: str
    place: int = 0
    error: str = ""

    def __str__(self) -> str:
        """Return a short name: the machine, the state and the error, without the places around the state."""
        parts = self.machine, self.path.rpartition("/")[2], self.error.removesuffix("Exception")
        return "-".join(part for part in parts if part)


def results(machine: Machine) -> Iterator[Case]:
    """Return each state that works, for a test of its result."""
    return (Case(machine.name, state.path) for state in machine.states() if state.type in WORKING)


def retries(machine: Machine) -> Iterator[Case]:
    """Return each error that a retrier names."""
    return _named_by(machine, "Retry")


def catches(machine: Machine) -> Iterator[Case]:
    """Return each error that a catcher names; for States.ALL, an error that no catcher names."""
    return _named_by(machine, "Catch")


def others(machine: Machine) -> Iterator[Case]:
    """Return each state that only decides, prepares or ends. A Wait is left out, because it would wait."""
    return (Case(machine.name, state.path) for state in machine.states() if state.type not in (*WORKING, "Wait"))


def every(kind: Callable[[Machine], Iterable[Case]]) -> list[Case]:
    """Return the cases of every machine."""
    return [case for machine in MACHINES.values() for case in kind(machine)]


def _named_by(machine: Machine, kind: str) -> Iterator[Case]:
    for state in machine.states():
        for index, handler in enumerate(state.fields.get(kind, [])):
            for error in handler["ErrorEquals"]:
                yield Case(machine.name, state.path, index, named({"ErrorEquals": [error]}))


def untested(machine: Machine) -> list[State]:
    """Return the states without a case."""
    tested = {case.path for case in (*results(machine), *others(machine))}
    return [state for state in machine.states() if state.path not in tested]


def main() -> None:
    """Print the number of cases of each kind."""
    kinds: dict[str, Callable[[Machine], Iterable[Case]]] = {"Tasks and Maps": results, "retried errors": retries}
    kinds |= {"caught errors": catches, "other states": others}
    table = Table("Machine", *kinds, "Waits, not tested")
    for machine in MACHINES.values():
        counts = [len(list(kind(machine))) for kind in kinds.values()]
        table.add_row(machine.name, *map(str, [*counts, len(untested(machine))]))
    table.add_section()
    totals = [len(every(kind)) for kind in kinds.values()]
    table.add_row("all", *map(str, [*totals, sum(len(untested(machine)) for machine in MACHINES.values())]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
