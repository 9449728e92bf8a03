"""Announces again what was not published: reads the queue OutboxDeadLetters, and writes `announce` of STATE anew.

agent_publish keeps a record there that it can never publish: the agent's id, and which state of it the record was. The
pipe keeps the place of a batch in the table's stream. The write is the one of agent_watch.
"""

import datetime as dt
import json
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Annotated, Any, NamedTuple

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from turnstile_agents.border import cut
from turnstile_agents.errors import RecordTooNew
from turnstile_agents.events import AgentId
from turnstile_agents.items import AgentState
from turnstile_agents.record import FREE, Model, Status
from turnstile_cli.files import ASL
from turnstile_cli.machines.definition import load_machine
from turnstile_cli.stack.client import Stack

HIDDEN = 300
"""Seconds for which no other reader of the queue gets a message that was read."""
WAIT = 1
"""Seconds to wait for a message: without a wait, SQS may give an empty answer although there are some."""
PAGES = 100
"""Most pages of the stream that are read for one message. A batch has ten records; others may lie between them."""
TEXT_LIMIT = 200
"""Bytes of a text from outside in a line."""
_GONE = {"TrimmedDataAccessException", "ResourceNotFoundException"}
"""The stream's errors for a record, or a whole shard, that it no longer has."""
_Number = Annotated[str, StringConstraints(pattern=r"^[0-9]{21,40}$")]


class Letter(BaseModel):
    """A message of agent_publish: a record that can never be published as it is."""

    model_config = ConfigDict(alias_generator=to_camel)
    agent_id: AgentId
    step: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")] = ""
    last_updated: str = ""
    """Empty, as `step`, for a record that no machine wrote."""
    error: str


class Batch(BaseModel):
    """A message of the pipe, its `DDBStreamBatchInfo`: the place of the batch that it gave up."""

    model_config = ConfigDict(alias_generator=to_camel)
    stream_arn: str
    shard_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{28,65}$")]
    start_sequence_number: _Number
    end_sequence_number: _Number


class Republished(Model):
    """What became of one message."""

    message_id: str
    announced: Annotated[list[str], Field(description="The agents that were announced again")]
    kept: Annotated[bool, Field(description="Whether the message stays in the queue, for the operator")]
    what: Annotated[str, Field(description="The same in words, with what is left to do")]


class _Lost(NamedTuple):
    """An announcement that was not published."""

    agent_id: str
    step: str
    last_updated: str


class _Unresolved(Exception):
    """A message must stay in the queue; the text says why, and what to do."""


def republish(stack: Stack) -> Iterator[Republished]:
    """Announce again what the queue's messages are about. Yield what became of each message.

    A message is deleted if nothing is left to do for it. The others stay; at the end every reader sees them again.
    """
    queue, sqs, outbox = stack.outputs.outbox_dead_letters_url, stack.client("sqs"), _Outbox(stack)
    kept: dict[str, str] = {}
    try:
        while True:
            answer = sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=HIDDEN, WaitTimeSeconds=WAIT
            )
            messages = [each for each in answer.get("Messages", []) if each["MessageId"] not in kept]
            if not messages:
                return
            for message in messages:
                handled = outbox.handle(message["MessageId"], message["Body"])
                if handled.kept:
                    kept[message["MessageId"]] = message["ReceiptHandle"]
                else:
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                yield handled
    finally:
        for receipt in kept.values():
            sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)


