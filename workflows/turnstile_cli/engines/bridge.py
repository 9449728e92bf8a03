"""The bridge in the embedded engine's process: it starts machines on another Step Functions instead.

MiniStack still matches events to rules and reads the table's stream. Only the last step, starting an execution, goes to
the endpoint that `TURNSTILE_STEP_FUNCTIONS` names. Machines have the same ARNs there. The bridge puts the executions'
changes of status on the default bus as `aws.states`. The strict engine tells it of each change; any other Step
Functions is polled.

Every Lambda uses that Step Functions too, because boto3 reads `AWS_ENDPOINT_URL_SFN`.
"""

import datetime as dt
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from turnstile_cli.engines.failure import failure
from turnstile_cli.engines.pipe import Start

STEP_FUNCTIONS = "TURNSTILE_STEP_FUNCTIONS"
"""The environment variable that names the URL of the other Step Functions."""
BOTO3_ENDPOINT = "AWS_ENDPOINT_URL_SFN"
CHANGES = "/turnstile/changes/"
"""The path at which the strict engine tells the executions whose status changed, after the number of those told."""
INTERVAL = 0.3
"""Seconds between two looks at the executions there."""
PAGE = 1000
"""Executions in one page of a list: the largest number that the API allows."""
_LOG = logging.getLogger(__name__)
Need = Callable[[ModuleType, str], Any]


def install(modules: Callable[[str], ModuleType], need: Need) -> Start | None:
    """Redirect the starts of machines, if another Step Functions is named. Return what starts them there, for a pipe.

    Needs `eventbridge._dispatch_to_stepfunctions(arn, payload)` and
    `stepfunctions._emit_execution_status_event(execution)`.
    """
    endpoint = os.environ.get(STEP_FUNCTIONS)
    if not endpoint:
        return None
    os.environ[BOTO3_ENDPOINT] = endpoint
    config = Config(proxies={}, connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
    client = boto3.client("stepfunctions", region_name="us-east-1", endpoint_url=endpoint, config=config)
    eventbridge = modules("services.eventbridge")
    need(eventbridge, "_dispatch_to_stepfunctions")

    def start(arn: str, data: str) -> Callable[[], tuple[str, str]] | None:
        try:
            started = client.start_execution(stateMachineArn=arn, input=data)["executionArn"]
        except (BotoCoreError, ClientError):
            _LOG.exception("%s was not started on %s", arn, endpoint)
            return None
        return lambda: _end(client, started)

    eventbridge._dispatch_to_stepfunctions = start  # type: ignore[attr-defined]
    emit = need(modules("services.stepfunctions"), "_emit_execution_status_event")
    threading.Thread(target=_watch, args=(Changes(client), endpoint, emit), daemon=True).start()
    return start


def _end(client: Any, arn: str) -> tuple[str, str]:
    """Wait for the end of an execution; return its status and its output."""
    while (execution := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(INTERVAL)
    return execution["status"], execution.get("output", "{}")


class Changes:
    """The changes of status of the executions on a Step Functions that does not publish them itself."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._since = dt.datetime.now(dt.UTC)
        """Executions that were started before this time are ignored."""
        self._known: set[str] = set()
        self._running: set[str] = set()

    def of(self, arns: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield these executions in the shape of DescribeExecution: each after its start, and after its end."""
        for arn in arns:
            if arn in self._known and arn not in self._running:  # it ended before its start was told
                continue
            execution = self._describe(arn)
            self._known.add(arn)
            (self._running.add if execution["status"] == "RUNNING" else self._running.discard)(arn)
            yield execution

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the executions that started or ended since the last look, in the shape of DescribeExecution."""
        for machine in self._machines():
            pages = self._client.get_paginator("list_executions").paginate(
                stateMachineArn=machine, PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                arns = {each["executionArn"] for each in page["executions"] if each["startDate"] >= self._since}
                unknown = arns - self._known
                for arn in unknown:
                    execution = self._describe(arn)
                    self._known.add(arn)
                    if execution["status"] == "RUNNING":
                        self._running.add(arn)
                    yield execution
                # AWS lists the newest first. An engine with another order has few executions: one page holds them all.
                if not unknown:
                    break
        for arn in list(self._running):
            execution = self._describe(arn)
            if execution["status"] != "RUNNING":
                self._running.discard(arn)
                yield execution

    def _describe(self, arn: str) -> dict[str, Any]:
        execution = self._client.describe_execution(executionArn=arn)
        error, cause = failure(self._client, execution)
        return {**execution, **({"error": error, "cause": cause} if error else {})}

    def _machines(self) -> list[str]:
        """Return the ARNs of the machines that publish changes of status: an Express machine does not."""
        pages = self._client.get_paginator("list_state_machines").paginate()
        machines = [machine for page in pages for machine in page["stateMachines"]]
        return [machine["stateMachineArn"] for machine in machines if machine.get("type") != "EXPRESS"]


def _watch(changes: Changes, endpoint: str, emit: Callable[[dict[str, Any]], None]) -> None:
    count = 0
    while True:
        told: list[str] | None = None
        try:
            told = _told(endpoint, count)
            count += len(told or ())
            for execution in changes.new() if told is None else changes.of(told):
                emit(
                    {
                        **execution,
                        "startDate": _iso(execution["startDate"]),
                        "stopDate": _iso(execution.get("stopDate")),
                    }
                )
        except (BotoCoreError, ClientError, OSError) as error:  # it does not run yet, or has ended
            _LOG.debug("the executions cannot be read: %s", error)
        if told is None:
            time.sleep(INTERVAL)


def _told(endpoint: str, count: int) -> list[str] | None:
    """Wait for the next changes of status after the first `count`; return the executions' ARNs.

    Return None if this Step Functions does not tell them.
    """
    try:
        with urlopen(f"{endpoint}{CHANGES}{count}") as answer:
            told: list[str] = json.loads(answer.read())
            return told
    except HTTPError:
        return None


def _iso(moment: dt.datetime | None) -> str | None:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None
