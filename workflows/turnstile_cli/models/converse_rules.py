"""The rules by which Bedrock refuses a Converse request, with the messages that users report.

The scripted model checks every request by these rules, so that a request that passes here does not fail on AWS.
Sources: botocore's model of the operation for lengths and patterns; Anthropic's rule that results come first in a
message; public issue trackers for the rest.
"""

import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

Block = dict[str, Any]


def refusal(request: dict[str, Any]) -> str | None:
    """Return the message of Bedrock's ValidationException for the body of a request; None if Bedrock accepts it."""
    return next(_refusals(request), None)


@functools.cache
def _input_shape() -> Any:
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    return model.operation_model("Converse").input_shape


def _refusals(request: dict[str, Any]) -> Iterator[str]:
    yield from _constraints(request, _input_shape(), "")
    messages = request.get("messages", [])
    if not messages or messages[0]["role"] != "user":
        yield (
            "A conversation must start with a user message. "
            "Try again with a conversation that starts with a user message."
        )
    if messages[-1]["role"] != "user":
        yield "This model does not support assistant message prefill. The conversation must end with a user message."
    if any(one["role"] == other["role"] for one, other in itertools.pairwise(messages)):
        yield (
            "A conversation must alternate between user and assistant roles. "
            "Make sure the conversation alternates between user and assistant roles and try again."
        )
    asked: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        if not message["content"]:
            yield (
                f"The content field in the Message object at {place} is empty. "
                "Add a ContentBlock object to the content field and try again."
            )
        for index, block in enumerate(message["content"]):
            yield from _block_refusals(block, f"{place}.content.{index}")
        yield from _pairing_refusals(message["content"], asked, f"{place}.content")
        asked = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
    blocks = [block for message in messages for block in message["content"]]
    if "toolConfig" not in request and any("toolUse" in block or "toolResult" in block for block in blocks):
        yield "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    yield from _tool_refusals(request.get("toolConfig", {}).get("tools", []))


def _block_refusals(block: Block, place: str) -> Iterator[str]:
    if "text" in block and not block["text"].strip():
        yield (
            f"The text field in the ContentBlock object at {place} is blank. Add text to the text field, and try again."
        )
    use = block.get("toolUse", {})
    if "type" in use:
        yield f"The value at {place}.toolUse.type is invalid: it is no server tool."
    if not isinstance(use.get("input", {}), dict):
        yield (
            f"The format of the value at {place}.toolUse.input is invalid. "
            "Provide a json object for the field and try again."
        )
    result = block.get("toolResult", {})
    if result.get("status") == "error" and not result["content"]:
        yield f"The content field at {place}.toolResult cannot be empty when status value is error."
    for index, part in enumerate(result.get("content", [])):
        if not isinstance(part.get("json", {}), dict):
            yield (
                f"The format of the value at {place}.toolResult.content.{index}.json is invalid. "
                "Provide a json object for the field and try again."
            )


def _pairing_refusals(content: list[Block], asked: list[str], place: str) -> Iterator[str]:
    """Check that each tool use of the message before has exactly one result here, and that there is no other result."""
    answered = [block["toolResult"]["toolUseId"] for block in content if "toolResult" in block]
    missing = [tool_use for tool_use in asked if tool_use not in answered]
    if missing:
        yield f"Expected toolResult blocks at {place} for the following Ids: {', '.join(missing)}"
    if len(answered) > len(asked):
        yield f"The number of toolResult blocks at {place} exceeds the number of toolUse blocks of previous turn."
    kinds = ["toolResult" in block for block in content]
    if kinds != sorted(kinds, reverse=True):
        yield f"The toolResult blocks at {place} must come before any other content."
    uses = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
    if len(set(uses)) < len(uses):
        yield f"The toolUse blocks at {place} contain duplicate Ids: {', '.join(uses)}"


def _tool_refusals(tools: list[Block]) -> Iterator[str]:
    names = set()
    for index, tool in enumerate(tools):
        place, spec = f"toolConfig.tools.{index}.toolSpec", tool.get("toolSpec", {})
        name = spec.get("name")
        if name in names:
            yield f"The tool {name} is already defined at {place}."
        names.add(name)
        if spec and spec["inputSchema"].get("json", {}).get("type") != "object":
            yield f"The value at {place}.inputSchema.json.type must be one of the following: object."


def _constraints(value: Any, shape: Shape, place: str) -> Iterator[str]:
    """Check the lengths and patterns of the service's model."""
    problem = _broken_constraint(value, shape)
    if problem:
        yield f"1 validation error detected: Value at '{place}' failed to satisfy constraint: Member must {problem}"
    if isinstance(shape, StructureShape) and isinstance(value, dict) and not shape.is_document_type:
        for name, member in shape.members.items():
            if name in value:
                yield from _constraints(value[name], member, f"{place}.{name}".lstrip("."))
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from _constraints(item, shape.member, f"{place}.{index + 1}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _constraints(key, shape.key, f"{place}.{key}")
            yield from _constraints(item, shape.value, f"{place}.{key}")


def _broken_constraint(value: Any, shape: Shape) -> str | None:
    bounds = shape.metadata
    if isinstance(shape, StringShape | ListShape | MapShape):
        if len(value) < bounds.get("min", 0):
            return f"have length greater than or equal to {bounds['min']}"
        if "max" in bounds and len(value) > bounds["max"]:
            return f"have length less than or equal to {bounds['max']}"
    if isinstance(shape, StringShape):
        if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
            return f"satisfy regular expression pattern: {bounds['pattern']}"
        if shape.enum and value not in shape.enum:
            return f"satisfy enum value set: [{', '.join(shape.enum)}]"
    return None
