"""The scripted model: it is asked as Step Functions asks Bedrock, and refuses requests as Bedrock does."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from turnstile_agents.record import Status
from turnstile_cli.models.scenarios import (
    Expected,
    Scenario,
    ScenarioChild,
    ScenarioReply,
    ScenarioToolCall,
    ScenarioUsage,
)
from turnstile_cli.models.scripted import ScriptedModel

TOOLS = {"tools": [{"toolSpec": {"name": "book", "inputSchema": {"json": {"type": "object"}}}}]}
USE = {"toolUse": {"toolUseId": "call-0-0", "name": "book", "input": {"fromCity": "Oslo"}}}
HELLO = {"role": "user", "content": [{"text": "To Rome"}]}


def scenario(name: str, prompt: str, *replies: ScenarioReply) -> Scenario:
    expected = Expected(status=Status.FAILED, states=["AskModel"])
    return Scenario(name=name, title=name, prompt=prompt, replies=list(replies), expect=expected)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    rome = scenario(
        "rome",
        "To Rome",
        ScenarioReply(
            text="I book.",
            tools=[
                ScenarioToolCall(name="book", input={"fromCity": "Oslo"}),
                ScenarioToolCall(name="book", input={"Via": {"a_B": 1}}),
            ],
            usage=ScenarioUsage(input_tokens=11, output_tokens=7),
        ),
        ScenarioReply(text="Booked."),
        ScenarioReply(text="", stop_reason="max_tokens"),
    )
    faults = scenario(
        "faults", "Try", ScenarioReply(text="At last", faults=["throttle", "unavailable", "timeout", "rubbish"])
    )
    rome = rome.model_copy(
        update={
            "children": [
                ScenarioChild(
                    prompt="Only the hotel", replies=[ScenarioReply(text="A room."), ScenarioReply(text="Taken.")]
                )
            ]
        }
    )
    with ScriptedModel([rome, faults]) as model:
        yield boto3.client(
            "bedrock-runtime",
            endpoint_url=model.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )


def converse(client: Any, agent: str, calls: object, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.converse(
        modelId="us.example.model-v1:0",
        messages=list(messages),
        requestMetadata={"agentId": agent, "modelCalls": str(calls)},
        **more,
    )
    return answer


def refused(client: Any, *messages: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ClientError) as error:
        converse(client, "refused", 0, *messages, **more)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    message: str = error.value.response["Error"]["Message"]
    return message


def test_a_reply_comes_in_bedrocks_format(client: Any) -> None:
    answer = converse(client, "format", 0, HELLO)
    assert answer["output"]["message"] == {
        "role": "assistant",
        "content": [
            {"text": "I book."},
            {"toolUse": {"toolUseId": "call-0-0", "name": "book", "input": {"fromCity": "Oslo"}}},
            {"toolUse": {"toolUseId": "call-0-1", "name": "book", "input": {"Via": {"a_B": 1}}}},
        ],
    }
    assert answer["stopReason"] == "tool_use"
    assert answer["usage"] == {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}
    assert "latencyMs" in answer["metrics"]


def test_the_number_chooses_the_reply_and_again_the_same(client: Any) -> None:
    one, other = (converse(client, "again", 1, HELLO) for _ in range(2))
    assert one["output"]["message"]["content"] == other["output"]["message"]["content"] == [{"text": "Booked."}]
    assert one["stopReason"] == "end_turn"
    assert one["usage"] == other["usage"]
    assert one["usage"]["inputTokens"] > 0
    empty = converse(client, "again", 2, HELLO)
    assert (empty["output"]["message"]["content"], empty["stopReason"]) == ([], "max_tokens")


def test_an_agent_keeps_its_scenario_whatever_its_conversation_becomes(client: Any) -> None:
    converse(client, "keeps", 0, HELLO)
    summary = {"role": "user", "content": [{"text": "What was said so far: much."}]}
    assert converse(client, "keeps", 1, summary)["output"]["message"]["content"] == [{"text": "Booked."}]


def test_faults_come_first_and_count_for_each_agent(client: Any) -> None:
    message = {"role": "user", "content": [{"text": "Try"}]}
    for agent in ("one", "other"):
        seen = []
        for _ in range(3):
            with pytest.raises(ClientError) as error:
                converse(client, agent, 0, message)
            metadata = error.value.response["ResponseMetadata"]
            seen.append((metadata["HTTPStatusCode"], error.value.response["Error"]["Code"]))
        assert seen == [
            (429, "ThrottlingException"),
            (503, "ServiceUnavailableException"),
            (408, "ModelTimeoutException"),
        ]
        assert "output" not in converse(client, agent, 0, message)
        assert converse(client, agent, 0, message)["output"]["message"]["content"] == [{"text": "At last"}]


def test_a_scenario_that_has_run_out_says_so(client: Any) -> None:
    with pytest.raises(ClientError, match="scenario rome has no reply number 3: it has 3, from 0"):
        converse(client, "out", 3, HELLO)


def test_a_child_is_known_by_its_prompt_and_has_replies_of_its_own(client: Any) -> None:
    message = {"role": "user", "content": [{"text": "Only the hotel"}]}
    replies = [converse(client, "child-1", call, message)["output"]["message"]["content"] for call in (0, 1)]
    assert replies == [[{"text": "A room."}], [{"text": "Taken."}]]
    with pytest.raises(ClientError, match="scenario rome has no reply number 2: it has 2, from 0"):
        converse(client, "child-1", 2, message)


def test_an_unknown_prompt_gets_the_known_ones(client: Any) -> None:
    with pytest.raises(ClientError) as error:
        converse(client, "unknown", 0, {"role": "user", "content": [{"text": "To Mars"}]})
    message = error.value.response["Error"]["Message"]
    assert "no scenario has the prompt 'To Mars'" in message
    assert "  rome: To Rome\n  rome: Only the hotel\n  faults: Try" in message
    assert message.endswith("workflows/agents/<agent>/scenarios/")


def test_without_a_number_there_is_no_reply(client: Any) -> None:
    with pytest.raises(ClientError, match="needs requestMetadata with agentId and modelCalls"):
        converse(client, "number", "two", HELLO)


def test_another_operation_is_unknown(client: Any) -> None:
    with pytest.raises(ClientError, match="UnknownOperationException"):
        client.invoke_model(modelId="m", body=b"{}")


def says(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def use(**more: Any) -> dict[str, Any]:
    return {"toolUse": USE["toolUse"] | more}


def result(tool_use: str = "call-0-0", **more: Any) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": tool_use, "content": [{"text": "ok"}]} | more}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([says("assistant", {"text": "Hi"})], "A conversation must start with a user message."),
        ([], "A conversation must start with a user message."),
        ([HELLO, HELLO], "A conversation must alternate between user and assistant roles."),
        ([HELLO, says("assistant", {"text": "Hi"})], "The conversation must end with a user message."),
        (
            [says("user", {"text": " \n"})],
            "The text field in the ContentBlock object at messages.0.content.0 is blank.",
        ),
        ([says("user")], "The content field in the Message object at messages.0 is empty."),
        (
            [HELLO, says("assistant", USE), says("user", {"text": "Well?"})],
            "Expected toolResult blocks at messages.2.content for the following Ids: call-0-0",
        ),
        (
            [HELLO, says("assistant", USE), says("user", result("call-9-9"))],
            "Expected toolResult blocks at messages.2.content for the following Ids: call-0-0",
        ),
        (
            [HELLO, says("assistant", USE), says("user", result(), result("call-9-9"))],
            "The number of toolResult blocks at messages.2.content exceeds the number of toolUse blocks",
        ),
        (
            [HELLO, says("assistant", USE), says("user", result(), result())],
            "The number of toolResult blocks at messages.2.content exceeds the number of toolUse blocks",
        ),
        (
            [says("user", result(), {"text": "To Rome"})],
            "The number of toolResult blocks at messages.0.content exceeds the number of toolUse blocks",
        ),
        (
            [HELLO, says("assistant", USE), says("user", {"text": "Here:"}, result())],
            "The toolResult blocks at messages.2.content must come before any other content.",
        ),
        (
            [HELLO, says("assistant", USE, USE), says("user", result(), result())],
            "The toolUse blocks at messages.1.content contain duplicate Ids: call-0-0, call-0-0",
        ),
        (
            [HELLO, says("assistant", USE), says("user", result(content=[{"json": [1]}]))],
            "The format of the value at messages.2.content.0.toolResult.content.0.json is invalid.",
        ),
        (
            [HELLO, says("assistant", USE), says("user", result(status="error", content=[]))],
            "The content field at messages.2.content.0.toolResult cannot be empty when status value is error.",
        ),
        (
            [
                HELLO,
                says("assistant", use(type="server_tool_use")),
                says("user", result()),
            ],
            "The value at messages.1.content.0.toolUse.type is invalid",
        ),
        (
            [HELLO, says("assistant", use(name="book it")), says("user", result())],
            "1 validation error detected: Value at 'messages.2.member.content.1.member.toolUse.name' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
        ),
        ([says("user", {"text": "To Rome"}, {"cachePoint": {"type": "none"}})], "Member must satisfy enum value set"),
    ],
)
def test_a_conversation_that_bedrock_refuses(client: Any, messages: list[dict[str, Any]], message: str) -> None:
    assert message in refused(client, *messages, toolConfig=TOOLS)


def test_tool_blocks_need_the_tools(client: Any) -> None:
    message = refused(client, HELLO, says("assistant", USE), says("user", result()))
    assert message == "The toolConfig field must be defined when using toolUse and toolResult content blocks."


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{"name": "a b", "inputSchema": {"json": {"type": "object"}}}], "toolConfig.tools.1.member.toolSpec.name"),
        ([{"name": "a", "inputSchema": {"json": {"type": "string"}}}], "must be one of the following: object"),
        ([{"name": "a", "inputSchema": {"json": {"type": "object"}}}] * 2, "The tool a is already defined"),
    ],
)
def test_tools_that_bedrock_refuses(client: Any, tools: list[dict[str, Any]], message: str) -> None:
    assert message in refused(client, HELLO, toolConfig={"tools": [{"toolSpec": tool} for tool in tools]})


@pytest.mark.parametrize(("key", "value"), [("note", "x" * 257), ("note", "50 €")])
def test_metadata_that_bedrock_refuses(client: Any, key: str, value: str) -> None:
    with pytest.raises(ClientError, match=f"requestMetadata.{key}"):
        client.converse(modelId="m", messages=[HELLO], requestMetadata={"agentId": "m", "modelCalls": "0", key: value})


def test_a_whole_conversation_passes(client: Any) -> None:
    asked = says("assistant", {"text": "I book."}, USE)
    answer = converse(client, "whole", 1, HELLO, asked, says("user", result(), {"text": "Go on."}), toolConfig=TOOLS)
    assert answer["output"]["message"]["content"] == [{"text": "Booked."}]
