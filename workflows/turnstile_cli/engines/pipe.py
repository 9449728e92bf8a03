"""The pipe from a table's stream to a machine, as AWS runs it. MiniStack's pipe only starts the machine.

A pipe delivers only records that one of its filters lets through. A pipe that is to wait (REQUEST_RESPONSE) waits for
the end of the execution. It then delivers again what failed: from the first record on that the machine reports in
`batchItemFailures`, or the whole batch, halved, if the execution failed. After the last attempt it keeps the place of
the records as a dead letter. Unlike on AWS, other records do not wait.
"""

import contextvars
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

PAUSE = 0.05
"""Seconds before records are delivered again."""
KIND = "AWS::Pipes::Pipe"
PROPERTIES = "turnstile:properties"
"""The key of the template's properties in MiniStack's record of a pipe."""
Need = Callable[[ModuleType, str], Any]
Start = Callable[[str, str], Callable[[], tuple[str, str]] | None]
"""Starts an execution of a machine with an input. Returns a function that waits for its end, and gives its status and
its output; None if it was not started."""


def install(modules: Callable[[str], ModuleType], need: Need, start: Start) -> None:
    """Let the pipes filter, wait for the executions that `start` starts, and deliver again what failed.

    Needs the provisioner of `AWS::Pipes::Pipe`; `pipes._pipes`, `_deliver_batch(pipe, records)` and
    `_start_state_machine_from_records(arn, pipe, records)`, which return True if the records were taken;
    `eventbridge._compiled_pattern(text)`, `_matches_detail(value, alternative)` and `_dispatch_to_sqs(spec, payload)`;
    `dynamodb_streams._DEFAULT_SHARD_ID`; `arn.parse_arn(text)`.
    """
    pipes, eventbridge = modules("services.pipes"), modules("services.eventbridge")
    provisioners = modules("services.cloudformation.provisioners")
    handlers, stored = need(provisioners, "_RESOURCE_HANDLERS"), need(pipes, "_pipes")
    create, deliver = need(provisioners, "_pipes_pipe_create"), need(pipes, "_deliver_batch")
    need(pipes, "_start_state_machine_from_records")
    compiled, matches = need(eventbridge, "_compiled_pattern"), need(eventbridge, "_matches_detail")
    shard, send = need(modules("services.dynamodb_streams"), "_DEFAULT_SHARD_ID"), need(eventbridge, "_dispatch_to_sqs")
    parse = need(modules("core.arn"), "parse_arn")

    def create_pipe(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        name, attributes = create(logical_id, properties, stack)
        stored[name][PROPERTIES] = properties
        return name, attributes

    def passes(record: dict[str, Any], filters: list[dict[str, str]]) -> bool:
        patterns = [alternative for each in filters for alternative in compiled(each["Pattern"]) or ()]
        return not filters or any(matches(record, pattern) for pattern in patterns)

    def deliver_passing(pipe: dict[str, Any], records: list[Any]) -> bool:
        filters = pipe[PROPERTIES]["SourceParameters"].get("FilterCriteria", {}).get("Filters", [])
        passing = [record for record in records if passes(record, filters)]
        return not passing or bool(deliver(pipe, passing))

    def start_with(arn: str, pipe: dict[str, Any], records: list[Any]) -> bool:
        end = start(arn, json.dumps(records))
        target = pipe[PROPERTIES].get("TargetParameters", {}).get("StepFunctionStateMachineParameters", {})
        if end and target.get("InvocationType") == "REQUEST_RESPONSE":
            context = contextvars.copy_context()  # it has the account and the Region
            threading.Thread(target=context.run, args=(follow, arn, pipe, records, end, 0), daemon=True).start()
        return end is not None

    def follow(
        arn: str, pipe: dict[str, Any], records: list[Any], end: Callable[[], tuple[str, str]], retries: int
    ) -> None:
        status, output = end()
        left = failed(records, status, output)
        if not left:
            return
        stream = pipe[PROPERTIES]["SourceParameters"]["DynamoDBStreamParameters"]
        if retries == int(stream.get("MaximumRetryAttempts", -1)):
            send(parse(stream["DeadLetterConfig"]["Arn"]), json.dumps(dead_letter(pipe, left, shard)))
            return
        time.sleep(PAUSE)
        half = len(left) // 2 if status != "SUCCEEDED" else 0
        for part in filter(None, (left[:half], left[half:])):
            if again := start(arn, json.dumps(part)):
                follow(arn, pipe, part, again, retries + 1)

    handlers[KIND] = {**handlers[KIND], "create": create_pipe}
    pipes._deliver_batch = deliver_passing  # type: ignore[attr-defined]
    pipes._start_state_machine_from_records = start_with  # type: ignore[attr-defined]


def failed(records: list[Any], status: str, output: str) -> list[Any]:
    """Return the records that are to be delivered again after an execution."""
    if status != "SUCCEEDED":
        return records
    reported = {each["itemIdentifier"] for each in json.loads(output).get("batchItemFailures", [])}
    places = [place for place, record in enumerate(records) if record["eventID"] in reported]
    # An id of no record makes the whole batch fail.
    return records[min(places, default=0) :] if reported else []


def dead_letter(pipe: dict[str, Any], records: list[Any], shard: str) -> dict[str, Any]:
    """Return what a pipe keeps of records that it gives up: only their position in the stream."""
    first, last = (records[place]["dynamodb"] for place in (0, -1))
    arrived = [_time(change["ApproximateCreationDateTime"]) for change in (first, last)]
    return {
        "context": {"partnerResourceArn": pipe["Arn"], "condition": "RetryAttemptsExhausted"},
        "version": "1.0",
        "timestamp": _time(time.time()),
        "DDBStreamBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": first["SequenceNumber"],
            "endSequenceNumber": last["SequenceNumber"],
            "approximateArrivalOfFirstRecord": arrived[0],
            "approximateArrivalOfLastRecord": arrived[1],
            "batchSize": len(records),
            "streamArn": pipe["Source"],
        },
    }


def start_in(stepfunctions: ModuleType, need: Need) -> Start:
    """Return what starts executions in MiniStack. Needs `_start_execution(data)` and `_executions`."""
    need(stepfunctions, "_start_execution")
    executions = need(stepfunctions, "_executions")

    def start(arn: str, data: str) -> Callable[[], tuple[str, str]] | None:
        status, _headers, body = stepfunctions._start_execution({"stateMachineArn": arn, "input": data})
        if status >= 400:
            return None
        execution = executions[json.loads(body)["executionArn"]]

        def end() -> tuple[str, str]:
            while execution["status"] == "RUNNING":
                time.sleep(PAUSE)
            return execution["status"], execution["output"] or "{}"

        return end

    return start


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
