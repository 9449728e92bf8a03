"""IAM in the embedded engine's process: it checks each call of a machine, a rule, a pipe and a function with its role.

MiniStack checks the calls that come over HTTP, which are those of the functions. It carries out a task, starts an
execution for a rule or a pipe, and puts a rule's message into a topic, without asking. These hooks ask its own
evaluator before. They also give it three things that our policies use and that it does not know:
`dynamodb:LeadingKeys`, `events:source`, and the policy of a bus.

Each thing that was asked is written once into the file that `TURNSTILE_PERMISSIONS` names, as a line of JSON. When the
file is removed, the list begins again.
"""

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from turnstile_agents.record import Model
from turnstile_cli.machines.permissions import Account, Permission, UnknownTask, keys_of_events, keys_of_item, needed

FILE = "TURNSTILE_PERMISSIONS"
_LOG = logging.getLogger(__name__)
Need = Callable[[Any, str], Any]

_REFUSED = {
    "dynamodb": "DynamoDb.DynamoDbException",
    "bedrock": "BedrockRuntime.AccessDeniedException",
    "states": "Sfn.SfnException",
    "events": "EventBridge.EventBridgeException",
    "lambda": "Lambda.AWSLambdaException",
    "sns": "SNS.AuthorizationErrorException",
    "sqs": "Sqs.SqsException",
}
"""The error of a task whose role lacks a permission; the general error where the service's model has no own name."""


class Asked(Model):
    """A permission that the engine was asked for."""

    role: str
    """The role's name in IAM."""
    action: str
    resource: str
    keys: dict[str, list[str]]
    """The condition keys of the request that our policies name."""
    allowed: bool


class Denied(Exception):
    """A role lacks a permission; the message is in AWS's words."""


def install(modules: Callable[[str], ModuleType], need: Need) -> None:
    """Check every call.

    Args:
        modules: returns a module of MiniStack by its name inside the package, such as `services.pipes`.
        need: returns a private attribute of a module; fails if it is gone.
    """
    roles = _Roles(modules, need, _Record(Path(os.environ[FILE])))
    _know_keys(modules("core.iam_actions"), need)
    _know_policies_of_buses(modules, need)
    _name_roles(modules("core.iam_evaluator"), need)
    _list_calls_of_functions(modules("core.iam_evaluator"), roles, need)
    _check_tasks(modules("services.stepfunctions"), roles, need)
    _check_rules(modules("services.eventbridge"), roles, need)
    _check_pipes(modules("services.pipes"), roles, need)


class _Record:
    """The file of what was asked."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def add(self, role: str, permission: Permission, allowed: bool) -> None:
        asked = Asked(
            role=role,
            action=permission.action,
            resource=re.sub(r"(:execution:.*:).*", r"\1ID", permission.resource),
            keys={
                name: sorted({_kind(value) for value in values} if name == "dynamodb:LeadingKeys" else values)
                for name, values in permission.keys.items()
            },
            allowed=allowed,
        )
        line = asked.model_dump_json()
        with self._lock:
            if not self._file.exists():
                self._known.clear()
            if line not in self._known:
                self._known.add(line)
                with self._file.open("a", encoding="utf-8") as out:
                    out.write(f"{line}\n")


def _kind(key: str) -> str:
    """Return the kind of an item's key, `DEFINITION#` or `AGENT`, so that the list does not grow with the agents."""
    return f"{key.partition('#')[0]}#" if "#" in key else "AGENT"


