"""MiniStack in a process of its own, with hooks for the features that our machines need and MiniStack lacks.

`turnstile_cli.engines.embedded` starts this module, sets the environment and holds the other end of stdin: when stdin
closes, the parent has ended, and this process ends too. Each hook names the private names that it uses. The process
refuses to start if one of them is not as in MiniStack 1.5.33.
"""

import contextlib
import contextvars
import copy
import functools
import importlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import ResponseParserError

from turnstile_cli.engines import bridge, faults, iam, pipe
from turnstile_cli.engines.casing import UnknownField, from_wire, to_wire
from turnstile_cli.engines.child import end_with_parent, keep_developer_out, run
from turnstile_cli.engines.fork_server import ForkServer
from turnstile_cli.engines.hooks import Hooked
from turnstile_cli.engines.state_tests import answer_test_state

MODEL_ENDPOINT = "TURNSTILE_MODEL_ENDPOINT"
"""The environment variable that names the model's URL; without it, the requests go to Bedrock itself."""
CONVERSE = "arn:aws:states:::aws-sdk:bedrockruntime:converse"
MODEL_TIMEOUT = 170
"""Seconds to wait for the model; shorter than AskModel's TimeoutSeconds, so that the state's error shows the cause."""
WORKERS = 4
"""The largest number of processes of one Lambda function."""
BATCH_SECONDS = 0.02
"""Seconds from a write until a pipe reads the stream: writes that belong together come in one batch."""
_MINISTACK = Hooked("MiniStack", __name__)
need, changed = _MINISTACK.need, _MINISTACK.changed


# -- Bedrock ---------------------------------------------------------------------------------------------------------


def prepare_model() -> Callable[[], Any]:
    """Return a function that gives the model's client: for our endpoint if one is named, else for Bedrock.

    Requests to Bedrock use the developer's own credentials, so call this before `keep_developer_out`. If they do not
    suffice for a client, the error is raised at the first request. The client does not retry: the machine does.
    """
    config = Config(retries={"total_max_attempts": 1}, read_timeout=MODEL_TIMEOUT, connect_timeout=5)
    endpoint = os.environ.get(MODEL_ENDPOINT)
    if endpoint:
        local = config.merge(Config(proxies={}))
        arguments = {"endpoint_url": endpoint, "region_name": "us-east-1", "config": local}
        return functools.cache(functools.partial(boto3.client, "bedrock-runtime", **arguments))
    try:
        client = boto3.client("bedrock-runtime", region_name=os.environ.get("AWS_REGION"), config=config)
    except BotoCoreError as error:
        problem = error

        def complain() -> NoReturn:
            raise problem

        return complain
    return lambda: client


def answer_converse(stepfunctions: ModuleType, model: Callable[[], Any]) -> None:
    """Add the task `aws-sdk:bedrockruntime:converse`.

    Needs `stepfunctions._SERVICE_DISPATCH`, a dict of ARN prefixes to `(resource, parameters) -> result`, and
    `_ExecutionError(error, cause)`.
    """
    dispatch = need(stepfunctions, "_SERVICE_DISPATCH")
    failed = need(stepfunctions, "_ExecutionError")

    def converse(resource: str, parameters: dict[str, Any]) -> Any:
        if resource != CONVERSE:
            raise failed("States.Runtime", f"{resource} is not supported here: of Bedrock's tasks, only {CONVERSE} is")
        try:
            client = model()
            operation = client.meta.service_model.operation_model("Converse")
            reply = client.converse(**to_wire(parameters, operation.input_shape))
        except UnknownField as error:
            raise failed("States.Runtime", f"The field {error} is not supported by Step Functions") from error
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            raise failed(f"BedrockRuntime.{code}", message) from error
        except ParamValidationError as error:
            raise failed("BedrockRuntime.ValidationException", str(error)) from error
        except (BotoCoreError, ResponseParserError) as error:
            # No connection, no answer in time, or an unreadable answer is an SdkClientException in the AWS SDK for
            # Java, and Step Functions reports it with the service's prefix:
            # https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception
            raise failed("BedrockRuntime.SdkClientException", str(error)) from error
        return from_wire(reply, operation.output_shape)

    dispatch[CONVERSE.removesuffix("converse")] = converse


# -- Lambda ----------------------------------------------------------------------------------------------------------

