"""Converse's request, from the definition and the conversation."""

import inspect
import json
from typing import Any

from agent.built_in import BUILT_INS
from agent.conversation import Message
from agent.definition import Definition
from agent.schema import offered_schema, schema_for_model
from agent.turn import ConverseRequest

_RULES = """Today is {today} (UTC).

You act by calling tools, and only so. Make a plan first when more than one step is needed, and keep it up to date. Call
`ask_user` when only the user can decide or know something. Call `complete` when the goal is met, and `give_up` when it
cannot be. Call these, and `update_plan`, alone; other calls may go together. Never repeat a call whose outcome is not
known."""

_JSON_PROTOCOL = """Answer with one JSON object and nothing else: {"action": ACTION, "details": DETAILS}.
ACTION is TOOL_USE, PLAN, ASK_USER, COMPLETE or GIVE_UP.
DETAILS of TOOL_USE: {"toolName": NAME, "parameters": ARGUMENTS}, with one of these tools:
"""


def converse_request(
    definition: Definition, messages: list[Message], today: str, metadata: dict[str, str]
) -> ConverseRequest:
    """Asks a definition's model to go on with a conversation. `today` is YYYY-MM-DD; `metadata` goes along."""
    model = definition.model
    system = [definition.instructions, _RULES.format(today=today)]
    if model.protocol == "json":
        system.append(_json_protocol(definition))
    return ConverseRequest(
        model_id=model.id,
        system=[{"Text": text} for text in system],
        messages=messages,
        inference_config={"MaxTokens": model.max_tokens}
        | ({} if model.temperature is None else {"Temperature": model.temperature}),
        tool_config=_tool_config(definition) if model.protocol == "tools" else {},
        request_metadata=metadata,
    )


def _tool_config(definition: Definition) -> dict[str, Any]:
    offered = [
        *((tool.name, tool.description, tool.input_schema) for tool in definition.tools if not tool.hidden),
        *((name, inspect.getdoc(arguments), schema_for_model(arguments)) for name, arguments in BUILT_INS.items()),
    ]
    return {
        "Tools": [
            {"ToolSpec": {"Name": name, "Description": text, "InputSchema": {"Json": offered_schema(schema)}}}
            for name, text, schema in offered
        ]
    }


def _json_protocol(definition: Definition) -> str:
    tools = [
        f"- {tool.name}: {tool.description} ARGUMENTS: {json.dumps(tool.input_schema)}"
        for tool in definition.tools
        if not tool.hidden
    ]
    actions = [
        f"DETAILS of {arguments.action}: {inspect.getdoc(arguments)} {json.dumps(schema_for_model(arguments))}"
        for arguments in BUILT_INS.values()
    ]
    return "\n".join([_JSON_PROTOCOL + "\n".join(tools), *actions])
