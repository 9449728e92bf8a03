"""moto's interpreter as a server of Step Functions, in a process of its own.

`turnstile_cli.engines.strict` starts this module, sets the environment and holds the other end of stdin. Only moto's
interpreter is used: its tasks call another endpoint. Each hook names the private names that it uses. The process
refuses to start if one of them is not as in moto 5.2.5.
"""

import functools
import importlib
import io
import json
import math
import os
import pickle
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
from botocore.config import Config

from turnstile_cli.engines import faults
from turnstile_cli.engines.bridge import CHANGES
from turnstile_cli.engines.child import end_with_parent, keep_developer_out, run
from turnstile_cli.engines.hooks import Hooked
from turnstile_cli.engines.process import HOST
from turnstile_cli.machines.definition import Machine

PORT = "TURNSTILE_STRICT_PORT"
ENDPOINT = "TURNSTILE_STRICT_ENDPOINT"
"""The environment variable that names the URL of all services except Step Functions."""
WAIT_SCALE = "TURNSTILE_STRICT_WAIT_SCALE"
MOCKS = "SFN_MOCK_CONFIG"
"""The environment variable that names a MockConfigFile, as in the official image."""
ACCOUNT = "000000000000"
"""The account of the embedded engine, so that a machine has the same ARN on both."""
PARSER = "moto.stepfunctions.parser"
TELL_SECONDS = 30
"""Seconds that a request for changes of status waits for one."""
COMPONENT = f"{PARSER}.asl.component"
PATHS = ("asl.utils.json_path", "asl.component.common.path.result_path")
"""The modules of the interpreter that parse paths."""
_MOTO = Hooked("moto", __name__)
need, changed = _MOTO.need, _MOTO.changed


def import_interpreter() -> None:
    """Import every module of the interpreter, but not moto's Batch, which imports moto's EC2: that takes a second.

    Needs `moto.batch.utils`, the only module of Batch that the interpreter imports.
    """
    batch = ModuleType("moto.batch")
    batch.__path__ = [str(Path(need(importlib.import_module("moto"), "__file__")).parent / "batch")]
    sys.modules[batch.__name__] = batch
    importlib.import_module(f"{PARSER}.models")
    if "moto.ec2" in sys.modules:
        changed("its interpreter imports moto.ec2 in another way")


def use_endpoint(endpoint: str) -> None:
    """Send the calls of tasks to an endpoint.

    Needs `asl.utils.boto_client.boto_client_for(region, service, state_credentials)`, which the modules that use it
    have imported by name.
    """
    original = need(importlib.import_module(f"{PARSER}.asl.utils.boto_client"), "boto_client_for")

    @functools.cache
    def client(region: str, service: str) -> Any:
        # The machine limits a task's time and its retries, so the client has neither limit nor retries.
        config = Config(
            parameter_validation=False,
            retries={"total_max_attempts": 1},
            read_timeout=86_400,
            max_pool_connections=50,
            proxies={},
        )
        return boto3.client(service, region_name=region, endpoint_url=endpoint, config=config)  # type: ignore[call-overload]

    def client_for(region: str, service: str, state_credentials: Any = None) -> Any:  # noqa: ARG001
        return client(region, service)

    modules = [module for name, module in list(sys.modules.items()) if name.startswith(PARSER)]
    users = [module for module in modules if getattr(module, "boto_client_for", None) is original]
    if len(users) < 2:
        changed("its tasks do not make their clients by boto_client_for any more")
    for user in users:
        user.boto_client_for = client_for  # type: ignore[attr-defined]


def scale_waits(scale: float) -> None:
    """Multiply the waits of retries and of Wait states with `Seconds` by `scale`.

    A wait until a `Timestamp` is not scaled: see `ministack_child.wait_until_moments`. Needs
    `WaitFunction._wait_interval(env, wait_seconds)`, which takes whole seconds; the class `Timestamp`, whose
    `_get_wait_seconds(env)` counts from the local time; and the name `time` in the module of the retrier, which uses
    only its `sleep`.
    """
    functions = f"{COMPONENT}.state.wait.wait_function"
    waits = importlib.import_module(f"{functions}.wait_function").WaitFunction
    moments = need(importlib.import_module(f"{functions}.timestamp"), "Timestamp")
    wait_interval = need(waits, "_wait_interval")

    def wait(self: Any, env: Any, wait_seconds: float) -> None:
        wait_interval(self, env, wait_seconds if isinstance(self, moments) else math.ceil(wait_seconds * scale))

    def seconds_until(self: Any, env: Any) -> int:
        self.string.eval(env=env)
        return math.ceil((datetime.fromisoformat(env.stack.pop()) - datetime.now(UTC)).total_seconds())

    waits._wait_interval = wait
    moments._get_wait_seconds = seconds_until
    retrier = importlib.import_module(f"{COMPONENT}.common.retry.retrier_decl")
    need(retrier, "time")
    retrier.time = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds * scale))  # type: ignore[attr-defined]


