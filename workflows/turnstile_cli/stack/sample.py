"""What the command line asks of the sample, besides its agents' files.

The sample is a guest: `agents/travel/sample.py` does what `Sample` says, with its own tools and its own outputs of the
stack. Nothing else here knows of flights.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from turnstile_agents.items import Attributes, Effect
from turnstile_cli.files import ROOT
from turnstile_cli.stack.client import Stack

Rows = dict[str, list[dict[str, Any]]]
"""The rows of the sample's tables, by the table's name."""


class Inconsistency(NamedTuple):
    """A contradiction between the sample's tables and a ledger."""

    agent_id: str
    """Empty if it belongs to no agent."""
    kind: str
    record: str
    """The key of the item."""
    text: str
    """The contradiction, and the remedy."""


class Layout(NamedTuple):
    """The sample's rows as a person reads them: a table, and sentences below it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    lines: list[str]


class Sample(Protocol):
    """A sample: the world that its tools act on."""

    def seed(self, stack: Stack, seats: int | None = None) -> None:
        """Fill the tables of a new stack. `seats`: of every flight that has any; the sample's own number otherwise."""

    def made_by(self, stack: Stack, agent_id: str) -> list[Attributes]:
        """Return the items that the calls of an agent made."""

    def inconsistencies(self, stack: Stack, effects: Sequence[Effect], agent_id: str | None) -> Iterator[Inconsistency]:
        """Yield the contradictions between the tables and the ledgers, or only those of an agent.

        Yield nothing for a stack without the sample's tables.
        """

    def rows(self, stack: Stack) -> Rows:
        """Return the rows that calls have made so far."""

    def layout(self, rows: Rows) -> Layout:
        """Lay out the rows."""


@cache
def load_sample() -> Sample:
    """Import the sample. Its modules come last in the search path, so that they hide no others."""
    for folder in ("functions", "workflows"):
        if (place := str(ROOT / folder)) not in sys.path:
            sys.path.append(place)
    return cast(Sample, import_module("agents.travel.sample"))
