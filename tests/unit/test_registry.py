"""An agent.yaml becomes a version of a definition, or an error that says how to mend the file."""

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.stacks import add_function, mock_stack
from turnstile_agents.definition import Compensation, Definition, Limits
from turnstile_cli.files import AGENTS
from turnstile_cli.stack.client import Stack, StackError
from turnstile_cli.stack.registry import AgentFileError, latest_definition, read_agent_file, register, settlings

INLINE: dict[str, Any] = {
    "name": "look",
    "description": "Looks something up.",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
    "effect": "read",
}
BUY: dict[str, Any] = {**INLINE, "name": "buy", "effect": "write"}
HELPER: dict[str, Any] = {"name": "helper", "description": "Helps."}
FILE: dict[str, Any] = {"name": "scout", "instructions": "You look.", "tools": [INLINE]}

Write = Callable[[Any], Path]


@pytest.fixture(scope="module")
def one_stack() -> Iterator[Stack]:
    tools = [
        "look",
        "buy",
        "sell",
        "get_flight_info",
        "book_flight",
        "book_flight_partner",
        "cancel_flight",
        "find_booking",
    ]
    with mock_stack(*(f"turnstile-tool-{name}" for name in tools)) as stack:
        yield stack


@pytest.fixture
def stack(one_stack: Stack) -> Stack:
    """Return the stack with an empty table."""
    table = one_stack.outputs.table_name
    for item in one_stack.dynamodb.scan(TableName=table)["Items"]:
        one_stack.dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("agentId", "record")})
    return one_stack


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: Any) -> Path:
        path = tmp_path / "agent.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
        return path

    return write


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return the file with another value at a place, as `tools.0.name`."""
    file: Any = copy.deepcopy(FILE)
    *parents, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    inner = file
    for part in parents:
        inner = inner.setdefault(part, {}) if isinstance(inner, dict) else inner[part]
    inner[last] = value
    return dict(file)


def with_buy(**fields: Any) -> dict[str, Any]:
    """Return the file with a second tool, which writes."""
    return changed("tools", [INLINE, {**BUY, **fields}])


SELL: dict[str, Any] = {
    **BUY,
    "name": "sell",
    "inputSchema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "street": {"type": "string"}},
        "required": ["city"],
    },
}


def with_undo(arguments: dict[str, str]) -> dict[str, Any]:
    """Return the file with a tool that writes, and another tool that undoes it."""
    return changed("tools", [{**BUY, "compensation": {"tool": "sell", "arguments": arguments}}, SELL])


def travel_with_undo(arguments: dict[str, str]) -> dict[str, Any]:
    """Return the file with tools of the sample: their outputs are known."""
    book = {"name": "book_flight", "handler": "tools.book_flight.handler"}
    cancel = {"name": "cancel_flight", "handler": "tools.cancel_flight.handler"}
    return changed("tools", [{**book, "compensation": {"tool": "cancel_flight", "arguments": arguments}}, cancel])


def stored(stack: Stack) -> list[str]:
    items = stack.dynamodb.scan(TableName=stack.outputs.table_name)["Items"]
    return sorted(item["record"]["S"] for item in items)


def test_the_travel_agent(stack: Stack) -> None:
    definition = register(stack, AGENTS / "travel" / "agent.yaml")
    assert [(tool.name, tool.effect, tool.function) for tool in definition.tools] == [
        ("get_flight_info", "read", "turnstile-tool-get_flight_info"),
        ("book_flight", "write", "turnstile-tool-book_flight"),
        ("book_flight_partner", "write", "turnstile-tool-book_flight_partner"),
        ("cancel_flight", "write", "turnstile-tool-cancel_flight"),
        ("find_booking", "read", "turnstile-tool-find_booking"),
    ]
    assert [tool.name for tool in definition.tools if tool.hidden] == ["find_booking"]
    booking = definition.tools[1]
    assert booking.alternatives == ["book_flight_partner"]
    assert booking.compensation == Compensation(tool="cancel_flight", arguments={"booking_id": "booking_id"})
    assert (booking.on_unknown, booking.reconcile) == ("reconcile", "find_booking")
    assert (
        booking.approval
        == definition.tools[2].approval
        == {
            "properties": {"passengers": {"minimum": 5}},
            "required": ["passengers"],
        }
    )
    assert definition.model.id == "model-of-the-stack"
    assert definition.limits.cost_micro_usd == 1_000_000
    assert "from_city" in definition.tools[0].input_schema["properties"]


@pytest.mark.parametrize("arguments", [{"city": "any field"}, {"city": "id", "street": "id"}])
def test_the_output_of_a_tool_from_elsewhere_is_not_known(
    stack: Stack, write: Write, arguments: dict[str, str]
) -> None:
    compensation = register(stack, write(with_undo(arguments))).tools[0].compensation
    assert compensation == Compensation(tool="sell", arguments=arguments)


def test_versions(stack: Stack, write: Write) -> None:
    path = write(FILE)
    first = register(stack, path)
    assert (first.version, register(stack, path)) == (1, first)
    assert stored(stack) == ["LATEST", "VERSION#000001"]

    second = register(stack, write({**FILE, "instructions": "You look twice."}))
    assert second.version == 2
    assert stored(stack) == ["LATEST", "VERSION#000001", "VERSION#000002"]
    assert latest_definition(stack, "scout") == second
    assert stack.definition("scout", 1) == first

    item = stack.table.item_attributes("DEFINITION#scout", "LATEST")
    assert item and item["version"] == "2"
    assert Definition.model_validate_json(item["definition"]) == second


def test_two_registrations_at_once(stack: Stack, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(FILE)
    register(stack, path)
    # The slower registration has read an older version than the table has now.
    monkeypatch.setattr("turnstile_cli.stack.registry.latest_definition", lambda *_: None)
    with pytest.raises(StackError, match="at the same time; nothing was written"):
        register(stack, write({**FILE, "instructions": "You look otherwise."}))
    assert stored(stack) == ["LATEST", "VERSION#000001"]


def test_what_the_machine_is_told_of_a_tool(stack: Stack, write: Write) -> None:
    told = {
        "alternatives": ["sell"],
        "compensation": {"tool": "sell", "arguments": {"city": "id"}},
        "onUnknown": "reconcile",
        "reconcile": "look",
    }
    tools = [{**INLINE, "hidden": True}, {**BUY, **told}, {**BUY, "name": "sell", "idempotent": True}]
    model = {"fallbacks": ["second", "third"]}
    definition = register(stack, write({**FILE, "tools": tools, "model": model, "limits": {"recoveries": 2}}))
    look, buy, sell = definition.dump()["tools"]
    assert {name: buy[name] for name in told} == told
    assert (look["hidden"], sell["onUnknown"]) == (True, "retry")
    assert (definition.model.fallbacks, definition.limits.recoveries) == (["second", "third"], 2)
    assert latest_definition(stack, "scout") == definition


HANDLER: dict[str, Any] = {"name": "buy", "handler": "tools.book_flight.handler"}


@pytest.mark.parametrize(
    ("tool", "on_unknown", "line"),
    [
        (HANDLER, "retry", "buy: called again by its key (made with @tool, which knows a call by its key)"),
        (
            {**HANDLER, "reconcile": "look"},
            "retry",
            "buy: called again by its key, then looked up with look (made with @tool, which knows a call by its key)",
        ),
        (
            {**HANDLER, "onUnknown": "reconcile", "reconcile": "look"},
            "reconcile",
            "buy: looked up with look (the file says onUnknown: reconcile)",
        ),
        ({**HANDLER, "onUnknown": "ask"}, "ask", "buy: an operator is asked (the file says onUnknown: ask)"),
        ({**BUY, "idempotent": True}, "retry", "buy: called again by its key (the file says idempotent: true)"),
        (
            {**BUY, "idempotent": True, "reconcile": "look"},
            "retry",
            "buy: called again by its key, then looked up with look (the file says idempotent: true)",
        ),
        (
            {**BUY, "reconcile": "look"},
            "reconcile",
            "buy: looked up with look (the file names the look-up look)",
        ),
        (
            BUY,
            "ask",
            "buy: an operator is asked (from elsewhere, and the file says neither idempotent: true nor reconcile)",
        ),
    ],
)
def test_what_is_done_about_an_unknown_outcome_follows_from_what_the_tool_promises(
    stack: Stack, write: Write, tool: dict[str, Any], on_unknown: str, line: str
) -> None:
    path = write(changed("tools", [INLINE, tool]))
    definition = register(stack, path)
    assert [one.on_unknown for one in definition.tools] == ["ask", on_unknown]
    [settling] = settlings(path, definition)
    assert (settling.on_unknown, str(settling)) == (on_unknown, line)


@pytest.mark.parametrize("approval", ["always", {"required": ["city"], "properties": {"city": {"const": "Paris"}}}])
def test_what_needs_an_approval(stack: Stack, write: Write, approval: Any) -> None:
    definition = register(stack, write(changed("tools.0.approval", approval)))
    assert definition.tools[0].approval == approval
    assert latest_definition(stack, "scout") == definition
    assert register(stack, write(FILE)).tools[0].approval == "never"


def test_a_delegate_must_be_there(stack: Stack, write: Write) -> None:
    with pytest.raises(
        StackError, match=r"scout delegates to helper, which is not registered .*\(turnstile register PATH"
    ):
        register(stack, write({**FILE, "delegates": [HELPER]}))
    assert stored(stack) == []
    register(stack, write({**FILE, "name": "helper"}))
    itself = {"name": "scout", "description": "The same, for a part."}
    definition = register(stack, write({**FILE, "tools": [], "delegates": [HELPER, itself]}))
    assert [delegate.name for delegate in definition.delegates] == ["helper", "scout"]
    assert (definition.tools, latest_definition(stack, "scout")) == ([], definition)


def test_the_trip_agent(stack: Stack) -> None:
    register(stack, AGENTS / "travel" / "agent.yaml")
    definition = register(stack, AGENTS / "trip" / "agent.yaml")
    assert ([delegate.name for delegate in definition.delegates], definition.tools) == (["travel", "trip"], [])


def test_limits_and_model(stack: Stack, write: Write) -> None:
    model = {"id": "mine", "protocol": "json", "maxTokens": 100, "prices": {"input": 1, "output": 2}}
    path = write({**FILE, "model": model, "limits": {"costUsd": 0.25, "steps": 3}})
    definition = register(stack, path)
    assert definition.limits == Limits(cost_micro_usd=250_000, steps=3)
    assert (definition.model.id, definition.model.protocol, definition.model.max_tokens) == ("mine", "json", 100)
    assert register(stack, path, {"steps": 2}).limits == Limits(cost_micro_usd=250_000, steps=2)


def test_a_tool_beside_the_file(stack: Stack, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the file changes within one second
    source = """
