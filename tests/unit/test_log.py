"""What a Lambda reports of an error is short, and has the error's name."""

import traceback
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from turnstile_agents.errors import InvalidRecord
from turnstile_agents.load_turn.handler import handler
from turnstile_agents.log import ERROR_LIMIT, FRAMES, bound_errors


def deep(levels: int) -> None:
    if levels == 0:
        raise InvalidRecord("deep")
    deep(levels - 1)


def raise_(error: Exception) -> Callable[..., None]:
    def fail() -> None:
        raise error

    return bound_errors(fail)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRecord("x" * 100_000),
        InvalidRecord("é" * 4000),
        ClientError({"Error": {"Code": "Long", "Message": "x" * 100_000}}, "GetItem"),
    ],
)
def test_a_long_message_is_cut(error: Exception) -> None:
    with pytest.raises(Exception) as reported:
        raise_(error)()
    assert type(reported.value).__name__ == type(error).__name__
    assert ERROR_LIMIT < len(str(reported.value).encode()) < ERROR_LIMIT + 10


def test_a_long_stack_trace_is_left_out() -> None:
    with pytest.raises(Exception, match="^deep$") as reported:
        bound_errors(deep)(FRAMES)
    assert type(reported.value).__name__ == "InvalidRecord"
    assert len(traceback.extract_tb(reported.value.__traceback__)) < 5


def test_another_error_is_reported_as_it_is() -> None:
    error = InvalidRecord("short")
    with pytest.raises(InvalidRecord) as reported:
        raise_(error)()
    assert reported.value is error
    with pytest.raises(InvalidRecord) as reported:
        bound_errors(deep)(20)
    assert type(reported.value) is InvalidRecord
    assert bound_errors(lambda: 1)() == 1


def test_the_handlers_of_the_machines_report_so() -> None:
    context = SimpleNamespace(function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="id")
    with pytest.raises(Exception, match="validation errors") as reported:
        handler({f"unknown {number}": "x" * 100 for number in range(100)}, context)
    assert type(reported.value).__name__ == "ValidationError"
    assert ERROR_LIMIT < len(str(reported.value)) < ERROR_LIMIT + 10
