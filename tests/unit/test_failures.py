"""The kinds of failure: each error has one, and the tree at the top of the module shows them all."""

import pytest

from turnstile_agents import failures
from turnstile_agents.failures import ERRORS, FailureKind, kind_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("TurnDied", FailureKind.TRANSIENT),
        ("DynamoDb.ThrottlingException", FailureKind.TRANSIENT),
        ("BedrockRuntime.ThrottlingException", FailureKind.TRANSIENT),
        ("BedrockRuntime.ValidationException", FailureKind.UNKNOWN),
        ("BedrockRuntime.AccessDeniedException", FailureKind.UNKNOWN),
        ("EffectUncertain", FailureKind.TOOL),
        ("TooManyWrongReplies", FailureKind.PLANNING),
        ("States.DataLimitExceeded", FailureKind.TOO_LARGE),
        ("States.Runtime", FailureKind.UNKNOWN),
        ("GivenUp", FailureKind.FINAL),
        ("Misaligned", FailureKind.UNKNOWN),
        ("", FailureKind.UNKNOWN),
    ],
)
def test_an_error_has_a_kind(error: str, kind: FailureKind) -> None:
    assert kind_of(error) is kind


def test_no_error_has_two_kinds() -> None:
    names = [name for several in ERRORS.values() for name in several]
    assert len(set(names)) == len(names)


def test_the_tree_shows_every_kind() -> None:
    assert [kind for kind in FailureKind if f"── {kind}" not in (failures.__doc__ or "")] == []
