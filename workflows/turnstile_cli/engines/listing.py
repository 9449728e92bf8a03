"""The machines that an engine gets: each as it is registered, with its redirected tasks."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from turnstile_agents.record import Model
from turnstile_cli.engines.adapt import PREFIX
from turnstile_cli.engines.elsewhere import Registered, adapted, read_machines
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.start import Engine


class RedirectedTask(Model):
    """A task that calls a function instead of a service."""

    state: Annotated[str, Field(description="Its path, such as CallTools/ReserveEffect")]
    resource: Annotated[str, Field(description="The Resource in the definition")]
    function: Annotated[str, Field(description="The ARN of the function that does the same")]


class ListedMachine(Model):
    """A registered machine."""

    name: str
    arn: str
    kind: Annotated[str, Field(description="STANDARD or EXPRESS")]
    states: Annotated[int, Field(description="How many states, also inside a Map or a Parallel")]
    redirected: list[RedirectedTask]
    iterators: Annotated[list[str], Field(description="The Maps whose ItemProcessor is registered as Iterator")]
    definition: dict[str, Any]


def list_machines(engine: Engine, template: Path) -> list[ListedMachine]:
    """Return the machines of a template as an engine gets them. The template is deployed for that and then removed.

    Raises:
        EngineError: the template could not be deployed.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Embedded.start(folder=Path(folder)) as embedded,
    ):
        embedded.deploy(template)
        found = list(read_machines(embedded))
    own = engine is Engine.EMBEDDED
    return sorted((_listed(each if own else adapted(each)) for each in found), key=lambda machine: machine.name)


def told(engine: Engine, machines: Iterable[ListedMachine]) -> Iterator[str]:
    """Describe the machines in lines of text."""
    for machine in machines:
        changed = machine.redirected or machine.iterators
        what = f"{len(machine.redirected)} tasks redirected" if changed else "exactly as in asl/"
        yield f"{machine.name}  {machine.kind}, {machine.states} states, {what}"
        for task in machine.redirected:
            yield f"  {task.state}: {task.resource.removeprefix(PREFIX)} → {task.function.rpartition(':')[2]}"
        for state in machine.iterators:
            yield f"  {state}: ItemProcessor → Iterator"
    if engine is not Engine.EMBEDDED:
        yield "A redirected task keeps its Parameters and its result."


def _listed(machine: Registered) -> ListedMachine:
    redirected = [
        RedirectedTask(state=each.state, resource=each.resource, function=each.function)
        for each in machine.adapted.redirected
    ]
    return ListedMachine(
        name=machine.name,
        arn=machine.arn,
        kind=machine.kind,
        states=len(list(machine.machine.states())),
        redirected=redirected,
        iterators=machine.adapted.iterators,
        definition=machine.machine.definition,
    )
