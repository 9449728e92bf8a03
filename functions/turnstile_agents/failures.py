"""The kinds of failure that end a turn, and what a recovery does about each. Pure.

    a failure
    ├── TRANSIENT  it may pass                → another turn after a pause (RouteRecoveries)
    ├── TOOL       a call was left uncertain  → it is settled by now: another turn (RouteRecoveries)
    ├── PLANNING   the model's replies failed → the model makes a new plan (RouteReplans)
    ├── TOO_LARGE  a payload was too large    → the model asks for less, or an operator decides (RouteTooLarge)
    ├── FINAL      the model has no way on    → undo the effects and ask the user, or FAILED (RouteStanding)
    └── UNKNOWN    any other error            → an operator decides (NotifyOperator)

The names are those of the machines and functions; of AWS's errors, the part before the dot is the service as Step
Functions writes it.
"""

from enum import StrEnum
from fnmatch import fnmatchcase


class FailureKind(StrEnum):
    """A kind of failure: the tree above."""

    TRANSIENT = "TRANSIENT"
    TOOL = "TOOL"
    PLANNING = "PLANNING"
    TOO_LARGE = "TOO_LARGE"
    FINAL = "FINAL"
    UNKNOWN = "UNKNOWN"


ERRORS: dict[FailureKind, tuple[str, ...]] = {
    FailureKind.TRANSIENT: (
        "TurnDied",
        "RecordTooNew",
        "TurnOutdated",
        "States.Timeout",
        "BedrockRuntime.BedrockRuntimeException",
        "BedrockRuntime.InternalServerException",
        "BedrockRuntime.ModelErrorException",
        "BedrockRuntime.ModelNotReadyException",
        "BedrockRuntime.ModelTimeoutException",
        "BedrockRuntime.SdkClientException",
        "BedrockRuntime.ServiceUnavailableException",
        "BedrockRuntime.ThrottlingException",
        "DynamoDb.*",
        "EventBridge.*",
        "Lambda.*",
        "Runtime.*",
        "Sandbox.*",
    ),
    FailureKind.TOOL: ("EffectUncertain",),
    FailureKind.PLANNING: ("TooManyWrongReplies",),
    FailureKind.TOO_LARGE: ("ContextTooLarge", "States.DataLimitExceeded"),
    FailureKind.FINAL: (
        "GivenUp",
        "SameCallsAgain",
        "TooManyReplans",
        "OutOfSteps",
        "OutOfTokens",
        "OutOfBudget",
        "InvalidRecord",
    ),
}
"""The errors of each kind; `*` stands for the rest of a name."""


def kind_of(error: str) -> FailureKind:
    """Return the kind of an error by its name; UNKNOWN if no kind has it."""
    return next(
        (kind for kind, names in ERRORS.items() if any(fnmatchcase(error, name) for name in names)),
        FailureKind.UNKNOWN,
    )
