"""Faults on purpose: errors in place of a task's call or after it, and faults in the delivery of events.

Before and after every task, and before every delivery of an event, the engine's child process reads the folder that
`TURNSTILE_FAULTS` names; a test puts faults there. Without the variable, the engine has no fault hooks.

The folder has these files:

- `0001.task`, `0002.event`: a `Fault`, a `Delivery`. It is active until its file is removed.
- `0001.met`: the fault was met; the time, in seconds since 1970.
- `executions`: a line of JSON for each execution that was started, `{"arn", "input"}`.
- `die`: asks the engine to save its data in `data/` and to end by SIGKILL. The next engine in the folder loads them.
"""

import contextvars
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from turnstile_agents.record import Model

FOLDER = "TURNSTILE_FAULTS"
HOLD_SECONDS = 90
"""Seconds that a task is held, or an event held back, at most."""
FREEZE_SECONDS = 10
"""Seconds that open calls may take to end before the data are saved."""
INTERVAL = 0.05
"""Seconds between two looks at a file that holds a task or an event back, or that asks the engine to die."""
CLOCK_NANOSECONDS = 50_000_000
"""A folder's time of change moves on at least this often."""
STREAM = "stream.json"
Need = Callable[[ModuleType, str], Any]
Failed = Callable[[str, str], Exception]
"""Makes the exception that fails a task, from the name and the cause of an error."""


class Fault(Model):
    """One fault, at one state of one agent."""

    agent_id: Annotated[str, Field(min_length=1, description="A text in the state's or the task's input")]
    state: Annotated[str, Field(min_length=1, description="The state's name")]
    machine: Annotated[str, Field(description="The machine's logical id, such as AgentTurn; empty: any machine")] = ""
    when: Annotated[
        Literal["entered", "before", "after", "left"],
        Field(
            description="`before` and `after` meet every attempt: the call has not happened yet, or it has happened. "
            "`entered` and `left` meet the state as a whole, outside its timeout; `left` only if it succeeded"
        ),
    ] = "before"
    error: Annotated[str, Field(description="The error with which the task fails; empty: it does not fail")] = ""
    cause: Annotated[str, Field(description="The cause of that error; empty: a sentence that names the fault")] = ""
    answer: Annotated[str, Field(description="JSON that replaces the task's answer; empty: its own answer")] = ""
    dies: Annotated[
        Literal["", "worker", "stopped", "failed"],
        Field(
            description="`worker`: the function's process is killed (before, after). `stopped`, `failed`: the "
            "execution is ABORTED, or FAILED with an error that no Catch sees (left)"
        ),
    ] = ""
    skip: Annotated[int, Field(ge=0, description="How many attempts or visits pass before the fault is met")] = 0
    times: Annotated[int, Field(ge=1, description="How many attempts or visits meet the fault")] = 1
    hold: Annotated[bool, Field(description="Whether the task waits there until the fault is removed")] = False


class Delivery(Model):
    """One fault in the delivery of an agent's events to a machine; for AgentPublish, of the stream's records."""

    agent_id: Annotated[str, Field(min_length=1, description="A text in the event")]
    machine: Annotated[str, Field(min_length=1, description="The logical id of the machine that gets the event")]
    how: Annotated[
        Literal["twice", "lost", "late", "again"],
        Field(description="`late` and `again`: delivered, or delivered a second time, when the fault is removed"),
    ]
    skip: Annotated[int, Field(ge=0, description="How many events pass before the fault is met")] = 0


def canceled(*reasons: str) -> dict[str, str]:
    """Return the `error` and the `cause` with which AWS reports a cancelled transaction.

    A reason, such as TransactionConflict, or None, belongs to each item of the transaction.
    """
    cause = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(reasons)}]"
    told = f"{cause} (Service: DynamoDb, Status Code: 400, Request ID: A-FAULT-ON-PURPOSE)"
    return {"error": "DynamoDb.TransactionCanceledException", "cause": told}


