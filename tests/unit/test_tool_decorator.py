"""The parts that `@tool` adds to a function: the schema, the checks, the errors, the bounds, the logs and the guard."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from pydantic import BaseModel, ConfigDict, Field, RootModel

from turnstile_agents import decorator as module
from turnstile_agents import once
from turnstile_agents.border import RESULT_LIMIT
from turnstile_agents.decorator import ToolCall, tool
from turnstile_agents.dynamodb import client
from turnstile_agents.errors import ToolOutcomeUnknown, ToolRejected, ToolUnavailable

FUNCTIONS = Path(module.__file__).parents[1]
EVENT = {"agentId": "agent-1", "key": "agent-1#EFFECT#000002#0", "input": {"title": "hello"}}


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(max_length=8, description="What it says")]
    copies: int = 1


class Kept(BaseModel):
    note_id: Annotated[str, Field(serialization_alias="noteId")]


@tool(effect="read")
def find_note(request: Note, call: ToolCall) -> Kept:
    """Find a note."""
    return Kept(note_id=f"{request.title} for {call.agent_id}: {call.key}")


# The half for the definition


def test_a_tool_tells_the_definition_what_it_is() -> None:
    assert (find_note.name, find_note.description, find_note.effect) == ("find_note", "Find a note.", "read")
    assert (find_note.input_model, find_note.output_model) == (Note, Kept)
    assert find_note.input_schema == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 8, "description": "What it says"},
            "copies": {"type": "integer", "default": 1},
        },
        "required": ["title"],
        "additionalProperties": False,
    }


class Names(RootModel[list[str]]):
    pass


def no_docstring(request: Note) -> Kept:
    return Kept(note_id=request.title)


def no_parameter() -> Kept:
    """."""
    return Kept(note_id="")


def wrong_second(request: Note, call: str) -> Kept:
    """."""
    return Kept(note_id=request.title + call)


def no_model(request: str) -> Kept:
    """."""
    return Kept(note_id=request)


def no_object(request: Note) -> Names:
    """."""
    return Names([request.title])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_docstring, "no_docstring has no docstring"),
        (no_parameter, "no_parameter must take"),
        (wrong_second, "wrong_second must take"),
        (no_model, "the first parameter of no_model must be annotated"),
        (no_object, "the return value of no_object must be annotated"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_at_import(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tool(effect="read")(function)


# The half for the machine


def test_a_call_returns_the_output_as_a_json_object() -> None:
    assert find_note(EVENT, None) == {"noteId": "hello for agent-1: agent-1#EFFECT#000002#0"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "title: Field required."),
        ({"title": "far too long"}, "title: String should have at most 8 characters."),
        ({"title": "a", "copies": "two"}, "copies: Input should be a valid integer"),
        ({"title": "a", "colour": "red"}, "colour: unknown argument. Its arguments: title, copies"),
        ({"title": 1, "copies": []}, "title: Input should be a valid string; copies: Input should be a valid integer."),
    ],
)
def test_wrong_arguments_are_rejected_in_words_that_a_model_can_act_on(arguments: object, message: str) -> None:
    with pytest.raises(ToolRejected) as rejected:
        find_note(EVENT | {"input": arguments}, None)
    assert str(rejected.value).startswith("Wrong arguments for find_note: ")
    assert message in str(rejected.value)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"input": {"title": "a"}},
        EVENT | {"agentId": "no id!"},
        EVENT | {"key": ""},
        EVENT | {"input": "a"},
        EVENT | {"more": 1},
    ],
)
def test_an_event_that_is_no_call_is_rejected(event: object) -> None:
    with pytest.raises(ToolRejected, match="find_note was called wrongly"):
        find_note(event, None)


@pytest.mark.parametrize("size", [RESULT_LIMIT - 14, RESULT_LIMIT - 13, 10 * RESULT_LIMIT])
def test_an_output_that_is_too_large_is_cut(size: int) -> None:
    @tool(effect="read")
    def read_book(request: Note) -> Kept:
        """Read a book."""
        return Kept(note_id=request.title * size)

    result = read_book(EVENT | {"input": {"title": "a"}}, None)
    if size == RESULT_LIMIT - 14:  # 14 bytes are {"noteId": ""}
        assert result == {"noteId": "a" * size}
    else:
        assert result.keys() == {"truncated", "text"}
        assert result["text"].startswith('{"noteId": "aaa')


def test_an_output_that_is_cut_fits_whatever_it_holds() -> None:
    @tool(effect="read")
    def read_quotes(request: Note) -> Kept:
        """Read quotes."""
        return Kept(note_id=request.title * RESULT_LIMIT)

    for title in ('"', "\\", "é", "aéé", "😀"):
        result = read_quotes(EVENT | {"input": {"title": title}}, None)
        assert result["truncated"] is True
        assert RESULT_LIMIT // 3 < len(json.dumps(result, ensure_ascii=False).encode()) < RESULT_LIMIT + 100


# Metrics and logs


def failing(error: Exception) -> module.ToolHandler:
    @tool(effect="read")
    def fail(_request: Note) -> Kept:
        """Fail."""
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "metric"),
    [
        (ToolRejected("no"), "Rejected"),
        (ToolUnavailable("busy"), "Unavailable"),
        (ToolOutcomeUnknown("lost"), "OutcomeUnknown"),
        (ClientError({"Error": {"Code": "Odd"}}, "GetItem"), "Failed"),
    ],
)
def test_every_failure_keeps_its_name_and_is_counted_and_logged(
    error: Exception, metric: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_NAMESPACE", raising=False)
    log = logged()
    with pytest.raises(type(error)) as raised:
        failing(error)(EVENT, None)
    assert raised.value is error
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Turnstile"
    assert (metrics["service"], metrics["Calls"], metrics[metric]) == ("fail", [1.0], [1.0])
    entry = json.loads(log.getvalue())
    assert {"agentId": "agent-1", "key": EVENT["key"], "tool": "fail"}.items() <= entry.items()
    assert entry["message"] == f"{metric}: {error}"
    assert ("exception" in entry) == (metric == "Failed")


def test_a_call_that_succeeds_is_counted_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    log = logged()
    find_note(EVENT, None)
    find_note(EVENT | {"agentId": "agent-2"}, None)
    assert [json.loads(line)["Calls"] for line in capsys.readouterr().out.splitlines()] == [[1.0], [1.0]]
    assert [json.loads(line)["agentId"] for line in log.getvalue().splitlines()] == ["agent-1", "agent-2"]


def logged() -> io.StringIO:
    log = io.StringIO()
    module.logger.registered_handler.setStream(log)  # type: ignore[attr-defined]
    return log


def test_a_tool_that_reads_does_not_pay_for_boto3() -> None:
    code = "import sys, turnstile_agents.decorator; sys.exit('boto3' in sys.modules or 'aws_xray_sdk' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(FUNCTIONS)}, check=True)


# A tool that writes


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception | None]]:
    """Yield the outcomes of the next attempts of `post_note`, in order; each attempt removes its own outcome."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("IDEMPOTENCY_TABLE", "calls")
    client.cache_clear()
    once._store.cache_clear()
    with mock_aws():
        client().create_table(
            TableName="calls",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        PLANNED.clear()
        yield PLANNED
    client.cache_clear()
    once._store.cache_clear()


PLANNED: list[Exception | None] = []
REFUSED = ClientError({"Error": {"Code": "ThrottlingException"}}, "PutItem")


@tool(effect="write")
def post_note(request: Note) -> Kept:
    """Post a note."""
    outcome = PLANNED.pop(0)
    if outcome:
        raise outcome
    return Kept(note_id=request.title)


def refuse(**_request: Any) -> Any:
    raise REFUSED


def test_the_same_key_acts_once_and_another_key_acts_again(calls: list[Exception | None]) -> None:
    calls += [None, None]
    assert post_note(EVENT, None) == post_note(EVENT, None) == {"noteId": "hello"}
    assert len(calls) == 1
    post_note(EVENT | {"key": "agent-1#EFFECT#000002#1"}, None)
    assert calls == []


@pytest.mark.parametrize("error", [ToolUnavailable("busy"), ToolRejected("no")])
def test_a_call_that_did_nothing_may_be_tried_again(calls: list[Exception | None], error: Exception) -> None:
    calls += [error, None]
    with pytest.raises(type(error)):
        post_note(EVENT, None)
    assert post_note(EVENT, None) == {"noteId": "hello"}


@pytest.mark.parametrize("error", [ToolOutcomeUnknown("lost"), ValueError("a bug")])
def test_a_call_that_may_have_acted_is_never_run_again(calls: list[Exception | None], error: Exception) -> None:
    calls += [error, None]
    with pytest.raises(type(error)):
        post_note(EVENT, None)
    with pytest.raises(ToolOutcomeUnknown, match="post_note was called before"):
        post_note(EVENT, None)
    assert calls == [None]


def test_a_call_that_died_is_remembered_longer_than_it_can_be_redriven(calls: list[Exception | None]) -> None:
    calls += [ValueError("died")]
    with pytest.raises(ValueError, match="died"):
        post_note(EVENT, None)
    (record,) = client().scan(TableName="calls")["Items"]
    assert record["status"] == {"S": "INPROGRESS"}
    two_weeks_on = time.time() + 14 * 24 * 3600
    assert int(record["expiration"]["N"]) > two_weeks_on
    assert int(record["in_progress_expiration"]["N"]) / 1000 > two_weeks_on


def test_what_cannot_be_recorded_is_not_done(calls: list[Exception | None], monkeypatch: pytest.MonkeyPatch) -> None:
    calls += [None]
    monkeypatch.setattr(client(), "put_item", refuse)
    with pytest.raises(ToolUnavailable, match="post_note did nothing"):
        post_note(EVENT, None)
    assert calls == [None]


def test_a_result_that_cannot_be_kept_is_still_the_result(
    calls: list[Exception | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls += [None, None]
    monkeypatch.setattr(client(), "update_item", refuse)
    assert post_note(EVENT, None) == {"noteId": "hello"}
    with pytest.raises(ToolOutcomeUnknown):
        post_note(EVENT, None)
    assert calls == [None]


def test_a_record_that_cannot_be_removed_hides_no_error(
    calls: list[Exception | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls += [ToolUnavailable("busy")]
    monkeypatch.setattr(client(), "delete_item", refuse)
    with pytest.raises(ToolUnavailable, match="busy"):
        post_note(EVENT, None)


def test_wrong_arguments_leave_no_record(calls: list[Exception | None]) -> None:
    with pytest.raises(ToolRejected):
        post_note(EVENT | {"input": {}}, None)
    assert calls == []
    assert client().scan(TableName="calls")["Count"] == 0


def test_a_call_that_acted_keeps_its_result_when_a_newer_version_refuses_its_arguments(
    calls: list[Exception | None],
) -> None:
    calls += [None]
    assert post_note(EVENT, None) == {"noteId": "hello"}

    class Stricter(Note):
        colour: str

    newer = dataclasses.replace(post_note, input_model=Stricter)
    assert newer(EVENT, None) == {"noteId": "hello"}
    with pytest.raises(ToolRejected, match="colour: Field required"):
        newer(EVENT | {"key": "agent-1#EFFECT#000002#1"}, None)


# Values that would poison the record


class Anything(BaseModel):
    value: Any = None


def test_half_a_character_is_replaced_on_the_way_in_and_out() -> None:
    @tool(effect="read")
    def echo(request: Anything) -> Anything:
        """Say it again, with half a character more."""
        return Anything(value=[request.value, "\udc00"])

    assert echo(EVENT | {"input": {"value": "\ud83d"}}, None) == {"value": ["\ufffd", "\ufffd"]}


@pytest.mark.parametrize("levels", [33, 200, 300])
def test_an_output_that_nests_too_deep_becomes_text(levels: int) -> None:
    @tool(effect="read")
    def dig(request: Anything) -> Anything:
        """Dig deep."""
        value: Any = request.value
        for _ in range(levels):
            value = [value]
        return Anything(value=value)

    result = dig(EVENT | {"input": {"value": 1}}, None)
    assert result.keys() == {"truncated", "text"}
    json.dumps(result)


def test_arguments_that_nest_too_deep_are_rejected() -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    with pytest.raises(ToolRejected, match="nest more than"):
        find_note(EVENT | {"input": {"title": value}}, None)