class _Roles:
    """The roles of the stack, and MiniStack's evaluator of their policies.

    Needs of `core.iam_evaluator`: `EvalContext`, `evaluate(context, policies)`, `_gather_role_policies(role, account)`,
    `_resource_policy(service, arn)`, `combine_resource_policy(result, context, policy, owner)` and
    `evaluate_resource_policy(policy, context, service)`; of `services.iam`, `_roles`.
    """

    def __init__(self, modules: Callable[[str], ModuleType], need: Need, record: _Record) -> None:
        evaluator = modules("core.iam_evaluator")
        self._context = need(evaluator, "EvalContext")
        self._evaluate = need(evaluator, "evaluate")
        self._policies = need(evaluator, "_gather_role_policies")
        self._policy_of = need(evaluator, "_resource_policy")
        self._combine = need(evaluator, "combine_resource_policy")
        self._evaluate_policy = need(evaluator, "evaluate_resource_policy")
        self._roles = need(modules("services.iam"), "_roles")
        responses = modules("core.responses")
        self._account, self._region = need(responses, "get_account_id"), need(responses, "get_region")
        self.record = record

    @property
    def account(self) -> Account:
        """The account and the Region of the present call."""
        return Account(self._region(), self._account())

    def check(self, role_arn: str, service: str, permissions: list[Permission]) -> None:
        """Check that a service may use a role, and that the role allows everything. Raise Denied otherwise."""
        name = role_arn.rpartition("/")[2]
        self._check_trust(name, service)
        for permission in permissions:
            allowed = self._allows(name, permission)
            self.record.add(name, permission, allowed)
            if not allowed:
                raise Denied(
                    f"User: {self._session(name)} is not authorized to perform: {permission.action} on resource: "
                    f"{permission.resource} because no identity-based policy allows the {permission.action} action"
                )

    def _check_trust(self, name: str, service: str) -> None:
        role = self._roles.get_scoped(self._account(), None, name)
        context = self._of("*", Permission("sts:AssumeRole", "*"), {"aws:sourceaccount": self._account()})
        trust = role["AssumeRolePolicyDocument"] if role else None
        if self._evaluate_policy(trust, context, service).decision != "Allow":
            raise Denied(f"{service} is not authorized to assume the role {name}")

    def _allows(self, name: str, permission: Permission) -> bool:
        keys = {key.lower(): values for key, values in _as_lists(permission.keys).items()}
        context = self._of(self._session(name), permission, keys)
        result = self._evaluate(context, self._policies(name, self._account()))
        policy = self._policy_of(permission.service, permission.resource)
        return bool((self._combine(result, context, *policy) if policy else result).decision == "Allow")

    def _of(self, principal: str, permission: Permission, keys: Mapping[str, Any]) -> Any:
        return self._context(
            principal_arn=principal,
            principal_type="AssumedRole",
            principal_account=self._account(),
            action=permission.action,
            resource_arn=permission.resource,
            region=self._region(),
            service_context=dict(keys),
        )

    def _session(self, name: str) -> str:
        return f"arn:aws:sts::{self._account()}:assumed-role/{name}/turnstile"


def _know_keys(iam_actions: ModuleType, need: Need) -> None:
    """Give the evaluator the condition keys that our policies use, for calls over HTTP.

    Needs `dynamodb_service_context(body)` and `request_tag_context(service, action, body, params)`, whose results are
    the request's keys.
    """
    of_dynamodb = need(iam_actions, "dynamodb_service_context")
    of_tags = need(iam_actions, "request_tag_context")

    def dynamodb_service_context(body: bytes) -> dict[str, Any]:
        return {**of_dynamodb(body), **_as_lists(keys_of_item(_read(body)))}

    def request_tag_context(service: str, action: str, body: bytes, params: Any) -> dict[str, Any]:
        more = keys_of_events(_read(body)) if action == "events:PutEvents" else {}
        return {**of_tags(service, action, body, params), **_as_lists(more)}

    iam_actions.dynamodb_service_context = dynamodb_service_context  # type: ignore[attr-defined]
    iam_actions.request_tag_context = request_tag_context  # type: ignore[attr-defined]


