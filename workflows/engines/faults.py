"""Faults on purpose: what a task of a machine meets instead of what it asked for, or after it.

The engine's child process looks into the folder that `TURNSTILE_FAULTS` names before and after every task; whoever
tests puts faults there. Without the variable nothing of this is there.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field

from agent.record import Model

FOLDER = "TURNSTILE_FAULTS"
HOLD_SECONDS = 30


class Fault(Model):
    """One fault, at one state of one agent."""

    agent_id: Annotated[str, Field(min_length=1, description="The task's input has it somewhere")]
    state: Annotated[str, Field(min_length=1, description="The state's name")]
    when: Annotated[Literal["before", "after"], Field(description="`after`: what was asked for has happened")] = (
        "before"
    )
    error: Annotated[str, Field(description="What the task fails with; empty if it only holds")] = ""
    times: Annotated[int, Field(ge=1, description="How many attempts meet it")] = 1
    hold: Annotated[bool, Field(description="Whether the task waits until the fault is released")] = False


class Faults:
    """The folder, from the side of the one who tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def put(self, fault: Fault) -> Path:
        """Puts a fault in place; the file exists until it is removed."""
        self._count += 1
        file = self._folder / f"{self._count:04d}.json"
        new = file.with_suffix(".new")
        new.write_text(fault.model_dump_json(by_alias=True), "utf-8")
        return new.replace(file)

    @contextmanager
    def held(self, agent_id: str, state: str, error: str = "") -> Iterator[Callable[[], None]]:
        """Holds a task before it does anything. Gives what waits until it is held.

        Leaving the context lets it go on, or fail with `error`.
        """
        file = self.put(Fault(agent_id=agent_id, state=state, error=error, hold=True))
        met = file.with_suffix(".met")

        def wait() -> None:
            deadline = time.monotonic() + HOLD_SECONDS
            while not met.exists():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{agent_id} did not come to {state}")
                time.sleep(0.02)

        try:
            yield wait
        finally:
            file.unlink()


def install(stepfunctions: ModuleType, need: Callable[[ModuleType, str], Any]) -> None:
    """Makes the engine's tasks meet what is in the folder.

    Needs `_execute_task(state, data, execution, ctx)` and `_invoke_resource(resource, input)`, which it calls in a copy
    of its context, and `_ExecutionError(error, cause)`.
    """
    if FOLDER not in os.environ:
        return
    folder = Path(os.environ[FOLDER])
    execute_task = need(stepfunctions, "_execute_task")
    invoke_resource = need(stepfunctions, "_invoke_resource")
    failed = need(stepfunctions, "_ExecutionError")
    state_name: ContextVar[str] = ContextVar("state_name", default="")
    met: Counter[Path] = Counter()
    lock = threading.Lock()

    def execute(state: dict[str, Any], data: Any, execution: dict[str, Any], ctx: dict[str, Any]) -> Any:
        token = state_name.set(ctx["State"]["Name"])
        try:
            return execute_task(state, data, execution, ctx)
        finally:
            state_name.reset(token)

    def invoke(resource: str, data: Any) -> Any:
        text = json.dumps(data)
        meet("before", text)
        result = invoke_resource(resource, data)
        meet("after", text)
        return result

    def meet(when: str, text: str) -> None:
        for file in sorted(folder.glob("*.json")):
            try:
                fault = Fault.model_validate_json(file.read_text("utf-8"))
            except FileNotFoundError:  # released between the two looks
                continue
            if fault.when != when or fault.state != state_name.get() or fault.agent_id not in text:
                continue
            with lock:
                met[file] += 1
                if met[file] > fault.times:
                    continue
            if fault.hold:
                file.with_suffix(".met").touch()
                deadline = time.monotonic() + HOLD_SECONDS
                while file.exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
            if fault.error:
                raise failed(fault.error, f"A fault on purpose, {when} {fault.state}")

    stepfunctions._execute_task = execute  # type: ignore[attr-defined]
    stepfunctions._invoke_resource = invoke  # type: ignore[attr-defined]
