"""The answer of an operator about an agent: its shape and its checks.

LoadRecovery checks each answer, and its check decides. The API and the command line make the same check before they
send an answer, so that a person sees at once what is missing. Pure.
"""

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictBool, ValidationError, model_validator

from turnstile_agents.border import DEPTH, RESULT_LIMIT, clean, nests_deeper
from turnstile_agents.items import Effect
from turnstile_agents.record import BY_LIMIT, Model

NOTE_LIMIT = 4000
"""Characters of a note."""
EFFECTS_LIMIT = 50
"""Effects that an answer names at most."""
COMPLAINTS = 5
"""Errors of an answer that a refusal names at most."""
SHOWN = 500
"""Characters of a call's arguments in a message."""
RESULT_UNKNOWN = {"happened": True, "note": "The operator says that it happened; its result is not known."}
"""The result in the ledger of a call whose result the operator does not give."""


class OperatorDecision(StrEnum):
    """The decisions that an operator may make."""

    RETRY = "RETRY"
    REPLAN = "REPLAN"
    COMPENSATE = "COMPENSATE"
    ABORT = "ABORT"


class EffectAnswer(Model):
    """An operator's statement about one uncertain effect."""

    key: Annotated[str, Field(description="The effect's `record`, as EFFECT#000007#0")]
    happened: Annotated[StrictBool, Field(description="Whether the call took effect")]
    result: Annotated[Any, Field(description="The call's result, if it happened and this is known; any JSON")] = None

    # The schema has the same rule as the validator, so that every answer that fits it is accepted.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"happened": {"const": False}}},
            "then": {"properties": {"result": {"type": "null"}}},
        }
    )

    @model_validator(mode="after")
    def _no_result_of_nothing(self) -> Self:
        if self.result is not None and not self.happened:
            raise ValueError("a call that did not happen has no result")
        return self


class OperatorAnswer(Model):
    """An operator's answer: the output of the task that waits for it."""

    decision: OperatorDecision
    note: Annotated[str, Field(max_length=NOTE_LIMIT, description="Why; kept in the journal")] = ""
    effects: Annotated[
        list[EffectAnswer], Field(max_length=EFFECTS_LIMIT, description="Whether uncertain effects happened")
    ] = []
    by: Annotated[str, Field(max_length=BY_LIMIT, description="The operator's name")] = ""
    source: Annotated[str, Field(max_length=256, description="The way that the answer came, as an event's Source")] = ""


class AnswerRefused(ValueError):
    """An answer cannot be carried out; the message says what is wrong or missing."""


def read_answer(answer: Any, ledger: Iterable[Effect]) -> OperatorAnswer:
    """Check an answer against an agent's ledger. Raises AnswerRefused."""
    if not isinstance(answer, dict):
        raise AnswerRefused("it is no JSON object")
    if nests_deeper(answer):
        raise AnswerRefused(f"it is nested more than {DEPTH} levels deep")
    cleaned = clean(answer)
    size = len(json.dumps(cleaned, ensure_ascii=False).encode())
    if size > RESULT_LIMIT:
        raise AnswerRefused(f"it has {size} bytes; at most {RESULT_LIMIT} are read")
    try:
        read = OperatorAnswer.model_validate(cleaned)
    except ValidationError as error:
        raise AnswerRefused("; ".join(_complaint(each) for each in error.errors()[:COMPLAINTS])) from error
    check_effects(read.decision, read.effects, ledger)
    return read


def check_effects(decision: OperatorDecision, effects: Iterable[EffectAnswer], ledger: Iterable[Effect]) -> None:
    """Check that a decision names only effects of this agent, and each uncertain one unless it is ABORT.

    An answer may name an effect that was settled since the question was asked: the ledger's status counts.
    Raises AnswerRefused.
    """
    known = {effect.record: effect for effect in ledger}
    named = [effect.key for effect in effects]
    if twice := sorted({key for key in named if named.count(key) > 1}):
        raise AnswerRefused(f"it names {', '.join(twice)} twice")
    if unknown := [key for key in named if key not in known]:
        raise AnswerRefused(f"this agent has no effect {', '.join(unknown)}")
    open_effects = [effect for effect in known.values() if effect.unsettled and effect.record not in named]
    if open_effects and decision is not OperatorDecision.ABORT:
        missing = "; ".join(map(describe, open_effects))
        raise AnswerRefused(
            f"{decision} needs to know of each uncertain effect whether it happened. Missing: {missing}"
        )


def describe(effect: Effect) -> str:
    """Describe a ledger entry in one line: its key, its call, and when the call began."""
    text = effect.input
    arguments = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return f"{effect.record}, {effect.tool} {arguments}, since {effect.reserved_at}"


def _complaint(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {text}" if place else text
