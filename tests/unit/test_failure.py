"""The reason why an execution did not succeed, also where DescribeExecution does not give it."""

from typing import Any

import pytest

from turnstile_cli.engines.failure import failure


class History:
    """A client that answers with the last event of a history."""

    def __init__(self, **event: Any) -> None:
        self.event = event

    def get_execution_history(self, **asked: Any) -> dict[str, Any]:
        assert asked == {"executionArn": "arn:1", "reverseOrder": True, "maxResults": 1}
        return {"events": [{"id": 7, **self.event}]}


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_what_is_told_is_taken(status: str) -> None:
    execution = {"executionArn": "arn:1", "status": status, "error": "AgentUnknown", "cause": "There is none."}
    assert failure(None, execution) == ("AgentUnknown", "There is none.")


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "ABORTED", "TIMED_OUT"])
def test_an_execution_that_did_not_fail_has_no_reason(status: str) -> None:
    assert failure(None, {"executionArn": "arn:1", "status": status}) == ("", "")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {"executionFailedEventDetails": {"error": "AgentExists", "cause": "There is one."}},
            ("AgentExists", "There is one."),
        ),
        ({"executionFailedEventDetails": {}}, ("", "")),
        ({"type": "ExecutionFailed"}, ("", "")),
    ],
)
def test_otherwise_the_history_says_it(event: dict[str, Any], expected: tuple[str, str]) -> None:
    assert failure(History(**event), {"executionArn": "arn:1", "status": "FAILED"}) == expected