RAISED = "turnstile:raised"
_REPORT = (
    '_real_stdout.write(json.dumps({"status": "error", "error": str(e), "trace": traceback.format_exc()}) + "\\n")'
)
_REPORT_AS_AWS = f"""traceback.print_exc()
            _ms_stack = traceback.format_list(traceback.extract_tb(e.__traceback__)[1:])
            _ms_raised = {{"errorMessage": str(e), "errorType": type(e).__name__, "stackTrace": _ms_stack}}
            _real_stdout.write(json.dumps({{"status": "ok", "result": {{"{RAISED}": _ms_raised}}}}) + "\\n")"""


def report_exceptions_by_name(lambda_runtime: ModuleType, lambda_svc: ModuleType) -> None:
    """Report a function's exception by its class name, and a process that ended as `Runtime.ExitError`, as AWS does.

    MiniStack reports `Runtime.HandlerError` for both, and ends the worker process after either; on AWS, a function's
    process stays warm after an exception. Needs the line of `lambda_runtime._PYTHON_WORKER_SCRIPT` that reports an
    exception, and `lambda_svc._execute_function_warm(func, event, request_id)`, which turns the worker's report into
    the answer.
    """
    script = need(lambda_runtime, "_PYTHON_WORKER_SCRIPT")
    if script.count(_REPORT) != 1:
        changed("lambda_runtime._PYTHON_WORKER_SCRIPT reports exceptions in another way")
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_REPORT, _REPORT_AS_AWS)  # type: ignore[attr-defined]
    execute = need(lambda_svc, "_execute_function_warm")

    def execute_function_warm(func: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        result: dict[str, Any] = execute(func, event, request_id)
        body = result.get("body")
        if isinstance(body, dict) and body.keys() == {RAISED}:
            return {**result, "body": body[RAISED] | {"requestId": request_id}, "error": True}
        if result.get("error") and isinstance(body, dict) and body.get("errorMessage") == "Worker process died":
            message = f"RequestId: {request_id} Error: Runtime exited without providing a reason"
            return {**result, "body": {"errorMessage": message, "errorType": "Runtime.ExitError"}}
        return result

    lambda_svc._execute_function_warm = execute_function_warm  # type: ignore[attr-defined]


def share_workers(lambda_svc: ModuleType) -> None:
    """Run at most `WORKERS` processes of one function: a further call waits for a free process.

    MiniStack starts a process for each concurrent call, and each takes time and memory. Needs
    `acquire_worker(…, max_concurrency=…)`, which gives None beyond that limit, and `release_worker(worker)`.
    """
    acquire, release = need(lambda_svc, "acquire_worker"), need(lambda_svc, "release_worker")
    released = threading.Condition()

    def acquire_worker(*arguments: Any, **named: Any) -> Any:
        with released:
            while (found := acquire(*arguments, **named, max_concurrency=WORKERS))[0] is None:
                released.wait()
            return found

    def release_worker(worker: Any) -> None:
        release(worker)
        with released:
            released.notify_all()

    lambda_svc.acquire_worker = acquire_worker  # type: ignore[attr-defined]
    lambda_svc.release_worker = release_worker  # type: ignore[attr-defined]


def fork_workers(lambda_runtime: ModuleType) -> None:
    """Fork the process of a Python function instead of starting a new Python: see `turnstile_cli.engines.fork_server`.

    Needs `Worker._spawn`, which calls `subprocess.Popen([python, script], cwd=…, env=…, …)` by the module's own name
    `subprocess`.
    """
    need(need(lambda_runtime, "Worker"), "_spawn")
    processes = need(lambda_runtime, "subprocess")
    server = ForkServer()

    def start(command: list[str], **named: Any) -> Any:
        if command[0] != sys.executable:
            return processes.Popen(command, **named)
        return server.start(command[1], named["cwd"], named["env"])

    lambda_runtime.subprocess = SimpleNamespace(**{**vars(processes), "Popen": start})  # type: ignore[attr-defined]


LOG_ENDS = "turnstile:log ends"
LOG_SECONDS = 0.25
"""Seconds that the end of a function's log may take to arrive after its answer."""
_ANSWERED = """        _real_stdout.flush()

run()"""
_LOG_ENDED = f"""        print({LOG_ENDS!r}, file=sys.stderr, flush=True)
        _real_stdout.flush()

run()"""


def mark_end_of_log(lambda_runtime: ModuleType) -> None:
    """Read a function's log up to a mark that its process writes: MiniStack waits 50 ms if a function logs nothing.

    Needs the last lines of `lambda_runtime._PYTHON_WORKER_SCRIPT`, and of `Worker` its `_stderr_queue`, `_proc` and
    `_drain_stderr_bounded()`, which gives the log of a process that has ended.
    """
    script = need(lambda_runtime, "_PYTHON_WORKER_SCRIPT")
    if script.count(_ANSWERED) != 1:
        changed("lambda_runtime._PYTHON_WORKER_SCRIPT answers in another way")
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_ANSWERED, _LOG_ENDED)  # type: ignore[attr-defined]
    worker = need(lambda_runtime, "Worker")
    drain = need(worker, "_drain_stderr_bounded")

    def drain_to_mark(self: Any, **named: Any) -> str:
        if self._proc is None or named:
            return str(drain(self, **named))
        lines: list[str] = []
        with contextlib.suppress(queue.Empty):
            while (line := self._stderr_queue.get(timeout=LOG_SECONDS)) != LOG_ENDS:
                lines.append(line)
        return "\n".join(lines)

    worker._drain_stderr_bounded = drain_to_mark


