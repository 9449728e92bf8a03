"""What a pipe delivers again, and what it keeps of records that it gives up."""

import json
from typing import Any

import pytest

from turnstile_cli.engines.pipe import dead_letter, failed


def record(number: int) -> dict[str, Any]:
    return {
        "eventID": f"id-{number}",
        "dynamodb": {"SequenceNumber": str(number), "ApproximateCreationDateTime": number},
    }


RECORDS = [record(number) for number in range(3)]


@pytest.mark.parametrize(
    ("status", "reported", "again"),
    [
        ("SUCCEEDED", None, 3),
        ("SUCCEEDED", [], 3),
        ("SUCCEEDED", ["id-2"], 2),
        ("SUCCEEDED", ["id-2", "id-1"], 1),
        ("SUCCEEDED", ["unknown"], 0),
        ("FAILED", None, 0),
    ],
)
def test_a_batch_is_delivered_again_from_the_first_record_that_failed(
    status: str, reported: list[str] | None, again: int
) -> None:
    failures = [{"itemIdentifier": name} for name in reported or []]
    output = json.dumps({"other": 1} if reported is None else {"batchItemFailures": failures})
    assert failed(RECORDS, status, output) == RECORDS[again:]


def test_a_dead_letter_has_the_position_and_nothing_of_the_records() -> None:
    letter = dead_letter({"Arn": "arn:pipe", "Source": "arn:stream"}, RECORDS[1:], "shard-1")
    assert letter["context"] == {"partnerResourceArn": "arn:pipe", "condition": "RetryAttemptsExhausted"}
    assert letter["DDBStreamBatchInfo"] == {
        "shardId": "shard-1",
        "startSequenceNumber": "1",
        "endSequenceNumber": "2",
        "approximateArrivalOfFirstRecord": "1970-01-01T00:00:01.000Z",
        "approximateArrivalOfLastRecord": "1970-01-01T00:00:02.000Z",
        "batchSize": 2,
        "streamArn": "arn:stream",
    }