class _Outbox:
    """Finds what a message is about, and announces it. Knows which agents this run has announced."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._announced: set[str] = set()

    def handle(self, message_id: str, body: str) -> Republished:
        words, kept, before = [], False, set(self._announced)
        try:
            for lost in self._read(body):
                try:
                    words.append(f"agent {lost.agent_id} {self._announce(lost)}")
                except _Unresolved as error:
                    words.append(f"agent {lost.agent_id} {error}")
                    kept = True
        except _Unresolved as error:
            words, kept = [str(error)], True
        what = "; ".join(words) or "its records announced nothing"
        return Republished(message_id=message_id, announced=sorted(self._announced - before), kept=kept, what=what)

    def _read(self, body: str) -> list[_Lost]:
        try:
            message = json.loads(body)
            if isinstance(message, dict) and "DDBStreamBatchInfo" in message:
                return self._find(Batch.model_validate(message["DDBStreamBatchInfo"]))
            letter = Letter.model_validate(message)
        except (ValueError, RecursionError) as error:
            raise _Unresolved(
                "neither agent_publish nor the pipe writes such a message; read it, then delete it"
            ) from error
        return [_Lost(letter.agent_id, letter.step, letter.last_updated)]

    def _find(self, batch: Batch) -> list[_Lost]:
        """Find the last announcement of each agent in a batch."""
        if batch.stream_arn != self._stream:
            raise _Unresolved("it is about another stream than this stack's; read it, then delete it")
        try:
            return [*{lost.agent_id: lost for lost in self._announcements(batch)}.values()]
        except ClientError as error:
            if error.response["Error"]["Code"] not in _GONE:
                raise _Unresolved(f"the stream cannot be read: {_short(error.response['Error']['Message'])}") from error
            raise _Unresolved(
                "the stream holds these records no more: it keeps them for 24 hours. agent_watch announces again what "
                "needs a turn, a recovery or a decision; subscribers were not told of questions and ends, which "
                "`turnstile list` shows. Then delete it"
            ) from error

    @cached_property
    def _stream(self) -> str:
        table = self._stack.dynamodb.describe_table(TableName=self._stack.outputs.table_name)["Table"]
        return table["LatestStreamArn"]

    def _announcements(self, batch: Batch) -> Iterator[_Lost]:
        streams = self._stack.client("dynamodbstreams")
        place = streams.get_shard_iterator(
            StreamArn=batch.stream_arn,
            ShardId=batch.shard_id,
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            SequenceNumber=batch.start_sequence_number,
        )["ShardIterator"]
        last = int(batch.end_sequence_number)
        for _ in range(PAGES):
            page = streams.get_records(ShardIterator=place)
            for change in (record["dynamodb"] for record in page["Records"]):
                image = change.get("NewImage", {})
                if "announce" in image:
                    # A record that no machine wrote may lack an attribute.
                    texts = (image.get(name, {}) for name in ("agentId", "step", "lastUpdated"))
                    yield _Lost(*(next(iter(text.values()), "") for text in texts))
                if int(change["SequenceNumber"]) >= last:
                    return
            place = page.get("NextShardIterator")
            if not place:
                return
        raise _Unresolved(f"its last record is not in the next {PAGES} pages of the stream; read it, then delete it")

    def _announce(self, lost: _Lost) -> str:
        """Announce an agent that is still as in the record. Return what happened, in words."""
        agent_id, again = lost.agent_id, lost.agent_id in self._announced
        try:
            state = self._stack.table.state(agent_id)
        except (ValueError, RecordTooNew) as error:
            advice = f"`turnstile verify {agent_id}` says why; repair it, then try again"
            raise _Unresolved(f"has a record that cannot be read; {advice}") from error
        if state is None:
            return "is gone: nothing to announce"
        # A broken record has no step. If it comes twice, it was repaired and announced at its first message.
        current = (lost.step, lost.last_updated) == (str(state.step), state.last_updated) if lost.step else not again
        if not current:
            return "has gone on: nothing to announce"
        if again:
            raise _Unresolved(
                "was announced again a moment ago, and is not published: see docs/operations.md, then try again"
            )
        try:
            self._stack.dynamodb.update_item(TableName=self._stack.outputs.table_name, **_announcement(state))
        except self._stack.dynamodb.exceptions.ConditionalCheckFailedException:
            if state.status is Status.WAITING_FOR_APPROVAL:
                return (
                    f"waits for an approval, and was announced twice: `turnstile show {agent_id}` shows what to decide"
                )
            return "has gone on: nothing to announce"
        self._announced.add(agent_id)
        return f"is announced again: {state.status} at step {state.step}"


def _announcement(state: AgentState) -> dict[str, Any]:
    """Return the write of agent_watch that announces this STATE."""
    if state.next_action != FREE:
        name = "AnnounceTurn"
    elif state.status in (Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED):
        name = "AnnounceError"
    else:
        name = "RemindApprover" if state.status is Status.WAITING_FOR_APPROVAL else "AnnounceEnd"
    given = {
        "$.agent.nextAction": state.next_action,
        "$.agent.status": state.status,
        "$.agent.waitsFor": state.waits_for,
        "States.Format('{}', $.agent.step)": str(state.step),
        "$$.State.EnteredTime": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    write = _writes()[name]
    values = {
        name: {kind.removesuffix(".$"): given[value] if kind.endswith(".$") else value for kind, value in typed.items()}
        for name, typed in write["ExpressionAttributeValues"].items()
    }
    return {
        "Key": {"agentId": {"S": state.agent_id}, "record": {"S": "STATE"}},
        "UpdateExpression": write["UpdateExpression"],
        "ConditionExpression": write["ConditionExpression"],
        "ExpressionAttributeNames": write["ExpressionAttributeNames"],
        "ExpressionAttributeValues": values,
    }


@cache
def _writes() -> dict[str, Any]:
    """Return the Parameters of agent_watch's tasks by the tasks' names."""
    return {task.name: task.fields["Parameters"] for task in load_machine(ASL / "agent_watch.asl.yaml").tasks()}


def _short(text: str) -> str:
    return cut(text, TEXT_LIMIT)
