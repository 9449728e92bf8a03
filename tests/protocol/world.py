"""The world at one moment: stored items, running executions, events and requests under way, and real effects."""

from typing import NamedTuple

from tests.protocol.lambdas import Stored
from tests.protocol.machines import At, Position
from tests.protocol.table import plain

AGENT = "a"


class Run(NamedTuple):
    """An execution that is RUNNING."""

    name: str
    machine: str
    given: str
    """Its input."""
    position: Position


class Event(NamedTuple):
    """An event on its way to a machine."""

    machine: str
    given: str


class Request(NamedTuple):
    """A request that its execution does not wait for any more: the execution was stopped, or the Task timed out."""

    execution: str
    machine: str
    at: At


class Left(NamedTuple):
    """The acts that the environment may still take."""

    faults: int
    watches: int
    answers: int


class World(NamedTuple):
    """The whole world. Collections are sorted, so that the order of events leaves no trace."""

    items: Stored
    runs: tuple[Run, ...]
    events: tuple[Event, ...]
    late: tuple[Request, ...]
    acted: tuple[tuple[str, int], ...]
    """The number of times that the tools have really acted, by the call's key; an undo under the key of its effect."""
    told: str
    """The execution that told the operator of the open question; "" if none has."""
    left: Left

    def item(self, record: str) -> dict[str, str]:
        """Return an item; an empty dict if it does not exist."""
        return next((plain(item) for name, item in self.items if name == record), {})

    def is_running(self, execution: str) -> bool:
        return any(run.name == execution for run in self.runs)

    def count(self, key: str) -> int:
        """Return the number of times that a call has really taken effect."""
        return dict(self.acted).get(key, 0)

    def asked(self) -> list[tuple[Run, At]]:
        """Return the executions that wait for an operator's answer."""
        return [(run, run.position) for run in self.runs if isinstance(run.position, At) and run.position.token]
