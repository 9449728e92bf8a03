"""Republish: what each message leads to, which message is deleted, and which stays."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from tests.unit.records import AT, state
from tests.unit.stacks import client, mock_stack, put
from turnstile_agents.items import item_of, stored
from turnstile_cli import cli
from turnstile_cli.cli import common
from turnstile_cli.stack import republish
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.republish import PAGES, Republished

FIRST, LAST = (f"{number:021d}" for number in (5, 7))
SHARD = "shardId-00000000000000000000-00000000"
GONE_ON = "agent a-1 has gone on: nothing to announce"
FOREIGN = "neither agent_publish nor the pipe writes such a message; read it, then delete it"


class Streams:
    """The stream: each page has the records of these numbers."""

    def __init__(self, *pages: list[dict[str, Any]], error: str = "") -> None:
        self.pages = pages
        self.error = error

    def get_shard_iterator(self, **place: str) -> dict[str, Any]:
        if self.error:
            raise ClientError(
                {"Error": {"Code": self.error, "Message": "The record is\n not there."}}, "GetShardIterator"
            )
        assert (place["ShardIteratorType"], place["SequenceNumber"]) == ("AT_SEQUENCE_NUMBER", FIRST)
        return {"ShardIterator": "0"}

    def get_records(self, **place: str) -> dict[str, Any]:
        here = int(place["ShardIterator"])
        return {"Records": self.pages[here % len(self.pages)], "NextShardIterator": str(here + 1)}


def change(number: int, **image: str) -> dict[str, Any]:
    typed = {name: {"N" if name == "step" else "S": value} for name, value in image.items()}
    return {"dynamodb": {"SequenceNumber": f"{number:021d}", "NewImage": typed}}


def announced(number: int, agent_id: str = "a-1", step: str = "1", last_updated: str = AT) -> dict[str, Any]:
    return change(number, announce="AgentError", agentId=agent_id, step=step, lastUpdated=last_updated)


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def stack(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr(republish, "WAIT", 0)
    monkeypatch.setattr(common, "connect", lambda _: stack)
    with mock_stack(clients={"dynamodbstreams": streams}) as stack:
        url = client("sqs").create_queue(QueueName="turnstile-OutboxDeadLetters")["QueueUrl"]
        assert url == stack.outputs.outbox_dead_letters_url
        stack.dynamodb.update_table(
            TableName=stack.outputs.table_name,
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        yield stack


def store(stack: Stack, agent_id: str = "a-1", **fields: str) -> None:
    """Put an agent; no execution works on it, unless `owner` names one."""
    attributes = {**state(owner="NONE"), **fields, "agentId": agent_id}
    stack.dynamodb.put_item(TableName=stack.outputs.table_name, Item=stored(item_of(attributes)))


def spoil(stack: Stack, agent_id: str = "a-1") -> None:
    put(stack, {**state(status="BROKEN"), "agentId": agent_id})


def send(stack: Stack, *bodies: Any) -> None:
    for body in bodies:
        text = body if isinstance(body, str) else json.dumps(body)
        client("sqs").send_message(QueueUrl=stack.outputs.outbox_dead_letters_url, MessageBody=text)


def letter(**fields: Any) -> dict[str, Any]:
    refused = {"step": "1", "lastUpdated": AT, "announce": "AgentStateUpdated", "error": "EventBridge.FailedEntry"}
    return {"agentId": "a-1", **refused, **fields}


def position(stack: Stack, **fields: Any) -> dict[str, Any]:
    stream = stack.dynamodb.describe_table(TableName=stack.outputs.table_name)["Table"]["LatestStreamArn"]
    batch = {"shardId": SHARD, "startSequenceNumber": FIRST, "endSequenceNumber": LAST, "streamArn": stream}
    return {"context": {"condition": "RetryAttemptsExhausted"}, "DDBStreamBatchInfo": {**batch, **fields}}


def run(stack: Stack) -> list[Republished]:
    return list(republish.republish(stack))


def left(stack: Stack) -> int:
    """Return how many messages the next reader of the queue sees."""
    found = client("sqs").receive_message(
        QueueUrl=stack.outputs.outbox_dead_letters_url, MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    return len(found.get("Messages", []))


def announcement(stack: Stack, agent_id: str = "a-1") -> str:
    return (stack.table.item_attributes(agent_id, "STATE") or {}).get("announce", "")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"status": "INITIATED", "nextAction": "PLANNING"}, "AgentStateUpdated"),
        ({"status": "PLANNING_FAILED"}, "AgentError"),
        ({"status": "TOOL_EXECUTION_FAILED"}, "AgentError"),
        ({"status": "WAITING_FOR_INPUT"}, "AgentStateUpdated"),
        ({"status": "COMPLETED"}, "AgentStateUpdated"),
    ],
)
def test_a_refused_record_is_announced_again(stack: Stack, fields: dict[str, str], name: str) -> None:
    store(stack, **fields)
    send(stack, letter())
    [done] = run(stack)
    assert (done.announced, done.kept) == (["a-1"], False)
    assert done.what == f"agent a-1 is announced again: {fields['status']} at step 1"
    after = stack.table.item_attributes("a-1", "STATE")
    assert after
    assert (after["announce"], after["lastUpdated"] > AT) == (name, True)
    assert {**after, "lastUpdated": AT, "announce": ""} == {**state(owner="NONE", **fields), "announce": ""}
    assert left(stack) == 0


def test_the_approvers_are_told_again_once_and_the_approval_expires_when_it_would(stack: Stack) -> None:
    store(stack, status="WAITING_FOR_APPROVAL", waitsFor="1")
    send(stack, letter(), letter())
    first, second = run(stack)
    assert (first.announced, second.announced, second.kept) == (["a-1"], [], True)
    after = stack.table.state("a-1")
    assert after
    assert (after.reminded_of, after.last_updated) == ("1", AT)
    [again] = run(stack)
    assert not again.kept
    assert again.what.endswith("was announced twice: `turnstile show a-1` shows what to decide")


@pytest.mark.parametrize(
    "fields", [{"step": "2"}, {"lastUpdated": "2026-01-01T00:00:01.000Z"}, {"owner": "arn:execution#now"}]
)
def test_an_agent_that_has_gone_on_is_not_announced(stack: Stack, fields: dict[str, str]) -> None:
    store(stack, status="COMPLETED", **fields)
    send(stack, letter())
    [done] = run(stack)
    assert (done.announced, done.kept, done.what) == ([], False, GONE_ON)
    assert (announcement(stack), left(stack)) == ("", 0)


def test_an_agent_that_goes_on_meanwhile_is_not_announced(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    store(stack, status="COMPLETED")
    read = stack.table.state("a-1")
    store(stack, status="COMPLETED", owner="arn:execution#now")  # an execution has taken the lease since
    monkeypatch.setattr(stack.table, "state", lambda _: read)
    send(stack, letter())
    assert [each.what for each in run(stack)] == [GONE_ON]
    assert announcement(stack) == ""


def test_an_agent_that_is_gone_leaves_nothing_to_do(stack: Stack) -> None:
    send(stack, letter())
    assert [(each.kept, each.what) for each in run(stack)] == [(False, "agent a-1 is gone: nothing to announce")]


def test_an_older_announcement_of_the_same_agent_is_left_alone(stack: Stack) -> None:
    store(stack, status="COMPLETED")
    send(stack, letter(), letter(), letter(lastUpdated="2025-12-31T00:00:00.000Z"))
    assert [each.announced for each in run(stack)] == [["a-1"], [], []]
    assert left(stack) == 0


def test_a_record_that_is_refused_again_does_not_go_round(stack: Stack) -> None:
    store(stack, status="COMPLETED")
    send(stack, letter())
    found = []
    for each in republish.republish(stack):
        found.append(each)
        after = stack.table.state("a-1")
        assert after
        if len(found) < 3:  # agent_publish cannot publish it again
            send(stack, letter(lastUpdated=after.last_updated))
    assert [each.kept for each in found] == [False, True, True]
    assert "a moment ago" in found[1].what
    assert left(stack) == 2


def test_a_broken_record_is_announced_when_it_is_repaired(stack: Stack) -> None:
    spoil(stack)
    malformed = {"agentId": "a-1", "error": "RecordMalformed"}
    send(stack, malformed, malformed)
    found = run(stack)
    assert [each.kept for each in found] == [True, True]
    assert "`turnstile verify a-1`" in found[0].what
    assert left(stack) == 2
    store(stack, status="COMPLETED")
    assert sorted((each.announced, each.kept) for each in run(stack)) == [([], False), (["a-1"], False)]
    assert left(stack) == 0


def test_a_batch_of_the_stream_is_announced_up_to_its_end(stack: Stack, streams: Streams) -> None:
    for agent_id in ("a-1", "a-2", "a-3"):
        store(stack, agent_id, status="PLANNING_FAILED")
    spoil(stack, "a-4")
    streams.pages = (
        [
            announced(5, step="0"),
            change(6, agentId="a-9"),
            announced(6, "a-2"),
            {"dynamodb": {"SequenceNumber": LAST[:-1] + "6"}},
        ],
        [],
        [announced(7), announced(8, "a-3")],
    )
    send(stack, position(stack))
    [done] = run(stack)
    assert (done.announced, done.kept) == (["a-1", "a-2"], False)
    assert [announcement(stack, f"a-{number}") for number in (1, 2, 3)] == ["AgentError", "AgentError", ""]
    # Another agent of the batch that cannot be announced keeps the message.
    streams.pages = ([announced(6, "a-4"), announced(7, "a-3")],)
    send(stack, position(stack))
    [done] = run(stack)
    assert (done.announced, done.kept) == (["a-3"], True)


def test_a_record_of_the_stream_that_no_machine_wrote_is_announced_if_it_was_repaired(
    stack: Stack, streams: Streams
) -> None:
    store(stack, "a-1", status="PLANNING_FAILED")
    streams.pages = ([change(7, announce="AgentError", agentId="a-1")],)
    send(stack, position(stack))
    [done] = run(stack)
    assert (done.announced, done.kept) == (["a-1"], False)


@pytest.mark.parametrize("error", ["TrimmedDataAccessException", "ResourceNotFoundException", "AccessDeniedException"])
def test_a_batch_that_cannot_be_read_stays_with_advice(stack: Stack, streams: Streams, error: str) -> None:
    streams.error = error
    store(stack, status="COMPLETED")
    send(stack, position(stack), letter())
    kept, done = run(stack)
    assert (kept.kept, done.announced) == (True, ["a-1"])
    advice = "the stream cannot be read: The record is" if error.startswith("Access") else "keeps them for 24 hours"
    assert advice in kept.what
    assert left(stack) == 1


def test_a_batch_whose_end_never_comes_is_not_read_for_ever(stack: Stack, streams: Streams) -> None:
    streams.pages = ([],)
    send(stack, position(stack))
    assert [(each.kept, str(PAGES) in each.what) for each in run(stack)] == [(True, True)]


FORGED = (
    "",
    "no JSON",
    "[" * 100_000,
    "[]",
    "null",
    letter(agentId="no such\nid"),
    letter(agentId=7),
    letter(step="last"),
    letter(step=1),
    letter(lastUpdated=None),
    {"step": "1"},
    {"DDBStreamBatchInfo": None},
    {"DDBStreamBatchInfo": {"shardId": SHARD}},
)


def test_messages_from_elsewhere_stay_and_do_not_stop_the_others(stack: Stack) -> None:
    store(stack, status="COMPLETED")
    other = position(stack, streamArn="arn:aws:dynamodb:us-east-1:123456789012:table/Other/stream/1")
    odd = [position(stack, endSequenceNumber="1e9"), position(stack, shardId="../7")]
    send(stack, *filter(None, FORGED), *odd, other, letter())
    found = run(stack)
    assert [each.what for each in found[:-2]] == [FOREIGN] * (len(FORGED) + 1)
    assert "another stream" in found[-2].what
    assert found[-1].announced == ["a-1"]
    assert [each.kept for each in found] == [True] * (len(FORGED) + 2) + [False]


def test_a_message_is_deleted_only_after_its_agent_was_announced(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    store(stack, status="COMPLETED")
    send(stack, letter())

    def refuse(**_: Any) -> NoReturn:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Slow"}}, "UpdateItem")

    with monkeypatch.context() as busy, pytest.raises(ClientError):
        busy.setattr(stack.dynamodb, "update_item", refuse)
        busy.setattr(republish, "HIDDEN", 0)
        run(stack)
    assert left(stack) == 1


def test_the_command_prints_a_line_for_each_message_and_fails_if_one_stays(stack: Stack) -> None:
    def invoke(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["republish", *options])
        return result.exit_code, " ".join(result.stdout.split())

    assert invoke() == (0, "The queue is empty: every announcement was published.")
    store(stack, status="COMPLETED")
    send(stack, letter())
    code, printed = invoke()
    assert (code, printed.partition(" ")[2]) == (0, "done: agent a-1 is announced again: COMPLETED at step 1")
    send(stack, "no JSON")
    code, printed = invoke()
    assert (code, printed.partition(" ")[2]) == (1, f"kept: {FOREIGN}")
    code, printed = invoke("--json")
    [message] = json.loads(printed)["messages"]
    assert (code, message["kept"], message["announced"], message["what"]) == (1, True, [], FOREIGN)