def _as_lists(keys: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Return the values of condition keys in the form that the evaluator takes as several values."""
    return {name: list(values) for name, values in keys.items()}


def _read(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _know_policies_of_buses(modules: Callable[[str], ModuleType], need: Need) -> None:
    """Keep the policy of a bus, which CloudFormation's `Policy` gives it, and let the evaluator ask for it.

    Needs the evaluator's `_RESOURCE_POLICY_LOOKUPS`, `eventbridge._event_bus_policies`, and the provisioner of
    `AWS::Events::EventBus`.
    """
    eventbridge = modules("services.eventbridge")
    provisioners = modules("services.cloudformation.provisioners")
    create = need(provisioners, "_eb_event_bus_create")
    handlers = need(provisioners, "_RESOURCE_HANDLERS")
    policies = need(eventbridge, "_event_bus_policies")
    lookups = need(modules("core.iam_evaluator"), "_RESOURCE_POLICY_LOOKUPS")
    account = need(modules("core.responses"), "get_account_id")

    def create_bus(logical_id: str, props: dict[str, Any], stack: str) -> Any:
        name, attributes = create(logical_id, props, stack)
        if "Policy" in props:
            policies[name] = props["Policy"]
        return name, attributes

    def bus_policy_for_arn(arn: str) -> tuple[Any, str] | None:
        policy = policies.get(arn.rpartition("/")[2])
        return (policy, account()) if policy else None

    handlers["AWS::Events::EventBus"] = {**handlers["AWS::Events::EventBus"], "create": create_bus}
    eventbridge.bus_policy_for_arn = bus_policy_for_arn  # type: ignore[attr-defined]
    lookups["events"] = ("eventbridge", "bus_policy_for_arn")


def _name_roles(evaluator: ModuleType, need: Need) -> None:
    """Let `aws:PrincipalArn` be the ARN of the role, as on AWS, also for a session of the role.

    Needs `_resolve_condition_key(key, context)`.
    """
    resolve = need(evaluator, "_resolve_condition_key")

    def resolve_key(key: str, context: Any) -> Any:
        value = resolve(key, context)
        if key.lower() != "aws:principalarn" or ":assumed-role/" not in value:
            return value
        return f"arn:aws:iam::{context.principal_account}:role/{value.split('/')[1]}"

    evaluator._resolve_condition_key = resolve_key  # type: ignore[attr-defined]


def _list_calls_of_functions(evaluator: ModuleType, roles: _Roles, need: Need) -> None:
    """List what the functions' roles are asked for.

    Needs `enforce(access_key, action, service, region, resource_arn, service_context)`, which gives None if the call is
    allowed, and of `resolve_principal(access_key, account)` the `arn`.
    """
    enforce = need(evaluator, "enforce")
    resolve = need(evaluator, "resolve_principal")

    def enforce_and_list(
        access_key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        refused = enforce(access_key, action, service, region, resource_arn, service_context)
        arn = getattr(resolve(access_key or "", roles.account.id), "arn", "")
        if ":assumed-role/" in arn:
            keys = {
                name: tuple(values)
                for name, values in (service_context or {}).items()
                if name in ("dynamodb:LeadingKeys", "events:source")
            }
            roles.record.add(arn.split("/")[1], Permission(action, resource_arn, keys), refused is None)
        return refused

    evaluator.enforce = enforce_and_list  # type: ignore[attr-defined]


_machine: ContextVar[str] = ContextVar("machine", default="")
"""The ARN of the role of the machine whose task runs; empty outside a task."""


def _check_tasks(stepfunctions: ModuleType, roles: _Roles, need: Need) -> None:
    """Check each task with the role of its machine, before its call.

    Needs `_execute_task(state, data, execution, ctx)`, and the functions that it calls in a copy of its context:
    `_invoke_resource(resource, input)` and, for a task token, `_invoke_with_callback(resource, input, token, state)`;
    `_state_machines`, `_ExecutionError(error, cause)`, and `_test_state(data)`, which gets a role with its state.
    """
    execute_task = need(stepfunctions, "_execute_task")
    invoke_resource = need(stepfunctions, "_invoke_resource")
    invoke_with_callback = need(stepfunctions, "_invoke_with_callback")
    test_state = need(stepfunctions, "_test_state")
    machines = need(stepfunctions, "_state_machines")
    failed = need(stepfunctions, "_ExecutionError")

    def execute(state: dict[str, Any], data: Any, execution: dict[str, Any], ctx: dict[str, Any]) -> Any:
        token = _machine.set(machines[execution["stateMachineArn"]]["roleArn"])
        try:
            return execute_task(state, data, execution, ctx)
        finally:
            _machine.reset(token)

    def check(resource: str, data: Any) -> None:
        try:
            permissions = list(needed(resource, data, roles.account))
        except UnknownTask as unknown:
            raise failed("States.Runtime", str(unknown)) from unknown
        try:
            roles.check(_machine.get(), "states.amazonaws.com", permissions)
        except Denied as denied:
            raise failed(_REFUSED[permissions[0].service], str(denied)) from denied

    def invoke(resource: str, data: Any) -> Any:
        check(resource, data)
        return invoke_resource(resource, data)

    def invoke_and_wait(resource: str, data: Any, token: str, state: dict[str, Any]) -> Any:
        check(resource, data)
        return invoke_with_callback(resource, data, token, state)

    def test(data: dict[str, Any]) -> Any:
        token = _machine.set(data.get("roleArn", ""))
        try:
            return test_state(data)
        finally:
            _machine.reset(token)

    stepfunctions._test_state = test  # type: ignore[attr-defined]
    stepfunctions._execute_task = execute  # type: ignore[attr-defined]
    stepfunctions._invoke_resource = invoke  # type: ignore[attr-defined]
    stepfunctions._invoke_with_callback = invoke_and_wait  # type: ignore[attr-defined]


_target: ContextVar[str] = ContextVar("target", default="")
"""The ARN of the role of the rule's target that an event goes to."""


def _check_rules(eventbridge: ModuleType, roles: _Roles, need: Need) -> None:
    """Check each start of an execution, and each message to a topic, with the role of the rule's target.

    A refused event is lost, with a log. Needs `_invoke_target(target, event, rule, view)`, which calls
    `_dispatch_to_stepfunctions(arn, payload)` or `_dispatch_to_sns(arn, payload)`.
    """
    invoke_target = need(eventbridge, "_invoke_target")

    def invoke(target: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        token = _target.set(target.get("RoleArn", ""))
        try:
            return invoke_target(target, *arguments, **named)
        finally:
            _target.reset(token)

    def checked(action: str, dispatch: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
        def deliver(arn: str, payload: str) -> Any:
            try:
                roles.check(_target.get(), "events.amazonaws.com", [Permission(action, arn)])
            except Denied as denied:
                _LOG.error("EventBridge did not deliver to %s: %s", arn, denied)
                return None
            return dispatch(arn, payload)

        return deliver

    start, publish = need(eventbridge, "_dispatch_to_stepfunctions"), need(eventbridge, "_dispatch_to_sns")
    eventbridge._invoke_target = invoke  # type: ignore[attr-defined]
    eventbridge._dispatch_to_stepfunctions = checked("states:StartExecution", start)  # type: ignore[attr-defined]
    eventbridge._dispatch_to_sns = checked("sns:Publish", publish)  # type: ignore[attr-defined]


def _check_pipes(pipes: ModuleType, roles: _Roles, need: Need) -> None:
    """Check each batch with the role of its pipe: the reading of the stream, and the start of the target.

    Needs `_start_state_machine_from_records(arn, pipe, records)`, which returns True if it took the records.
    """
    start = need(pipes, "_start_state_machine_from_records")

    def check_and_start(arn: str, pipe: dict[str, Any], records: list[Any]) -> bool:
        stream = pipe["Source"]
        reading = [
            Permission(f"dynamodb:{action}", stream) for action in ("DescribeStream", "GetShardIterator", "GetRecords")
        ]
        listing = Permission("dynamodb:ListStreams", f"{stream.rpartition('/')[0]}/*")
        try:
            roles.check(
                pipe["RoleArn"],
                "pipes.amazonaws.com",
                [*reading, listing, Permission("states:StartSyncExecution", arn)],
            )
        except Denied as denied:
            _LOG.error("The pipe %s did not deliver %d records: %s", pipe.get("Name"), len(records), denied)
            return False
        return bool(start(arn, pipe, records))

    pipes._start_state_machine_from_records = check_and_start  # type: ignore[attr-defined]