class Faults:
    """The folder, from the test's side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._lock = threading.Lock()

    def put(self, fault: Fault | Delivery) -> Path:
        """Put a fault in place and return its file. Removing the file removes the fault."""
        with self._lock:
            self._count += 1
            count = self._count
        file = self._folder / f"{count:06d}.{'task' if isinstance(fault, Fault) else 'event'}"
        new = file.with_suffix(".new")
        new.write_text(fault.model_dump_json(by_alias=True), "utf-8")
        return new.replace(file)

    @contextmanager
    def held(self, agent_id: str, state: str, error: str = "", machine: str = "") -> Iterator[Callable[[], None]]:
        """Hold a task before its call. The context's value is a function that waits until the task is held.

        `machine`: its logical id, such as AgentTurn, if two machines have a state of that name. After the context, the
        task goes on, or fails with `error`.
        """
        file = self.put(Fault(agent_id=agent_id, state=state, machine=machine, error=error, hold=True))

        def wait() -> None:
            deadline = time.monotonic() + HOLD_SECONDS
            while met_at(file) is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{agent_id} did not come to {state} within {HOLD_SECONDS} seconds")
                time.sleep(INTERVAL)

        try:
            yield wait
        finally:
            file.unlink()

    def kill_engine(self) -> None:
        """Ask the engine to save its data and to end by SIGKILL. It does both within about one second."""
        (self._folder / "die").touch()


def met_at(file: Path) -> float | None:
    """Return the time at which the fault was first met, in seconds since 1970; None if it was not met."""
    try:
        return float(file.with_suffix(".met").read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # ValueError: the file is still being written
        return None


# -- the engine's side -----------------------------------------------------------------------------------------------

F = TypeVar("F", Fault, Delivery)


class EngineFolder:
    """The folder, from the engine's side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Counter[Path] = Counter()
        self._read: dict[str, tuple[Path, Fault | Delivery]] = {}
        """Each fault that was ever listed, by the name of its file."""
        self._standing: dict[str, list[tuple[Path, Fault | Delivery]]] = {}
        self._listed = 0
        """The folder's time of change when it was listed; 0: it must be listed again."""
        self._lock = threading.Lock()
        self._change = threading.Condition()
        self._busy = 0
        self._frozen = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark a call that may write. Once the engine is frozen, a new call waits for ever."""
        with self._change:
            self._change.wait_for(lambda: not self._frozen)
            self._busy += 1
        try:
            yield
        finally:
            with self._change:
                self._busy -= 1
                self._change.notify_all()

    def freeze(self) -> None:
        """Block new calls, and wait at most `FREEZE_SECONDS` until the open calls have ended."""
        with self._change:
            self._frozen = True
            self._change.wait_for(lambda: self._busy == 0, FREEZE_SECONDS)

    def standing(self, kind: type[F], place: str) -> Iterator[tuple[Path, F]]:
        """Yield the active faults at a place with their files, in the order in which they were put there.

        `place`: a state for the faults of tasks, a machine for those of deliveries.
        """
        with self._lock:
            self._list_again()
            here = self._standing.get(place, [])
        for file, fault in here:
            if isinstance(fault, kind):
                yield file, fault

    def _list_again(self) -> None:
        """List the folder if it has changed. Every task asks, and a run may have many hundred faults."""
        changed = self.path.stat().st_mtime_ns
        if changed == self._listed:
            return
        # Until the clock has moved on, another change would leave the folder's time of change as it is.
        self._listed = changed if time.time_ns() - changed > CLOCK_NANOSECONDS else 0
        self._standing = {}
        with os.scandir(self.path) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            kind: type[Fault | Delivery] = Fault if name.endswith(".task") else Delivery
            if not name.endswith((".task", ".event")):
                continue
            if name not in self._read:
                file = self.path / name
                try:
                    self._read[name] = file, kind.model_validate_json(file.read_text("utf-8"))
                except FileNotFoundError:  # removed after the listing
                    continue
            _, fault = self._read[name]
            place = fault.state if isinstance(fault, Fault) else fault.machine
            self._standing.setdefault(place, []).append(self._read[name])

    def meets(self, file: Path, skip: int, times: int = 1) -> bool:
        """Count the attempts, visits or events that come to a fault. Return True if this one meets it."""
        with self._lock:
            self._seen[file] += 1
            if not skip < self._seen[file] <= skip + times:
                return False
        met = file.with_suffix(".met")
        if not met.exists():
            met.write_text(str(time.time()), "utf-8")
        return True

    def meet(self, machine: str, state: str, when: str, data: Any, failed: Failed) -> list[Fault]:
        """Meet the faults of a task at a moment: hold it, or raise the error that `failed` makes of a name and a cause.

        `data`: the state's input and the task's, in which a fault's agent must be named. Return the other faults.
        """
        met = []
        for file, fault in self.standing(Fault, state):
            # The death of a worker is decided before the call, also if the worker dies after it.
            moment = "before" if fault.dies == "worker" else fault.when
            if fault.machine not in ("", machine) or moment != when:
                continue
            if fault.agent_id not in json.dumps(data) or not self.meets(file, fault.skip, fault.times):
                continue
            if fault.hold:
                self.wait_for_removal(file)
            if fault.error:
                raise failed(fault.error, fault.cause or f"A fault on purpose, {when} {fault.state}")
            met.append(fault)
        return met

    def wait_for_removal(self, file: Path) -> None:
        deadline = time.monotonic() + HOLD_SECONDS
        while file.exists() and time.monotonic() < deadline:
            time.sleep(INTERVAL)


def keep_data() -> None:
    """Let MiniStack load the data that `die` saved. Call it before any module of MiniStack is imported."""
    if FOLDER in os.environ:
        data = Path(os.environ[FOLDER]) / "data"
        # `die` writes this file last; the folder may exist without saved data.
        kept = (data / STREAM).exists()
        os.environ |= {"STATE_DIR": str(data), "PERSIST_STATE": "1" if kept else "0"}


def install(modules: Callable[[str], ModuleType], need: Need) -> None:
    """Make the engine meet the folder's faults.

    Args:
        modules: returns a module of MiniStack by its name inside the package, such as `services.pipes`.
        need: returns a private attribute of a module; fails if it is gone.
    """
    if FOLDER not in os.environ:
        return
    folder = EngineFolder(Path(os.environ[FOLDER]))
    stepfunctions = modules("services.stepfunctions")
    _meet_in_tasks(folder, stepfunctions, need)
    _kill_workers(modules("core.lambda_runtime"), need)
    _meet_in_deliveries(folder, modules("services.eventbridge"), need)
    _meet_in_stream(folder, modules("services.pipes"), need)
    _list_executions(folder, stepfunctions, need)
    _restore_stream(folder, modules("services.dynamodb"), need)
    _die_when_asked(folder, modules, need)


_place: ContextVar[tuple[str, str, Any]] = ContextVar("place", default=("", "", None))
"""The present task's machine, state, and the state's input."""
_worker_dies: ContextVar[str] = ContextVar("worker_dies", default="")


def _meet_in_tasks(folder: EngineFolder, stepfunctions: ModuleType, need: Need) -> None:
    """Make tasks meet the faults.

    Needs `_execute_task(state, data, execution, ctx)`, and the functions that it calls in a copy of its context:
    `_invoke_resource(resource, input)` and, for a task token, `_invoke_with_callback(resource, input, token, state)`;
    `_ExecutionError(error, cause)`, `_stop_execution(data)` and `_fail_execution(execution, error, cause)`.
    """
    execute_task = need(stepfunctions, "_execute_task")
    invoke_resource = need(stepfunctions, "_invoke_resource")
    invoke_with_callback = need(stepfunctions, "_invoke_with_callback")
    failed = need(stepfunctions, "_ExecutionError")
    stop, fail = need(stepfunctions, "_stop_execution"), need(stepfunctions, "_fail_execution")

    def execute(state: dict[str, Any], data: Any, execution: dict[str, Any], ctx: dict[str, Any]) -> Any:
        machine = execution["stateMachineArn"].rpartition("-")[2]
        token = _place.set((machine, ctx["State"]["Name"], data))
        try:
            meet("entered")
            result = execute_task(state, data, execution, ctx)
            for fault in meet("left"):
                # After that, the execution writes nothing more: its thread ends at its next event.
                if fault.dies == "stopped":
                    stop({"executionArn": execution["executionArn"]})
                elif fault.dies == "failed":
                    fail(execution, "States.Runtime", f"A fault on purpose, after {fault.state}")
            return result
        finally:
            _place.reset(token)

    def invoke(resource: str, data: Any) -> Any:
        return around(data, lambda: work(resource, data))

    def work(resource: str, data: Any) -> Any:
        with folder.working():
            return invoke_resource(resource, data)

    def invoke_and_wait(resource: str, data: Any, token: str, state: dict[str, Any]) -> Any:
        return around(data, lambda: invoke_with_callback(resource, data, token, state))

    def around(data: Any, act: Callable[[], Any]) -> Any:
        dies = next((f"{fault.when} {fault.state}" for fault in meet("before", data) if fault.dies == "worker"), "")
        token = _worker_dies.set(dies)
        try:
            result = act()
        finally:
            _worker_dies.reset(token)
        for fault in meet("after", data):
            if fault.answer:
                result = json.loads(fault.answer)
        return result

    def meet(when: str, task: Any = None) -> list[Fault]:
        machine, state, data = _place.get()
        return folder.meet(machine, state, when, (data, task), failed)

    stepfunctions._execute_task = execute  # type: ignore[attr-defined]
    stepfunctions._invoke_resource = invoke  # type: ignore[attr-defined]
    stepfunctions._invoke_with_callback = invoke_and_wait  # type: ignore[attr-defined]


def _kill_workers(lambda_runtime: ModuleType, need: Need) -> None:
    """Kill a function's process where a fault asks for it.

    Needs `Worker.invoke`, which is called in the task's own context and starts a process if there is none.
    """
    worker = need(lambda_runtime, "Worker")
    invoke_worker = worker.invoke

    def invoke(self: Any, *arguments: Any, **named: Any) -> Any:
        dies = _worker_dies.get()
        if not dies.startswith("before"):
            result = invoke_worker(self, *arguments, **named)
        if not dies:
            return result
        process, self._proc = self._proc, None
        if process:
            process.kill()
            process.wait()
        return {"status": "error", "error": "Worker process died", "cold_start": False, "log": ""}

    worker.invoke = invoke


def _meet_in_deliveries(folder: EngineFolder, eventbridge: ModuleType, need: Need) -> None:
    """Make the deliveries of events meet the faults. Needs `_dispatch_to_stepfunctions(arn, payload)`."""
    dispatch = need(eventbridge, "_dispatch_to_stepfunctions")

    def deliver(arn: str, payload: str) -> None:
        machine = arn.rpartition("-")[2]
        mine = [(file, fault) for file, fault in folder.standing(Delivery, machine) if fault.agent_id in payload]
        # Every fault counts this event, also a fault that is not applied because another comes first.
        for file, fault in [(file, fault) for file, fault in mine if folder.meets(file, fault.skip)]:
            if fault.how in ("twice", "again"):
                dispatch(arn, payload)
            if fault.how in ("late", "again"):
                _later(folder, file, partial(dispatch, arn, payload))
            if fault.how != "twice":
                return
        dispatch(arn, payload)

    eventbridge._dispatch_to_stepfunctions = deliver  # type: ignore[attr-defined]


def _meet_in_stream(folder: EngineFolder, pipes: ModuleType, need: Need) -> None:
    """Make the deliveries of the stream's records meet the faults.

    Needs `_start_state_machine_from_records(arn, pipe, records)`, which returns True if it took the records.
    """
    start = need(pipes, "_start_state_machine_from_records")

    def deliver(arn: str, pipe: dict[str, Any], records: list[Any]) -> bool:
        machine = arn.rpartition("-")[2]
        faults = list(folder.standing(Delivery, machine))
        agents: dict[str, list[Any]] = {}
        for record in records:
            agent_id = record["dynamodb"]["Keys"].get("agentId", {}).get("S", "")
            how = ""
            for file, fault in faults:
                announced = "announce" in record["dynamodb"].get("NewImage", {})
                if fault.agent_id == agent_id and announced and folder.meets(file, fault.skip):
                    how = fault.how
                    if how in ("late", "again"):
                        _later(folder, file, partial(start, arn, pipe, [record]))
                    if how == "twice":
                        start(arn, pipe, [record])
            if how not in ("late", "lost"):
                agents.setdefault(agent_id, []).append(record)
        # Start one execution for each agent: a fault that stops an execution must not hit another agent.
        with folder.working():
            return {start(arn, pipe, batch) for batch in agents.values()} <= {True}

    pipes._start_state_machine_from_records = deliver  # type: ignore[attr-defined]


def _later(folder: EngineFolder, file: Path, act: Callable[[], Any]) -> None:
    """Call `act` after the fault is removed, in a copy of this context, which has the account and the Region."""
    context = contextvars.copy_context()

    def wait() -> None:
        folder.wait_for_removal(file)
        context.run(act)

    threading.Thread(target=wait, daemon=True).start()


def _list_executions(folder: EngineFolder, stepfunctions: ModuleType, need: Need) -> None:
    """Write each started execution into the file `executions`. Needs `_start_execution(data)`, which starts them."""
    start = need(stepfunctions, "_start_execution")
    file = folder.path / "executions"
    lock = threading.Lock()

    def listed(data: dict[str, Any]) -> Any:
        answer = start(data)
        status, _headers, body = answer
        if status < 400:
            line = json.dumps({"arn": json.loads(body)["executionArn"], "input": data.get("input", "")})
            with lock, file.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
        return answer

    stepfunctions._start_execution = listed  # type: ignore[attr-defined]


# -- the end of the process, and its data ----------------------------------------------------------------------------


def _restore_stream(folder: EngineFolder, dynamodb: ModuleType, need: Need) -> None:
    """Load the tables' streams, which MiniStack does not save. Needs `_stream_records` and `_stream_trimmed`."""
    file = folder.path / "data" / STREAM
    records, trimmed = need(dynamodb, "_stream_records"), need(dynamodb, "_stream_trimmed")
    if file.exists():
        kept = json.loads(file.read_text("utf-8"))
        for store, content in ((records, kept["records"]), (trimmed, kept["trimmed"])):
            for *scope, value in content:
                store.set_scoped(*scope, value)


def _die_when_asked(folder: EngineFolder, modules: Callable[[str], ModuleType], need: Need) -> None:
    """Save the data and kill this process when the file `die` appears. At its orderly end, do not save them.

    Needs `app._build_persistence_save_dict()`, and `core.persistence.save_all`, which saves that dict if
    `core.persistence.PERSIST_STATE` is True; `app.save_all` is the same function, for the orderly end.
    """
    dynamodb, persistence, app = modules("services.dynamodb"), modules("core.persistence"), modules("app")
    save_all = need(persistence, "save_all")
    need(persistence, "PERSIST_STATE")
    need(app, "save_all")
    app.save_all = lambda _: None  # type: ignore[attr-defined]

    def watch() -> None:
        die = folder.path / "die"
        while not die.exists():
            time.sleep(INTERVAL)
        die.unlink()
        folder.freeze()
        persistence.PERSIST_STATE = True  # type: ignore[attr-defined]
        save_all(need(app, "_build_persistence_save_dict")())
        stream = {
            name: [[*scope, value] for scope, value in store.all_items()]
            for name, store in (("records", dynamodb._stream_records), ("trimmed", dynamodb._stream_trimmed))
        }
        (folder.path / "data" / STREAM).write_text(json.dumps(stream), "utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
