"""The engines that this machine can run, by name. Each is started, deployed to, given events, and read, in one way."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from workflows.engines import step_functions_local, strict
from workflows.engines.embedded import Embedded


class Engine(StrEnum):
    """What executes the machines."""

    EMBEDDED = "embedded"
    STEP_FUNCTIONS_LOCAL = "step-functions-local"
    STRICT = "strict"


class Start(Protocol):
    """Starts an engine, and ends it with the context. Raises EngineError."""

    def __call__(self, model: str, folder: Path, wait_scale: float = 1) -> AbstractContextManager[Embedded]:
        """With the URL that answers for the model, a folder for logs, and what waits are multiplied by."""


@contextmanager
def start_embedded(model: str, folder: Path, wait_scale: float = 1) -> Iterator[Embedded]:
    """The embedded engine alone."""
    with Embedded.start(model=model, folder=folder, wait_scale=wait_scale) as engine:
        yield engine


STARTS: dict[Engine, Start] = {
    Engine.EMBEDDED: start_embedded,
    Engine.STEP_FUNCTIONS_LOCAL: step_functions_local.start,
    Engine.STRICT: strict.start,
}
