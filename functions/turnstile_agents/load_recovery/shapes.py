"""The data that the machine `agent_recovery` carries: the input and the output of LoadRecovery."""

from typing import Annotated, Any, Literal

from pydantic import Field

from turnstile_agents.definition import Limits, OnUnknown
from turnstile_agents.failures import FailureKind
from turnstile_agents.record import Model


class Taken(Model):
    """The input of LoadRecovery: an agent whose lease this recovery has taken over."""

    agent_id: str
    owner: str
    tried: Annotated[bool, Field(description="Whether this recovery has tried to settle the unsettled effects")]
    order: Annotated[
        str, Field(description="The operator's decision; ASK if the operator must be asked about effects not undone")
    ]
    note: Annotated[str, Field(description="The note of the operator, or of the request to cancel")]
    by: Annotated[str, Field(description="The operator, or the caller that cancelled; empty before")]
    source: Annotated[str, Field(description="The Source of the answer or of the request; empty before")]


class LoadRecoveryInput(Taken):
    """The same, with the answer of the operator's task, if there is one. The answer may be any JSON."""

    answer: Any = None


class RecoveryAgent(Taken):
    """The agent as the recovery carries it."""

    step: Annotated[int, Field(description="The newest entry of the journal")]


class LookUp(Model):
    """The look-up that finds out whether a call took effect. All fields are empty without a look-up."""

    function: str = ""
    key: str = ""
    timeout_seconds: int = 0


class Said(Model):
    """An operator's statement about an effect."""

    happened: bool = False
    result: Any = None


class Unsettled(Model):
    """A ledger entry whose end is unknown."""

    key: Annotated[str, Field(description="Its `record`")]
    undoes: Annotated[
        str, Field(description="The `record` of the effect that it undoes, which is settled with it; or empty")
    ]
    owner: Annotated[str, Field(description="The entry's owner when the record was read")]
    full_key: Annotated[str, Field(description="The key that the tool was given")]
    tool: str
    function: str
    input: dict[str, Any]
    timeout_seconds: int
    on_unknown: Annotated[
        Literal[OnUnknown, "told"], Field(description="How it is settled: as its tool says, or as an operator says")
    ]
    look_up: LookUp
    said: Said
    denial: Annotated[str, Field(description="The message that is stored if the call did not take effect")]


class Undo(Model):
    """An effect that stands and can be undone, and the call that undoes it."""

    key: Annotated[str, Field(description="The effect's `record`")]
    undo_key: Annotated[str, Field(description="The `record` of this attempt to undo it")]
    tool: str
    function: str
    input: dict[str, Any]
    timeout_seconds: int


class Texts(Model):
    """The texts for people and for the model."""

    retry: Annotated[str, Field(description="To the model, before the turn goes on; empty if there is nothing to tell")]
    replan: Annotated[str, Field(description="To the model, before it plans again")]
    compensated: Annotated[str, Field(description="To the model, once everything is undone")]
    question: Annotated[str, Field(description="To the user, once everything is undone; of a child, to its parent")]
    subject: Annotated[str, Field(max_length=100, description="Of the operator's message")]
    operator: Annotated[str, Field(description="The operator's message: the error, the effects and the decisions")]


class Replans(Model):
    """The number of times that the plan was replaced."""

    replans: int


class OperatorQuestion(Model):
    """How the operator is asked."""

    reminder_seconds: Annotated[int, Field(ge=1, description="Seconds until the question is asked again")]
    reminders: Annotated[int, Field(ge=0, description="How often it is asked again before the agent is FAILED")]
    question_id: Annotated[
        str, Field(description="The id of the next question, different from the id of every earlier question")
    ] = ""


class Situation(Model):
    """The output of LoadRecovery."""

    agent: RecoveryAgent
    error: Annotated[str, Field(description="The error's name; a message to the operator carries it as an attribute")]
    kind: Annotated[FailureKind, Field(description="The kind of that error")]
    record: Annotated[str, Field(description="The `record` of the entry that this recovery will write")]
    unsettled: list[Unsettled]
    calls_end_by: Annotated[str, Field(description="When no call of `unsettled` can be running any more, ISO 8601")]
    compensations: Annotated[list[Undo], Field(description="The effects that can be undone, the newest first")]
    standing: Annotated[bool, Field(description="Whether any effect stands")]
    undone: Annotated[bool, Field(description="Whether effects were undone that the model was not told of")]
    inbox: Annotated[int, Field(description="Number of inputs when the record was read")]
    unheard: Annotated[bool, Field(description="Whether there are texts of the user that no decision has read")]
    cancelled: Annotated[
        bool, Field(description="Whether a cancellation was requested, or an agent above it has ended or is gone")
    ]
    child: Annotated[bool, Field(description="Whether it has a parent: then there is no user to ask")]
    attempts: Annotated[int, Field(description="Recoveries in a row since the last other entry of the journal")]
    back_off_seconds: int
    limits: Limits
    used: Replans
    operator: OperatorQuestion
    refused: Annotated[bool, Field(description="Whether the operator's answer is refused")]
    texts: Texts