def parse_once() -> None:
    """Parse each definition once, not at each execution, and each path once, not at each use.

    A large definition takes a quarter of a second. Needs
    `asl.parse.asl_parser.AmazonStateLanguageParser.parse(definition)`, which gives a program and its tree; the tree is
    not used here. Each execution gets its own copy of the program. Also needs the name `parse` in two modules, which
    gives a path that the interpreter does not change.
    """
    parser = importlib.import_module(f"{PARSER}.asl.parse.asl_parser").AmazonStateLanguageParser
    of_paths = [importlib.import_module(f"{PARSER}.{name}") for name in PATHS]
    parse = need(parser, "parse")
    followed = [functools.lru_cache(maxsize=1024)(need(module, "parse")) for module in of_paths]

    @functools.lru_cache(maxsize=1024)
    def packed(definition: str) -> bytes:
        # Loading it takes less time than a deep copy.
        return pickle.dumps(parse(definition)[0], pickle.HIGHEST_PROTOCOL)

    parser.parse = staticmethod(lambda definition: (pickle.loads(packed(definition)), None))
    for module, cached in zip(of_paths, followed, strict=True):
        module.parse = cached  # type: ignore[attr-defined]


def answer_by_name() -> None:
    """Take the members of an answer from a dict by their names alone.

    For each member that an answer may have, and an event of a history may have fifty, moto tries ten spellings. Needs
    `moto.core.serialize.ResponseSerializer.get_value(value, key, shape)`.
    """
    serializer = need(importlib.import_module("moto.core.serialize"), "ResponseSerializer")
    get_value = need(serializer, "get_value")

    def named(self: Any, value: Any, key: str, shape: Any) -> Any:
        return value.get(key) if isinstance(value, dict) else get_value(self, value, key, shape)

    serializer.get_value = named


def answer_mocks(file: Path) -> None:
    """Run an execution of `...:stateMachine:NAME#CASE` on that case's mocks.

    The keys of a mock count the state's invocations in an execution, as in the official image; moto itself counts
    retries. Needs the argument `mock_test_case` of `backend.execution.ExecutionWorker`, `next_state_name` and
    `get_current_mocked_response()` of `Environment`, and the classes of `mocking.mock_config`.
    """
    execution = importlib.import_module(f"{PARSER}.backend.execution")
    environment = importlib.import_module(f"{PARSER}.asl.eval.environment").Environment
    mocking = importlib.import_module(f"{PARSER}.mocking.mock_config")
    worker = need(execution, "ExecutionWorker")
    need(environment, "get_current_mocked_response")
    need(mocking, "MockTestCase")
    config = json.loads(file.read_text("utf-8"))
    invocations: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def start(evaluation_details: Any, **arguments: Any) -> Any:
        case = _cases.pop(evaluation_details.execution_details.name, "")
        if case:
            machine = evaluation_details.state_machine_details
            arguments["mock_test_case"] = test_case(machine.name, json.loads(machine.definition), case)
        return worker(evaluation_details=evaluation_details, **arguments)

    def test_case(name: str, definition: dict[str, Any], case: str) -> Any:
        tasks = Machine(name, definition).tasks()
        functions = {state.name for state in tasks if state.fields["Resource"].startswith("arn:aws:lambda:")}
        found = [
            mocking.StateMockedResponses(
                state, mock, list(responses(config["MockedResponses"][mock], state in functions))
            )
            for state, mock in config["StateMachines"][name]["TestCases"][case].items()
        ]
        return mocking.MockTestCase(name, case, found)

    def responses(mock: dict[str, Any], of_function: bool) -> Iterator[Any]:
        for key, answer in mock.items():
            first, _, last = key.partition("-")
            numbers = int(first), int(last or first)
            if "Throw" in answer:
                yield mocking.MockedResponseThrow(*numbers, answer["Throw"]["Error"], answer["Throw"]["Cause"])
            else:
                # moto takes a function's result out of Lambda's answer; the file has the result itself.
                result = {"Payload": answer["Return"]} if of_function else answer["Return"]
                yield mocking.MockedResponseReturn(*numbers, result)

    def current(self: Any) -> Any:
        state = self.next_state_name
        key = (self.states.context_object.context_object_data["Execution"]["Id"], state)
        with lock:
            number = invocations[key]
            invocations[key] += 1
        mocked = self.mock_test_case.state_mocked_responses[state].mocked_responses
        if number >= len(mocked):
            raise RuntimeError(f"{state} was invoked {number + 1} times, but has only {len(mocked)} mocks")
        return mocked[number]

    execution.ExecutionWorker = start  # type: ignore[attr-defined]
    environment.get_current_mocked_response = current