# -- Step Functions --------------------------------------------------------------------------------------------------


def begin_at_once(stepfunctions: ModuleType) -> None:
    """Begin an execution as soon as it is started: MiniStack sleeps 0.15 seconds before its first state.

    Needs `_run_execution(arn)`, which begins with a sleep, by the module's own name `time`.
    """
    run = need(stepfunctions, "_run_execution")
    clock = need(stepfunctions, "time")
    begins: contextvars.ContextVar[bool] = contextvars.ContextVar("begins", default=False)

    def run_execution(arn: str) -> None:
        begins.set(True)
        run(arn)

    def sleep(seconds: float) -> None:
        if begins.get():
            begins.set(False)
        else:
            time.sleep(seconds)

    stepfunctions._run_execution = run_execution  # type: ignore[attr-defined]
    stepfunctions.time = SimpleNamespace(**{**vars(clock), "sleep": sleep})  # type: ignore[attr-defined]


def keep_history(stepfunctions: ModuleType) -> None:
    """Write the history as AWS does: with the states inside a Map, with `previousEventId`, and no event after a stop.

    Iterations run side by side, and only `previousEventId` distinguishes them. A thread that would write after the
    execution was stopped ends: no retry, no further state, no further item. Needs `_add_event`, through which every
    event but ExecutionStarted goes; each execution and each iteration must run in its own `contextvars` context.
    """
    add_event = need(stepfunctions, "_add_event")
    lock = threading.Lock()
    previous: contextvars.ContextVar[tuple[str, int]] = contextvars.ContextVar("previous", default=("", 0))

    def add(execution: dict[str, Any], kind: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
        arn = execution["executionArn"]
        with lock:
            if execution["status"] != "RUNNING" and not kind.startswith("Execution"):
                raise SystemExit  # ends this thread; no Catch handles it
            event: dict[str, Any] = add_event(execution, kind, details)
        of, event_id = previous.get()
        # The end of a Map follows its iterations, which are in other contexts.
        follows = of == arn and kind not in ("MapStateSucceeded", "MapStateFailed")
        event["previousEventId"] = event_id if follows else event["id"] - 1
        previous.set((arn, event["id"]))
        return event

    stepfunctions._add_event = add  # type: ignore[attr-defined]


def take_timeouts_from_paths(stepfunctions: ModuleType) -> None:
    """End a task after the seconds of its `TimeoutSecondsPath`, which MiniStack ignores.

    Needs `_execute_task(state, data, execution, ctx)` and `_resolve_path_or_ctx(path, data, ctx)`.
    """
    execute_task = need(stepfunctions, "_execute_task")
    resolve = need(stepfunctions, "_resolve_path_or_ctx")

    def execute(state: dict[str, Any], data: Any, execution: dict[str, Any], ctx: dict[str, Any]) -> Any:
        path = state.get("TimeoutSecondsPath")
        timed = {**state, "TimeoutSeconds": resolve(path, data, ctx)} if path else state
        return execute_task(timed, data, execution, ctx)

    stepfunctions._execute_task = execute  # type: ignore[attr-defined]


def record_maps(stepfunctions: ModuleType) -> None:
    """Write the events inside a Map: its start and end, those of each iteration, and those of each state with its data.

    Replaces `_run_sub_machine(states, start_at, input, execution, ctx)`, which runs one iteration (or one branch of a
    Parallel) and writes nothing, and wraps `_run_map_items(state, input, execution, ctx)`. Needs the names of the
    interpreter that these two use, and `ctx["Map"]` inside an iteration.
    """
    run_items = need(stepfunctions, "_run_map_items")
    add = need(stepfunctions, "_add_event")
    failed = need(stepfunctions, "_ExecutionError")
    fail_state_error = need(stepfunctions, "_fail_state_error")
    input_of, output_of = need(stepfunctions, "_apply_input_path"), need(stepfunctions, "_apply_output_path")
    resolve, now = need(stepfunctions, "_resolve_path_or_ctx"), need(stepfunctions, "now_iso")
    run_with_execution = {kind: need(stepfunctions, f"_execute_{kind.lower()}") for kind in ("Task", "Parallel", "Map")}
    run_alone = {kind: need(stepfunctions, f"_execute_{kind.lower()}") for kind in ("Pass", "Choice", "Wait")}

    def run_map(state: dict[str, Any], data: Any, execution: dict[str, Any], ctx: dict[str, Any]) -> Any:
        items = resolve(state.get("ItemsPath", "$"), input_of(state, data, ctx), ctx)
        length = len(items) if isinstance(items, list) else 1
        add(execution, "MapStateStarted", {"mapStateStartedEventDetails": {"length": length}})
        try:
            result = run_items(state, data, execution, ctx)
        except failed:
            add(execution, "MapStateFailed")
            raise
        add(execution, "MapStateSucceeded")
        return result

    def run_iteration(
        states: dict[str, Any], start_at: str, data: Any, execution: dict[str, Any], ctx: dict[str, Any]
    ) -> Any:
        iteration = ctx.get("Map", {"Started": True})
        if "Started" in iteration:  # a branch of a Parallel
            return run_states(states, start_at, data, execution, ctx)
        iteration["Started"] = True
        details = {"name": ctx["State"]["Name"], "index": iteration["Item"]["Index"]}
        add(execution, "MapIterationStarted", {"mapIterationStartedEventDetails": details})
        try:
            result = run_states(states, start_at, data, execution, ctx)
        except failed:
            add(execution, "MapIterationFailed", {"mapIterationFailedEventDetails": details})
            raise
        add(execution, "MapIterationSucceeded", {"mapIterationSucceededEventDetails": details})
        return result

    def run_states(
        states: dict[str, Any], start_at: str, data: Any, execution: dict[str, Any], ctx: dict[str, Any]
    ) -> Any:
        data = copy.deepcopy(data)
        name: str | None = start_at
        while name:
            state = states[name]
            kind = state["Type"]
            ctx["State"] = {"Name": name, "EnteredTime": now(), "RetryCount": 0}
            entered = {"name": name, "input": json.dumps(data)}
            add(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": entered})
            if kind == "Fail":
                raise failed(*fail_state_error(state, data, ctx))
            if kind == "Succeed":
                data, name = output_of(state, input_of(state, data, ctx), ctx), None
            elif kind in run_alone:
                data, name = run_alone[kind](state, data, ctx)
            else:
                data, name = run_with_execution[kind](state, data, execution, ctx)
            exited = {"name": entered["name"], "output": json.dumps(data)}
            add(execution, f"{kind}StateExited", {"stateExitedEventDetails": exited})
        return data

    stepfunctions._run_map_items = run_map  # type: ignore[attr-defined]
    need(stepfunctions, "_run_sub_machine")
    stepfunctions._run_sub_machine = run_iteration  # type: ignore[attr-defined]


def wait_until_moments(stepfunctions: ModuleType) -> None:
    """Wait until a `Timestamp`, without `SFN_WAIT_SCALE`: before that time, a call may still act.

    A wait for `Seconds` is only a pause, and is scaled. Replaces `_sleep_until(timestamp)`.
    """
    need(stepfunctions, "_sleep_until")

    def sleep_until(timestamp: str) -> None:
        time.sleep(max(0.0, (datetime.fromisoformat(timestamp) - datetime.now(UTC)).total_seconds()))

    stepfunctions._sleep_until = sleep_until  # type: ignore[attr-defined]


API = {"dynamodb": "dynamodb", "sfn": "stepfunctions"}
"""The services whose errors are named as on AWS, with botocore's names for them."""


def name_errors_as_aws(stepfunctions: ModuleType) -> None:
    """Name the errors of an SDK integration as the AWS SDK for Java does: at the end of each name stands Exception.

    An error that the API's model does not name, as an invalid key of a table, has the name of the service:
    `DynamoDb.DynamoDbException`. Needs `_prefix_sdk_error(service, code)`, which makes the error's name.
    """
    prefixed = need(stepfunctions, "_prefix_sdk_error")

    @functools.cache
    def modelled(service: str) -> set[str]:
        model = ServiceModel(Loader().load_service_model(API[service], "service-2"))
        return {shape.name.removesuffix("Exception") for shape in model.error_shapes}

    def name(service: str, code: str) -> str:
        prefix, _, found = str(prefixed(service, code)).partition(".")
        if service not in API or prefix == "States":
            return f"{prefix}.{found}"
        found = found.removesuffix("Exception")
        return f"{prefix}.{found if found in modelled(service) else prefix}Exception"

    stepfunctions._prefix_sdk_error = name  # type: ignore[attr-defined]


# -- SNS -------------------------------------------------------------------------------------------------------------


def keep_message_attributes(sns: ModuleType) -> None:
    """Keep a task's `MessageAttributes`, which MiniStack drops unless they are parameters of a query.

    Needs `_parse_message_attributes(params)`.
    """
    parse = need(sns, "_parse_message_attributes")

    def attributes(params: dict[str, Any]) -> Any:
        given = params.get("MessageAttributes")
        return given if isinstance(given, dict) else parse(params)

    sns._parse_message_attributes = attributes  # type: ignore[attr-defined]


# -- DynamoDB --------------------------------------------------------------------------------------------------------


def parse_conditions_once(dynamodb: ModuleType) -> None:
    """Parse a condition once, and not again for each item that a Scan or a Query compares with it.

    Needs `_tokenize(expression)`, whose list no caller changes, and `_condition_syntax_error(expression, slot)`.
    """
    for name in ("_tokenize", "_condition_syntax_error"):
        setattr(dynamodb, name, functools.lru_cache(maxsize=512)(need(dynamodb, name)))


# -- EventBridge Pipes -----------------------------------------------------------------------------------------------


def wake_pipes(pipes: ModuleType, dynamodb: ModuleType) -> None:
    """Read a stream soon after a write to its table, instead of every second.

    Needs `pipes._poll_loop`, which sleeps between two looks by the module's own name `time`, and
    `dynamodb._emit_stream_event(…)`, which adds the record of a write to the stream.
    """
    need(pipes, "_poll_loop")
    emit = need(dynamodb, "_emit_stream_event")
    clock = need(pipes, "time")
    written = threading.Event()

    def emit_and_wake(*arguments: Any, **named: Any) -> None:
        emit(*arguments, **named)
        written.set()

    def sleep(seconds: float) -> None:
        if written.wait(seconds):
            time.sleep(BATCH_SECONDS)
            written.clear()

    dynamodb._emit_stream_event = emit_and_wake  # type: ignore[attr-defined]
    pipes.time = SimpleNamespace(**{**vars(clock), "sleep": sleep})  # type: ignore[attr-defined]


# -- the process -----------------------------------------------------------------------------------------------------


def apply_hooks(model: Callable[[], Any]) -> None:
    """Change MiniStack's modules. Call it before they serve requests."""
    from ministack.core import lambda_runtime
    from ministack.services import dynamodb, lambda_svc, pipes, sns, stepfunctions

    answer_converse(stepfunctions, model)
    report_exceptions_by_name(lambda_runtime, lambda_svc)
    share_workers(lambda_svc)
    fork_workers(lambda_runtime)
    mark_end_of_log(lambda_runtime)
    begin_at_once(stepfunctions)
    keep_history(stepfunctions)
    take_timeouts_from_paths(stepfunctions)
    answer_test_state(stepfunctions, need)

    def modules(name: str) -> ModuleType:
        return importlib.import_module(f"ministack.{name}")

    # These come before the hooks below, which use the same names.
    there = bridge.install(modules, need)
    pipe.install(modules, need, there or pipe.start_in(stepfunctions, need))
    faults.install(modules, need)
    iam.install(modules, need)
    record_maps(stepfunctions)
    wait_until_moments(stepfunctions)
    name_errors_as_aws(stepfunctions)
    keep_message_attributes(sns)
    parse_conditions_once(dynamodb)
    wake_pipes(pipes, dynamodb)


def main() -> None:
    """Serve until SIGTERM, or until the parent has ended."""
    model = prepare_model()
    keep_developer_out()
    end_with_parent()
    faults.keep_data()
    apply_hooks(model)
    from ministack.app import main as serve
    from ministack.core import lambda_runtime

    try:
        serve()
    finally:
        lambda_runtime.reset()  # ends the Lambdas' processes


if __name__ == "__main__":
    run("MiniStack", main)
