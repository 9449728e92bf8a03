"""A stack on this machine, ready to use: the embedded engine, the scripted model, flights, and an agent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.start import Start, start_embedded
from turnstile_cli.files import AGENTS, TEMPLATE
from turnstile_cli.models.scenarios import Scenario
from turnstile_cli.models.scripted import ScriptedModel
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.registry import read_agent_file, register
from turnstile_cli.stack.sample import load_sample


@dataclass(frozen=True)
class Local:
    """A running local stack."""

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
    """Start everything on free ports of 127.0.0.1, and stop it when the context ends.

    Args:
        scenarios: the scenarios that the model can play.
        folder: for the engine's log, and for the file by which other processes find the engine.
        agent: the folder's name of the sample agent to register; the agents that it delegates to come first.
        limits: limits that replace the agent's own, in camelCase.
        on_progress: gets a few words for each thing that is ready.
        wait_scale: the factor for retry intervals and waits for seconds. A wait until a time is not scaled.
        start: starts the engine.

    Raises:
        EngineError, StackError: something did not start or could not be deployed.
    """
    with ScriptedModel(scenarios) as model:
        on_progress(f"the scripted model, on {model.url}")
        with start(model.url, folder, wait_scale) as engine:
            on_progress(f"the embedded engine, on {engine.url}")
            engine.deploy(TEMPLATE, on_progress=lambda kind: on_progress(f"template.yaml: {kind}"))
            stack = Stack.embedded(engine)
            load_sample().seed(stack)
            on_progress("the sample's tables")
            file = AGENTS / agent / "agent.yaml"
            # The agent may also delegate to itself.
            others = [delegate.name for delegate in read_agent_file(file).delegates if delegate.name != agent]
            for path, own in [*((AGENTS / other / "agent.yaml", {}) for other in others), (file, limits)]:
                definition = register(stack, path, own)
                delegates = ", ".join(delegate.name for delegate in definition.delegates)
                what = f"which delegates to {delegates}" if delegates else f"with {len(definition.tools)} tools"
                on_progress(f"the agent {definition.name}, {what}")
            yield Local(engine, stack)
