"""The engines that this machine can run, by name. All have the same interface: start, deploy, send events, read."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from turnstile_cli.engines import step_functions_local, strict
from turnstile_cli.engines.embedded import Embedded


class Engine(StrEnum):
    """The engine that executes the machines."""

    EMBEDDED = "embedded"
    STEP_FUNCTIONS_LOCAL = "step-functions-local"
    STRICT = "strict"


class Start(Protocol):
    """Starts an engine, and stops it when the context ends. Raises EngineError if the engine does not start."""

    def __call__(self, model: str, folder: Path, wait_scale: float = 1) -> AbstractContextManager[Embedded]:
        """Start it with the URL that answers for the model, a folder for logs, and the factor for waits."""


@contextmanager
def start_embedded(model: str, folder: Path, wait_scale: float = 1) -> Iterator[Embedded]:
    """Start the embedded engine alone."""
    with Embedded.start(model=model, folder=folder, wait_scale=wait_scale) as engine:
        yield engine


STARTS: dict[Engine, Start] = {
    Engine.EMBEDDED: start_embedded,
    Engine.STEP_FUNCTIONS_LOCAL: step_functions_local.start,
    Engine.STRICT: strict.start,
}
