"""The logger of every Lambda: one JSON line per event, with the request's id. And what a Lambda reports of an error."""

import functools
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from aws_lambda_powertools import Logger

from turnstile_agents.border import clean_text, cut

F = TypeVar("F", bound=Callable[..., Any])

ERROR_LIMIT = 4 * 1024
"""Bytes of an error's message: with its stack trace it is a Cause, which has at most 32,768 characters."""
FRAMES = 50
"""Calls in the stack trace of an error that is reported as it is."""
logger = Logger(service="turnstile")


def bound_errors(handler: F) -> F:
    """Keep what a Lambda's handler reports of an error short: the machine puts it into the record and into a Cause.

    An error with a longer message, or more calls in its stack trace, is replaced by one of the same name.
    """

    @functools.wraps(handler)
    def bounded(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except Exception as error:
            text = clean_text(str(error))
            if len(text.encode()) <= ERROR_LIMIT and len(traceback.extract_tb(error.__traceback__)) <= FRAMES:
                raise
            logger.exception("This error is too long to be reported as it is")
            # Step Functions takes an error's name from the name of its class.
            short = type(type(error).__name__, (Exception,), {})(cut(text, ERROR_LIMIT))
        raise short

    return bounded  # type: ignore[return-value]
