"""A stack on this machine, ready to use: the embedded engine, the scripted model, flights, and an agent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.flights import sample_flights, utc_today
from workflows.client import Stack
from workflows.engines.embedded import Embedded
from workflows.engines.start import Start, start_embedded
from workflows.registry import read_agent_file, register
from workflows.scenarios import AGENTS, Scenario
from workflows.scripted_model import ScriptedModel

TEMPLATE = Path(__file__).parents[1] / "template.yaml"
DAYS = 30
"""For how many days there are flights."""
BATCH = 25
"""Items in one BatchWriteItem at most."""


@dataclass(frozen=True)
class Local:
    """A local stack that runs."""

    engine: Embedded
    stack: Stack


@contextmanager
def local_stack(
    scenarios: Sequence[Scenario],
    folder: Path,
    agent: str,
    limits: Mapping[str, Any],
    on_progress: Callable[[str], None],
    wait_scale: float = 1,
    start: Start = start_embedded,
) -> Iterator[Local]:
    """Starts everything on free ports of 127.0.0.1, and ends it with the context.

    Args:
        scenarios: what the model can say.
        folder: for the engine's log, and for what other processes find it by.
        agent: the sample agent to register, by its folder's name, after those that it delegates to.
        limits: limits that differ from its own, in camelCase.
        on_progress: gets a few words for each thing that is ready.
        wait_scale: what retry intervals and waits for seconds are multiplied by. A wait until a moment is kept.
        start: what starts the engine.

    Raises:
        EngineError, StackError: something did not start or could not be deployed.
    """
    with ScriptedModel(scenarios) as model:
        on_progress(f"the scripted model, on {model.url}")
        with start(model.url, folder, wait_scale) as engine:
            on_progress(f"the embedded engine, on {engine.url}")
            engine.deploy(TEMPLATE, on_progress=lambda kind: on_progress(f"template.yaml: {kind}"))
            stack = Stack.embedded(engine)
            seed_flights(stack)
            on_progress(f"flights for {DAYS} days")
            file = AGENTS / agent / "agent.yaml"
            # It may delegate to itself too.
            others = [delegate.name for delegate in read_agent_file(file).delegates if delegate.name != agent]
            for path, own in [*((AGENTS / other / "agent.yaml", {}) for other in others), (file, limits)]:
                definition = register(stack, path, own)
                delegates = ", ".join(delegate.name for delegate in definition.delegates)
                what = f"which delegates to {delegates}" if delegates else f"with {len(definition.tools)} tools"
                on_progress(f"the agent {definition.name}, {what}")
            yield Local(engine, stack)


def seed_flights(stack: Stack) -> None:
    """Puts the sample flights into the table Flights of a stack that has none; those there are would be overwritten."""
    table = stack.outputs.flights_table_name
    items = sample_flights(utc_today(), DAYS)
    for start in range(0, len(items), BATCH):
        requests: Any = [{"PutRequest": {"Item": item}} for item in items[start : start + BATCH]]
        while requests:
            answer = stack.dynamodb.batch_write_item(RequestItems={table: requests})
            requests = answer["UnprocessedItems"].get(table)
