"""What the machine `agent_recovery` carries: the shapes at the ends of LoadRecovery."""

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.definition import Limits, OnUnknown
from agent.record import Model


class Taken(Model):
    """What LoadRecovery is asked with: an agent whose lease this recovery has taken over."""

    agent_id: str
    owner: str
    tried: Annotated[bool, Field(description="Whether this recovery has tried to settle what is unsettled")]
    order: Annotated[
        str, Field(description="What the operator decided; ASK if the operator is to be asked what becomes of an undo")
    ]
    note: Annotated[str, Field(description="The operator's words")]
    by: Annotated[str, Field(description="The operator's name; empty before")]
    source: Annotated[str, Field(description="Which way the operator's answer came; empty before")]


class Asked(Taken):
    """The same, with what an operator's task was answered, if it was: anything at all."""

    answer: Any = None


class Agent(Taken):
    """The agent as the recovery carries it."""

    step: Annotated[int, Field(description="The newest entry of the journal")]


class LookUp(Model):
    """How to find out whether a call took effect. All of it empty if the definition names no look-up."""

    function: str = ""
    key: str = ""
    timeout_seconds: int = 0


class Said(Model):
    """What an operator says of an effect."""

    happened: bool = False
    result: Any = None


class Unsettled(Model):
    """A ledger entry whose end is unknown."""

    key: Annotated[str, Field(description="Its `record`")]
    undoes: Annotated[
        str, Field(description="The `record` of the effect that it undoes, which is settled with it; empty if none")
    ]
    owner: Annotated[str, Field(description="The entry's owner, as far as this was read")]
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
    denial: Annotated[str, Field(description="What is stored if nothing happened")]


class Undo(Model):
    """An effect that stands and can be undone, and the call that undoes it."""

    key: Annotated[str, Field(description="The effect's `record`")]
    undo_key: Annotated[str, Field(description="The `record` of this attempt to undo it")]
    tool: str
    function: str
    input: dict[str, Any]
    timeout_seconds: int


class Texts(Model):
    """What people and the model are told."""

    retry: Annotated[str, Field(description="To the model, before the turn goes on; empty if there is nothing to tell")]
    replan: Annotated[str, Field(description="To the model, before it plans again")]
    compensated: Annotated[str, Field(description="To the model, once everything is undone")]
    question: Annotated[str, Field(description="To the user, then; of a child, to its parent")]
    subject: Annotated[str, Field(max_length=100, description="Of the operator's message")]
    operator: Annotated[str, Field(description="The operator's message: what happened, was done, can be decided")]


class Replans(Model):
    """How often the plan was replaced."""

    replans: int


class Operator(Model):
    """How an operator is asked."""

    reminder_seconds: Annotated[int, Field(ge=1, description="Until the question is asked again")]
    reminders: Annotated[int, Field(ge=0, description="How often it is asked again before the agent is FAILED")]
    question_id: Annotated[
        str, Field(description="Of the next question: another one than that of any question before")
    ] = ""


class Situation(Model):
    """What LoadRecovery answers."""

    agent: Agent
    error: Annotated[str, Field(description="The error's name; a message to the operator carries it as an attribute")]
    record: Annotated[str, Field(description="The `record` of the entry that this recovery will write")]
    unsettled: list[Unsettled]
    calls_end_by: Annotated[str, Field(description="When no call of `unsettled` can be running any more, ISO 8601")]
    compensations: Annotated[list[Undo], Field(description="What can be undone, the newest effect first")]
    standing: Annotated[bool, Field(description="Whether any effect stands")]
    undone: Annotated[bool, Field(description="Whether effects were undone and nobody was told yet")]
    inbox: Annotated[int, Field(description="Inputs that have come, as far as this was read")]
    unheard: Annotated[bool, Field(description="Whether there are words of the user that no decision has seen")]
    cancelled: Annotated[
        bool, Field(description="Whether somebody has asked to cancel the agent, or nobody waits for it any more")
    ]
    child: Annotated[bool, Field(description="Whether another agent has delegated to it: there is no user to ask")]
    attempts: Annotated[int, Field(description="Recoveries since the last step forward")]
    back_off_seconds: int
    limits: Limits
    used: Replans
    operator: Operator
    refused: Annotated[bool, Field(description="Whether this was asked with an answer that does not count")]
    texts: Texts