from pydantic import BaseModel
from turnstile_agents.decorator import tool

class Place(BaseModel):
    {field}: str

@tool(effect="write")
def look(request: Place) -> Place:
    '''Looks.'''
    return request

handler = look
"""
    path = write({**FILE, "tools": [{"name": "look", "handler": "my_tool"}]})
    for field in ("city", "country"):
        # Each agent gets its own of two modules with one name.
        (tmp_path / "my_tool.py").write_text(source.format(field=field), "utf-8")
        tool = register(stack, path).tools[0]
        assert (list(tool.input_schema["properties"]), tool.effect, tool.description) == ([field], "write", "Looks.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tools: [", "is no valid YAML"),
        ("just text", "is no agent that can be registered"),
        (changed("colour", "red"), "colour: there is no such field"),
        ({"name": "scout", "tools": [INLINE]}, "instructions: is missing"),
        (changed("name", "a b"), "name: String should match"),
        (changed("limits.steps", 0), "limits.steps: Input should be greater than or equal to 1"),
        (changed("limits.stepsPerTurn", 101), "limits.stepsPerTurn: Input should be less than or equal to 100"),
        (changed("limits.costUsd", 0), "limits.costUsd: must be more than 0 US dollars"),
        (changed("limits.costMicroUsd", 5), "limits.costMicroUsd: there is no such field"),
        (changed("model.max_tokens", 5), "model.max_tokens: there is no such field"),
        (changed("tools", []), "an agent needs `tools`, `delegates` or both"),
        (changed("delegates", [HELPER, HELPER]), "two delegates are named helper"),
        (changed("delegates", [{"name": "helper"}]), "delegates.0.description: is missing"),
        (changed("tools.0.approval", "sometimes"), "Input should be 'never' or 'always'"),
        (changed("tools.0.approval", {}), "tools.0 (look).approval: an empty schema matches every call; say `always`"),
        (changed("tools.0.approval", {"type": "objekt"}), "approval: no JSON schema: $.type: 'objekt'"),
        (
            changed("tools.0.approval", {"required": ["town"]}),
            "approval: town is no argument of this tool; it has city",
        ),
        (changed("tools.0.approval", {"properties": {"town": {}}}), "approval: town is no argument of this tool"),
        (changed("tools.0.approval", {"$ref": "https://x/a.json"}), "approval: https://x/a.json is not in the schema"),
        (changed("tools", [INLINE, INLINE]), "two tools are named look"),
        (changed("tools.0.name", "complete"), "complete is a tool that every agent has"),
        (changed("tools", [{"name": "look"}]), "tools.0: needs a handler, or description, inputSchema, effect"),
        (changed("tools.0.handler", "tools.x"), "has a handler, which says description, inputSchema, effect already"),
        (changed("tools", [{"name": "x", "handler": "tools.nowhere.handler"}]), "No module named 'tools.nowhere'"),
        (changed("tools", [{"name": "x", "handler": "tools.flights"}]), "has no `handler` that was made with @tool"),
        (changed("tools.0.inputSchema", {"type": "objekt"}), "inputSchema: no JSON schema: $.type: 'objekt'"),
        (
            changed("tools.0.inputSchema", {"type": "object", "properties": {"a": {"$ref": "https://x/a.json"}}}),
            "inputSchema: https://x/a.json is not in the schema",
        ),
        (changed("tools.0.inputSchema", {"type": "string"}), "say `type: object`"),
        (changed("tools.0.onUnknown", "guess"), "tools.0.onUnknown: Input should be 'ask', 'retry' or 'reconcile'"),
        (changed("tools.0.compensation", {"tool": "look"}), "tools.0.compensation.arguments: is missing"),
        (changed("tools.0.alternatives", ["there"]), "the alternatives of look names there, which is no other tool"),
        (changed("tools.0.alternatives", ["look"]), "the alternatives of look names look, which is no other tool"),
        (with_buy(alternatives=["look"]), "the alternatives of buy names look, whose effect is read"),
        (with_buy(compensation={"tool": "there", "arguments": {"a": "b"}}), "the compensation of buy names there"),
        (with_buy(compensation={"tool": "look", "arguments": {"a": "b"}}), "names look, whose effect is read"),
        (
            with_undo({"receipt": "id"}),
            "the compensation of buy gives sell the argument receipt, which sell does not take; it takes city, street",
        ),
        (
            with_undo({"street": "id"}),
            "the compensation of buy does not give sell the argument city, which sell needs",
        ),
        (
            travel_with_undo({"booking": "booking_id"}),
            "gives cancel_flight the argument booking, which cancel_flight does not take; it takes booking_id",
        ),
        (
            travel_with_undo({"booking_id": "bookingId"}),
            "tools.0 (book_flight).compensation.arguments.booking_id: bookingId is no field of the output of "
            "book_flight; its fields are booking_id, status, ",
        ),
        (with_buy(onUnknown="reconcile", reconcile="there"), "the reconcile of buy names there, which is no other"),
        (with_buy(onUnknown="reconcile"), "buy needs `reconcile`, the name of a look-up"),
        (with_buy(reconcile="look", onUnknown="ask"), "names the look-up look, which `onUnknown: ask` never uses"),
        (
            with_buy(onUnknown="retry"),
            "calls again with the same key; say `idempotent: true` if the tool then acts only",
        ),
        (with_buy(idempotent=False), "tools.1.idempotent: Input should be True"),
        (
            changed("tools.0", {"name": "look", "handler": "tools.book_flight.handler", "idempotent": True}),
            "has a handler, which says idempotent already",
        ),
        (changed("tools", [BUY, {**BUY, "name": "sell", "reconcile": "buy"}]), "names buy, whose effect is write"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(stack: Stack, write: Write, content: Any, message: str) -> None:
    path = write(content)
    with pytest.raises(AgentFileError) as raised:
        register(stack, path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert stored(stack) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("tools.0.name", "listen"), "There is no Lambda turnstile-tool-listen, which the tool listen needs"),
        (changed("tools.0.timeoutSeconds", 5), "may run for 15 seconds, but the tool look has timeoutSeconds 5"),
    ],
)
def test_a_function_that_would_not_do(stack: Stack, write: Write, content: Any, message: str) -> None:
    with pytest.raises(StackError, match=message):
        register(stack, write(content))
    assert stored(stack) == []


def test_a_function_of_another_stack_must_allow_both_machines(stack: Stack, write: Write) -> None:
    add_function(stack, "acme-look")
    path = write(changed("tools.0.function", "acme-look"))
    turn, recovery = stack.outputs.agent_turn_role_arn, stack.outputs.agent_recovery_role_arn

    def allow(role: str) -> None:
        stack.lambdas.add_permission(
            FunctionName="acme-look", Action="lambda:InvokeFunction", StatementId=role[-9:], Principal=role
        )

    with pytest.raises(StackError, match="acme-look of the tool look is not of this stack") as refused:
        register(stack, path)
    assert str(refused.value).count("aws lambda add-permission --function-name acme-look ") == 2
    allow(turn)
    with pytest.raises(StackError) as refused:
        register(stack, path)
    assert f"--principal {recovery}" in str(refused.value)
    assert turn not in str(refused.value)
    allow(recovery)
    assert register(stack, path).tools[0].function == "acme-look"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AgentFileError, match=r"none\.yaml cannot be read: No such file"):
        read_agent_file(tmp_path / "none.yaml")
