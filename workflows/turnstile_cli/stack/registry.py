"""Register agents: an agent.yaml becomes the next version of a definition in the stack's table."""

import datetime as dt
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from jsonschema import Draft202012Validator, SchemaError
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from turnstile_agents.built_in import BUILT_INS
from turnstile_agents.decorator import ToolHandler
from turnstile_agents.definition import (
    Compensation,
    Definition,
    Delegate,
    Limits,
    ModelSettings,
    OnUnknown,
    Tool,
    ToolName,
    definition_key,
    version_record,
)
from turnstile_agents.record import AGENT_ID, Model
from turnstile_cli.loader import SafeLoader
from turnstile_cli.stack.client import Stack, StackError

DEFAULT_TIMEOUT = 30
_FILE = ConfigDict(alias_generator=to_camel, validate_by_name=False, extra="forbid", frozen=True)


class AgentFileError(StackError):
    """An agent.yaml cannot be registered; the message names the file, the field and the mistake."""


def _micro_usd(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number of US dollars")
    if round(value * 1_000_000) < 1:
        raise ValueError("must be more than 0 US dollars")
    return round(value * 1_000_000)


class FileLimits(Limits):
    """`Limits` in the file: the cost is `costUsd`, in US dollars."""

    model_config = _FILE
    cost_micro_usd: Annotated[int, Field(alias="costUsd"), BeforeValidator(_micro_usd)] = Limits().cost_micro_usd


class FileModel(ModelSettings):
    """`ModelSettings` in the file: without an `id`, the agent uses the stack's own model."""

    model_config = _FILE
    id: Annotated[str, Field(min_length=1)] = ""


class FileTool(Model):
    """A tool: with a `handler` in Python that can be imported here, or with all its fields in the file."""

    model_config = _FILE
    name: ToolName
    handler: Annotated[str | None, Field(description="The module that has the tool's `handler`, and that name")] = None
    description: Annotated[str | None, Field(min_length=1)] = None
    input_schema: dict[str, Any] | None = None
    effect: Literal["read", "write"] | None = None
    hidden: bool = False
    alternatives: list[ToolName] = []
    compensation: Compensation | None = None
    idempotent: Annotated[
        Literal[True] | None, Field(description="Whether a tool from elsewhere acts only once for calls with one key")
    ] = None
    on_unknown: OnUnknown | None = None
    reconcile: ToolName | None = None
    function: Annotated[str | None, Field(min_length=1, description="The Lambda; <stack>-tool-<name> otherwise")] = None
    timeout_seconds: Annotated[int, Field(ge=1, le=900, description="The function's own timeout")] = DEFAULT_TIMEOUT
    approval: Literal["never", "always"] | dict[str, Any] = "never"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        inline = {"description": self.description, "inputSchema": self.input_schema, "effect": self.effect}
        given = [name for name, value in {**inline, "idempotent": self.idempotent}.items() if value is not None]
        missing = [name for name, value in inline.items() if value is None]
        if self.handler and given:
            raise ValueError(f"has a handler, which says {', '.join(given)} already")
        if not self.handler and missing:
            raise ValueError(f"needs a handler, or {', '.join(missing)}")
        if self.on_unknown == "retry" and not (self.handler or self.idempotent):
            raise ValueError(
                "onUnknown: retry calls again with the same key; say `idempotent: true` if the tool then acts only once"
            )
        if self.name in BUILT_INS:
            raise ValueError(f"{self.name} is a tool that every agent has; choose another name")
        return self


class AgentFile(Model):
    """The content of an agent.yaml."""

    model_config = _FILE
    name: Annotated[str, StringConstraints(pattern=AGENT_ID)]
    description: str = ""
    instructions: Annotated[str, Field(min_length=1)]
    model: FileModel = FileModel()
    limits: FileLimits = FileLimits()
    tools: list[FileTool] = []
    delegates: list[Delegate] = []

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        for kind, named in (("tools", self.tools), ("delegates", self.delegates)):
            names = [one.name for one in named]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two {kind} are named {', '.join(twice)}")
        return self


class Settling(Model):
    """How a write tool's call is settled when its outcome is unknown, and why."""

    tool: str
    on_unknown: OnUnknown
    reconcile: str | None
    why: str

    def __str__(self) -> str:
        """Write it in one line."""
        look_up = f"looked up with {self.reconcile}"
        how = {
            "ask": "an operator is asked",
            "retry": f"called again by its key, then {look_up}" if self.reconcile else "called again by its key",
            "reconcile": look_up,
        }[self.on_unknown]
        return f"{self.tool}: {how} ({self.why})"


def settlings(path: Path, definition: Definition) -> list[Settling]:
    """Return for each write tool of an agent.yaml how a call with an unknown outcome is settled, as registered."""
    told = {tool.name: _on_unknown(tool)[1] for tool in read_agent_file(path).tools}
    return [
        Settling(tool=tool.name, on_unknown=tool.on_unknown, reconcile=tool.reconcile, why=told[tool.name])
        for tool in definition.tools
        if tool.effect == "write"
    ]


def register(stack: Stack, path: Path, limits: Mapping[str, Any] | None = None) -> Definition:
    """Register the agent of an agent.yaml as the next version of its definition, and return that definition.

    `limits`, in the camelCase of `turnstile_agents.definition.Limits`, replace the file's limits.

    If the file equals the latest version, that version is returned and nothing is written.

    Raises:
        AgentFileError: the file is wrong, or names a tool that cannot be found here.
        StackError: a tool's function is not deployed, an agent that it delegates to is not registered, or another user
            registered this agent at the same time.
    """
    file = read_agent_file(path)
    with _importable(path.parent):
        tools = [_tool(path, index, tool, stack.name) for index, tool in enumerate(file.tools)]
    latest = latest_definition(stack, file.name)
    settings = file.model.model_dump()
    limits = Limits.model_validate(file.limits.model_dump()).dump() | dict(limits or {})
    with _naming(path):
        definition = Definition(
            name=file.name,
            version=latest.version + 1 if latest else 1,
            description=file.description,
            instructions=file.instructions,
            model=ModelSettings.model_validate({**settings, "id": file.model.id or stack.outputs.model_id}),
            limits=Limits.model_validate(limits),
            tools=tools,
            delegates=file.delegates,
        )
    for tool in tools:
        _check_function(stack, tool)
    for delegate in file.delegates:
        _check_delegate(stack, file.name, delegate.name)
    if latest and definition == latest.model_copy(update={"version": definition.version}):
        return latest
    _write(stack, definition)
    return definition


def read_agent_file(path: Path) -> AgentFile:
    """Read an agent.yaml. Raise AgentFileError if it is wrong."""
    try:
        content = yaml.load(path.read_text("utf-8"), SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise AgentFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise AgentFileError(f"{path} is no valid YAML: {error}") from error
    with _naming(path):
        return AgentFile.model_validate(content)


def latest_definition(stack: Stack, name: str) -> Definition | None:
    """Return the newest version of a definition; None if the agent is not registered."""
    return stack.table.definition(name)


def _on_unknown(tool: FileTool) -> tuple[OnUnknown, str]:
    """Return what to do about an unknown outcome, and why. The default is a call by key where it cannot act twice."""
    if tool.on_unknown:
        return tool.on_unknown, f"the file says onUnknown: {tool.on_unknown}"
    if tool.handler:
        return "retry", "made with @tool, which knows a call by its key"
    if tool.idempotent:
        return "retry", "the file says idempotent: true"
    if tool.reconcile:
        return "reconcile", f"the file names the look-up {tool.reconcile}"
    return "ask", "from elsewhere, and the file says neither idempotent: true nor reconcile"


def _tool(path: Path, index: int, tool: FileTool, stack: str) -> Tool:
    place = f"{path}: tools.{index} ({tool.name})"
    if tool.handler:
        handler = _handler(place, tool.handler)
        description, schema, effect = handler.description, handler.input_schema, handler.effect
        if tool.compensation:
            _check_fields(f"{place}.compensation.arguments", tool.compensation, handler)
    else:
        assert tool.description and tool.input_schema is not None and tool.effect  # FileTool has checked this
        description, schema, effect = tool.description, tool.input_schema, tool.effect
    _check_schema(f"{place}.inputSchema", schema)
    if schema.get("type") != "object":
        raise AgentFileError(f"{place}.inputSchema: the arguments of a tool are an object; say `type: object`")
    if isinstance(tool.approval, dict):
        _check_condition(f"{place}.approval", tool.approval, schema)
    return Tool(
        name=tool.name,
        description=description,
        input_schema=schema,
        function=tool.function or f"{stack}-tool-{tool.name}",
        effect=effect,
        timeout_seconds=tool.timeout_seconds,
        hidden=tool.hidden,
        alternatives=tool.alternatives,
        compensation=tool.compensation,
        on_unknown=_on_unknown(tool)[0] if effect == "write" else "ask",
        reconcile=tool.reconcile,
        approval=tool.approval,
    )


def _handler(place: str, name: str) -> ToolHandler:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a user's module may raise any error while it is imported
        why = str(error) if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: {error}"
        raise AgentFileError(
            f"{place}.handler: the module {name} cannot be imported: {why}. Python looks for it in functions/ (as for "
            "tools.book_flight.handler) and beside the file"
        ) from error
    handler = getattr(module, "handler", None)
    if not isinstance(handler, ToolHandler):
        raise AgentFileError(f"{place}.handler: the module {name} has no `handler` that was made with @tool")
    return handler


def _check_schema(place: str, schema: dict[str, Any]) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise AgentFileError(f"{place}: no JSON schema: {error.json_path}: {error.message}") from error
    if elsewhere := sorted(reference for reference in _references(schema) if not reference.startswith("#/$defs/")):
        raise AgentFileError(f"{place}: {elsewhere[0]} is not in the schema; refer only to entries of its `$defs`")


def _check_condition(place: str, condition: dict[str, Any], arguments: dict[str, Any]) -> None:
    """Raise AgentFileError for a condition with a mistake: it would let calls through that need an approval."""
    if not condition:
        raise AgentFileError(f"{place}: an empty schema matches every call; say `always` if you mean that")
    _check_schema(place, condition)
    known = arguments.get("properties", {})
    named = [*condition.get("properties", {}), *condition.get("required", [])]
    if unknown := [name for name in named if name not in known]:
        raise AgentFileError(f"{place}: {unknown[0]} is no argument of this tool; it has {', '.join(known) or 'none'}")


def _check_fields(place: str, compensation: Compensation, handler: ToolHandler) -> None:
    """Raise AgentFileError if a compensation needs a field that the tool's output does not have.

    The output of a tool without a `handler` is not known here. An output that may have any fields passes the check.
    """
    output = handler.output_schema
    known = output.get("properties", {})
    if output.get("additionalProperties", False):
        return
    for argument, field in compensation.arguments.items():
        if field not in known:
            raise AgentFileError(
                f"{place}.{argument}: {field} is no field of the output of {handler.name}; its fields are "
                f"{', '.join(known) or 'none'}"
            )


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _check_function(stack: Stack, tool: Tool) -> None:
    try:
        configuration = stack.lambdas.get_function(FunctionName=tool.function)["Configuration"]
    except stack.lambdas.exceptions.ResourceNotFoundException as error:
        raise StackError(
            f"There is no Lambda {tool.function}, which the tool {tool.name} needs. Deploy a Lambda with this name "
            f"(template.yaml shows the sample tools), or name another with `function`"
        ) from error
    if configuration["Timeout"] > tool.timeout_seconds:
        raise StackError(
            f"The Lambda {tool.function} may run for {configuration['Timeout']} seconds, but the tool {tool.name} has "
            f"timeoutSeconds {tool.timeout_seconds}: the machine would give it up while it works. Say "
            f"timeoutSeconds: {configuration['Timeout']}"
        )
    if not tool.function.startswith(f"{stack.name}-tool-"):
        _check_allowed(stack, tool)


def _check_allowed(stack: Stack, tool: Tool) -> None:
    """Check that a Lambda of another stack lets the machines of this one call it."""
    roles = (stack.outputs.agent_turn_role_arn, stack.outputs.agent_recovery_role_arn)
    allowed = _allowed_by(stack, tool.function)
    missing = [role for role in roles if role not in allowed]
    if missing:
        commands = "\n".join(
            f"  aws lambda add-permission --function-name {tool.function} --action lambda:InvokeFunction "
            f"--statement-id {role.rpartition('/')[2]} --principal {role}"
            for role in missing
        )
        raise StackError(
            f"The Lambda {tool.function} of the tool {tool.name} is not of this stack, and its policy does not allow "
            f"the machines to call it. Allow them:\n{commands}"
        )


def _allowed_by(stack: Stack, function: str) -> set[str]:
    """Return the ARNs of the principals that a Lambda's own policy allows to call it."""
    try:
        policy = json.loads(stack.lambdas.get_policy(FunctionName=function)["Policy"])
    except stack.lambdas.exceptions.ResourceNotFoundException:
        return set()
    principals: set[str] = set()
    for statement in policy["Statement"]:
        if statement["Effect"] == "Allow" and statement["Action"] == "lambda:InvokeFunction":
            principal = statement["Principal"]
            named = principal if isinstance(principal, str) else principal.get("AWS", [])
            principals |= {named} if isinstance(named, str) else set(named)
    return principals


def _check_delegate(stack: Stack, agent: str, name: str) -> None:
    if name != agent and latest_definition(stack, name) is None:
        raise StackError(
            f"The agent {agent} delegates to {name}, which is not registered in the stack {stack.name}. Register "
            f"{name} first (turnstile register PATH), or remove it from `delegates`"
        )


def _write(stack: Stack, definition: Definition) -> None:
    """Write both items in one transaction, only if the version that was read is still the latest."""
    partition = definition_key(definition.name)
    item = {
        "agentId": {"S": partition},
        "version": {"N": str(definition.version)},
        "definition": {"S": definition.model_dump_json(by_alias=True)},
        "registeredAt": {"S": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")},
    }
    table = stack.outputs.table_name
    try:
        stack.dynamodb.transact_write_items(
            TransactItems=[
                {
                    "Put": {
                        "TableName": table,
                        "Item": {**item, "record": {"S": version_record(definition.version)}},
                        "ConditionExpression": "attribute_not_exists(agentId)",
                    }
                },
                {
                    "Put": {
                        "TableName": table,
                        "Item": {**item, "record": {"S": "LATEST"}},
                        "ConditionExpression": "attribute_not_exists(agentId) OR version = :previous",
                        "ExpressionAttributeValues": {":previous": {"N": str(definition.version - 1)}},
                    }
                },
            ]
        )
    except stack.dynamodb.exceptions.TransactionCanceledException as error:
        if not any(reason["Code"] == "ConditionalCheckFailed" for reason in error.response["CancellationReasons"]):
            raise
        raise StackError(
            f"Another user registered the agent {definition.name} at the same time; nothing was written. Try again"
        ) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn pydantic's error into an AgentFileError that names the file and the fields."""
    try:
        yield
    except ValidationError as error:
        problems = [f"  {_place(problem['loc'])}{_words(problem)}" for problem in error.errors()]
        raise AgentFileError("\n".join([f"{path} is no agent that can be registered:", *problems])) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make the modules of a folder importable, after all other folders; forget them afterwards: names may repeat."""
    place = str(folder.resolve())
    before = set(sys.modules)
    sys.path.append(place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(place):
                del sys.modules[name]


def _place(location: tuple[int | str, ...]) -> str:
    return f"{'.'.join(str(part) for part in location)}: " if location else ""


def _words(problem: Any) -> str:
    text = str(problem["msg"]).removeprefix("Value error, ")
    return {"extra_forbidden": "there is no such field", "missing": "is missing"}.get(problem["type"], text)