def meet_faults(folder: Path) -> None:
    """Make tasks meet the faults of a folder: an error before or after an attempt (see `faults`).

    Needs `ExecutionState._evaluate_with_timeout(env)`, which makes one attempt; `_eval_execution(env)` of `StateTask`;
    `env.states`, which has the state's input and the context object; and the classes of a failure.
    """
    state = f"{COMPONENT}.state.exec"
    task = importlib.import_module(f"{state}.state_task.state_task").StateTask
    attempts = importlib.import_module(f"{state}.execute_state").ExecutionState
    names = f"{COMPONENT}.common.error_name"
    events = importlib.import_module(f"{names}.failure_event")
    named = need(importlib.import_module(f"{names}.custom_error_name"), "CustomErrorName")
    by_engine = importlib.import_module(f"{names}.states_error_name").StatesErrorName
    of_engine = need(importlib.import_module(f"{names}.states_error_name_type"), "StatesErrorNameType")
    api = importlib.import_module(f"{PARSER}.api")
    details = importlib.import_module(f"{PARSER}.asl.eval.event.event_detail").EventDetails
    attempt = need(attempts, "_evaluate_with_timeout")
    found = faults.EngineFolder(folder)

    def evaluate(self: Any, env: Any) -> None:
        if not isinstance(self, task):
            attempt(self, env)
            return

        def failed(error: str, cause: str) -> Exception:
            own = error.startswith("States.")
            name = by_engine(of_engine.from_name(error)) if own else named(error)
            told = details(taskFailedEventDetails=api.TaskFailedEventDetails(error=error, cause=cause))
            event = events.FailureEvent(env, name, api.HistoryEventType.TaskFailed, told)
            return events.FailureEventException(event)  # type: ignore[no-any-return]

        context = env.states.context_object.context_object_data
        machine = context["StateMachine"]["Id"].rpartition("-")[2]
        place = machine, context["State"]["Name"]
        data = env.states.get_input()
        found.meet(*place, "before", data, failed)
        attempt(self, env)
        found.meet(*place, "after", data, failed)

    attempts._evaluate_with_timeout = evaluate


class Told:
    """The executions whose status changed, in order: each once when it started, and once when it ended."""

    def __init__(self) -> None:
        self._arns: list[str] = []
        self._more = threading.Condition()

    def add(self, arn: str) -> None:
        """Add an execution."""
        with self._more:
            self._arns.append(arn)
            self._more.notify_all()

    def after(self, count: int) -> list[str]:
        """Return all after the first `count`; wait for one, at most `TELL_SECONDS`."""
        with self._more:
            self._more.wait_for(lambda: len(self._arns) > count, TELL_SECONDS)
            return self._arns[count:]


def tell_changes() -> Told:
    """Note each change of an execution's status, except on an Express machine, which publishes none.

    Needs `Execution.sm_type`, `Execution.start()` and `BaseExecutionWorkerCommunication.terminated()` of
    `backend.execution`; after both methods the execution has its new status.
    """
    module = importlib.import_module(f"{PARSER}.backend.execution")
    executions, ends = module.Execution, module.BaseExecutionWorkerCommunication
    start, terminated = need(executions, "start"), need(ends, "terminated")
    told = Told()

    def tell(execution: Any) -> None:
        if execution.sm_type != "EXPRESS":
            told.add(execution.exec_arn)

    def started(self: Any) -> None:
        start(self)
        tell(self)

    def ended(self: Any) -> None:
        terminated(self)
        tell(self.execution)

    executions.start, ends.terminated = started, ended
    return told


_cases: dict[str, str] = {}
"""The mocked case of each execution that is about to start, by the execution's name."""


def application(told: Told) -> Any:
    """Build the WSGI application: moto's own handler for Step Functions, without the rest of moto's server.

    At `bridge.CHANGES` it tells the executions whose status changed. Needs
    `moto.stepfunctions.responses.StepFunctionResponse.dispatch(request, url, headers)`. moto's StartExecution needs a
    name, so the application adds one to a request without a name.
    """
    from moto.core.request import Request
    from werkzeug.wrappers import Response

    handler = need(importlib.import_module("moto.stepfunctions.responses"), "StepFunctionResponse")
    dispatch = need(handler, "dispatch")

    def answer(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if request.path.startswith(CHANGES):
            changed = told.after(int(request.path.removeprefix(CHANGES)))
            return Response(json.dumps(changed))(environ, start_response)
        if request.headers.get("X-Amz-Target", "").endswith(".StartExecution"):
            data = json.loads(request.get_data())
            data.setdefault("name", str(uuid.uuid4()))
            data["stateMachineArn"], _, case = data["stateMachineArn"].partition("#")
            if case:
                _cases[data["name"]] = case
            body = json.dumps(data).encode()
            request = Request({**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        status, headers, answered = dispatch(request, request.url, dict(request.headers))
        named = {name: str(value) for name, value in headers.items()}
        return Response(answered, status, named)(environ, start_response)

    return answer


def main() -> None:
    """Serve until SIGTERM, or until the parent has ended."""
    keep_developer_out()
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT
    end_with_parent()
    from moto.core.config import default_user_config
    from werkzeug.serving import make_server

    import_interpreter()
    default_user_config["stepfunctions"]["execute_state_machine"] = True
    use_endpoint(os.environ[ENDPOINT])
    scale_waits(float(os.environ[WAIT_SCALE]))
    parse_once()
    if os.environ.get(faults.FOLDER):
        meet_faults(Path(os.environ[faults.FOLDER]))
    answer_by_name()
    if os.environ.get(MOCKS):
        answer_mocks(Path(os.environ[MOCKS]))
    make_server(HOST, int(os.environ[PORT]), application(tell_changes()), threaded=True).serve_forever()


if __name__ == "__main__":
    run("The strict engine", main)
