"""PascalCase in a machine, the API's casing in the request."""

import json
from typing import Any

import botocore.session
import pytest

from turnstile_cli.engines.casing import UnknownField, from_wire, to_wire

SCHEMA = {"type": "object", "properties": {"fromCity": {"type": "string"}}, "Required": ["fromCity"]}
INPUT = {"fromCity": "Oslo", "Via": [{"in_between": {"Deep": None}}]}


@pytest.fixture(scope="module")
def converse() -> Any:
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    return service.operation_model("Converse")


def test_members_change_and_documents_do_not(converse: Any) -> None:
    message = {"Role": "assistant", "Content": [{"ToolUse": {"ToolUseId": "t1", "Name": "book", "Input": INPUT}}]}
    result = {"ToolUseId": "t1", "Content": [{"Json": INPUT}], "Status": "success"}
    machine = {
        "ModelId": "m",
        "Messages": [
            message,
            {"Role": "user", "Content": [{"ToolResult": result}, {"CachePoint": {"Type": "default"}}]},
        ],
        "ToolConfig": {"Tools": [{"ToolSpec": {"Name": "book", "InputSchema": {"Json": SCHEMA}}}]},
        "RequestMetadata": {"agentId": "a", "Step": "2"},
    }
    use = {"toolUseId": "t1", "name": "book", "input": INPUT}
    answer = {"toolUseId": "t1", "content": [{"json": INPUT}], "status": "success"}
    assert to_wire(machine, converse.input_shape) == {
        "modelId": "m",
        "messages": [
            {"role": "assistant", "content": [{"toolUse": use}]},
            {"role": "user", "content": [{"toolResult": answer}, {"cachePoint": {"type": "default"}}]},
        ],
        "toolConfig": {"tools": [{"toolSpec": {"name": "book", "inputSchema": {"json": SCHEMA}}}]},
        "requestMetadata": {"agentId": "a", "Step": "2"},
    }


def test_an_answer_comes_back_in_pascal_case(converse: Any) -> None:
    use = {"toolUseId": "t1", "name": "book", "input": INPUT}
    wire = {
        "ResponseMetadata": {"HTTPStatusCode": 200},
        "output": {"message": {"role": "assistant", "content": [{"text": "Hm."}, {"toolUse": use}]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3, "cacheReadInputTokens": 0},
        "metrics": {"latencyMs": 5},
    }
    content = [{"Text": "Hm."}, {"ToolUse": {"ToolUseId": "t1", "Name": "book", "Input": INPUT}}]
    assert from_wire(wire, converse.output_shape) == {
        "Output": {"Message": {"Role": "assistant", "Content": content}},
        "StopReason": "tool_use",
        "Usage": {"InputTokens": 1, "OutputTokens": 2, "TotalTokens": 3, "CacheReadInputTokens": 0},
        "Metrics": {"LatencyMs": 5},
    }


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"modelId": "m"}, "$.modelId"),
        ({"Messages": [{"Role": "user", "Content": [{"Txt": "Hi"}]}]}, "$.Messages[0].Content[0].Txt"),
    ],
)
def test_an_unknown_field_is_named_with_its_path(converse: Any, arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(UnknownField) as error:
        to_wire(arguments, converse.input_shape)
    assert str(error.value) == path


def test_a_value_of_the_wrong_kind_is_left_to_the_service(converse: Any) -> None:
    assert to_wire({"Messages": "none"}, converse.input_shape) == {"messages": "none"}


def test_bytes_in_an_answer_come_back_as_base64(converse: Any) -> None:
    content = [
        {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}},
        {"reasoningContent": {"redactedContent": b"\xff"}},
    ]
    answer = from_wire({"output": {"message": {"role": "assistant", "content": content}}}, converse.output_shape)
    [image, thought] = json.loads(json.dumps(answer))["Output"]["Message"]["Content"]
    assert image == {"Image": {"Format": "png", "Source": {"Bytes": "iVBORw=="}}}
    assert thought == {"ReasoningContent": {"RedactedContent": "/w=="}}
