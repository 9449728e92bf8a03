"""Halts a stack, so that it can be deleted: CloudFormation waits until no execution of a machine runs any more.

The order matters. To stop an execution makes an event, which the stack's rules answer with a recovery or with another
delivery; the schedule and the pipe start executions too. So the executions are stopped last.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from turnstile_cli.stack.client import StackError

TABLE = "AgentWorkflows"
"""The resource by which a stack of this template is known."""
INTERVAL = 1.0
"""Seconds between two looks at the executions."""
QUIET = 15.0
"""Seconds without an execution after which none will start: a disabled rule still acts for a short time."""
TIMEOUT = 600.0
"""Seconds after which no execution may run any more."""
CAUSE = "The stack is halted, so that it can be deleted."
Client = Callable[[str], Any]
"""Makes the boto3 client of a service."""


class StackParts(NamedTuple):
    """The names of a stack's resources that start executions, and the ARNs of its machines."""

    rules: list[str]
    buses: list[str]
    pipes: list[str]
    machines: list[str]


def find_parts(name: str, client: Client) -> StackParts:
    """Read the resources of a stack, also if the stack was never complete or is being deleted.

    Raise StackError if the stack does not exist, or was not deployed from this template.
    """
    try:
        pages = client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
        resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    except ClientError as error:
        raise StackError(f"The stack {name} cannot be read: {error.response['Error']['Message']}") from error
    if TABLE not in {resource["LogicalResourceId"] for resource in resources}:
        raise StackError(
            f"The stack {name} has no resource {TABLE}: it was not deployed from this template.yaml, and was not halted"
        )

    def ids(kind: str) -> list[str]:
        return [
            resource["PhysicalResourceId"]
            for resource in resources
            if resource["ResourceType"] == kind
            and resource["ResourceStatus"] != "DELETE_COMPLETE"
            and resource.get("PhysicalResourceId")
        ]

    # A rule of another bus than `default` has the id `BUS|RULE`.
    rules = [rule.rpartition("|")[2] for rule in ids("AWS::Events::Rule")]
    machines = ids("AWS::StepFunctions::StateMachine")
    return StackParts(rules, ["default", *ids("AWS::Events::EventBus")], ids("AWS::Pipes::Pipe"), machines)


def running_executions(parts: StackParts, client: Client) -> list[str]:
    """Return the ARNs of the executions that run. An Express machine lists none: its executions end by themselves."""
    states = client("stepfunctions")
    unlisted = (
        states.exceptions.InvalidArn,  # a machine that could not be created has only a name
        states.exceptions.StateMachineDoesNotExist,
        states.exceptions.StateMachineTypeNotSupported,
    )
    found: list[str] = []
    for machine in parts.machines:
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine, statusFilter="RUNNING")
        with suppress(*unlisted):
            found += [execution["executionArn"] for page in pages for execution in page["executions"]]
    return found


def halt(parts: StackParts, client: Client) -> list[str]:
    """Disable the rules, stop the pipe, then stop each execution until none runs; return the stopped executions.

    Raise StackError if executions still run after TIMEOUT seconds.
    """
    events, pipes = client("events"), client("pipes")
    for rule in parts.rules:
        for bus in parts.buses:
            with suppress(events.exceptions.ResourceNotFoundException):
                events.disable_rule(Name=rule, EventBusName=bus)
    for pipe in parts.pipes:
        # The pipe is gone, has stopped, or is about to be deleted.
        with suppress(pipes.exceptions.NotFoundException, pipes.exceptions.ConflictException):
            pipes.stop_pipe(Name=pipe)
    return _stop_executions(parts, client)


def _stop_executions(parts: StackParts, client: Client) -> list[str]:
    states = client("stepfunctions")
    ended = (states.exceptions.ExecutionDoesNotExist, states.exceptions.ValidationException)
    stopped: list[str] = []
    begun = last_seen = time.monotonic()
    while True:
        running = running_executions(parts, client)
        now = time.monotonic()
        if not running and now - last_seen >= QUIET:
            return stopped
        if running and now - begun > TIMEOUT:
            raise StackError(
                f"Executions still start after {TIMEOUT:.0f} seconds, the last is {running[0]}; stop what starts them"
            )
        for arn in running:
            with suppress(*ended):  # it has ended by itself meanwhile
                states.stop_execution(executionArn=arn, cause=CAUSE)
                stopped.append(arn)
            last_seen = now
        time.sleep(INTERVAL)
