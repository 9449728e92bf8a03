"""The items of the table `AgentWorkflows`, a model of each kind, and the one place that reads DynamoDB's form.

An attribute that holds JSON stays text. The methods that read it raise ValueError for JSON that no machine writes, so
that a program which needs only the other attributes can still read the item: a recovery needs no decision.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from turnstile_agents.border import clean_text, read_json, read_object
from turnstile_agents.errors import RecordTooNew
from turnstile_agents.record import (
    FREE,
    CallResult,
    Decision,
    EffectStatus,
    PlanStep,
    RecoveryAction,
    Status,
    Usage,
    undoes,
)

SCHEMA_VERSION = 2
"""The form of a record that `agent_start` writes. Version 1 has no `schemaVersion`; the rest is the same."""
OPERATOR = "OPERATOR"
"""The `record` that holds the question to the operator, and the token of the task that waits for the answer."""

Attributes = Mapping[str, str]
"""An item as text: each attribute by its name, numbers as text too."""
InputType = Literal["AgentInputReceived", "AgentDecisionGiven", "AgentCancelRequested", "AgentStateUpdated"]
_JSON = BeforeValidator(lambda value: read_json(value) if isinstance(value, str) else value)
"""Reads an attribute that holds JSON; code may give the value itself."""


class Item(BaseModel):
    """An item of an agent's record. It may hold attributes that its model does not have."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, defer_build=True)
    agent_id: str
    record: str


class ListedState(Item):
    """The attributes of STATE that the index `ByStatus` holds."""

    status: Status
    agent: Annotated[str, Field(description="The definition's name")]
    goal: str
    step: Annotated[int, Field(description="The newest entry of the journal")]
    created_at: str
    last_updated: str
    error: Annotated[str, Field(description="The error's name; empty if none stopped it")]


class AgentState(ListedState):
    """The item STATE: the agent itself."""

    schema_version: int = 1
    definition_version: int
    plan: Annotated[list[PlanStep], _JSON]
    next_action: Annotated[str, Field(description="The turn that is announced, or NONE")]
    owner: Annotated[str, Field(description="The lease: the execution and when it took it, or NONE")]
    inbox: Annotated[int, Field(description="Number of inputs")]
    invocation_count: Annotated[int, Field(description="Number of turns")]
    error_count: Annotated[int, Field(description="Number of turns that failed")]
    model_calls: int
    tool_calls: int
    replans: int
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    waits_for: Annotated[str, Field(description="The approval or the delegation that it waits for, or empty")]
    reminded_of: Annotated[str, Field(description="The approval that its approvers were reminded of, or empty")]
    children: Annotated[list[str], _JSON]
    cancels: Annotated[int, Field(description="Number of requests to cancel")]
    ends: Annotated[int, Field(description="How often it has ended: 0 or 1")]
    parent: Annotated[str, Field(description="The agent that delegated to it, or empty")]
    depth: Annotated[int, Field(description="Number of agents above it")]
    token_limit: Annotated[int, Field(description="Its share of the parent's tokens; 0 without a parent")]
    cost_limit: Annotated[int, Field(description="The same in millionths of a US dollar")]
    created_by: Annotated[str, Field(description="The id of the request")]
    by: Annotated[str, Field(description="The caller that started it, or empty")]
    source: Annotated[str, Field(description="The Source of the event that started it")]
    last_updated_by: Annotated[str, Field(description="The ARN of an execution")]
    last_plan_generated_at: str
    last_tool_execution_at: str
    error_message: str
    current_state: Annotated[str, Field(description="The status in which its turn failed, or empty")]

    @field_validator("schema_version")
    @classmethod
    def _is_known(cls, version: int, info: ValidationInfo) -> int:
        if version > SCHEMA_VERSION:
            raise RecordTooNew(
                f"The record of agent {info.data.get('agent_id')} has version {version}, and this code knows "
                f"{SCHEMA_VERSION}: a newer version of Turnstile wrote it. Update this one."
            )
        return version

    @property
    def execution(self) -> str:
        """The ARN of the execution that holds the lease; NONE if the lease is free."""
        return self.owner.partition("#")[0]

    @property
    def free(self) -> bool:
        """Whether no execution holds the lease."""
        return self.owner == FREE


class JournalItem(Item):
    """An entry of the journal, `STEP#000007`."""

    execution: Annotated[str, Field(description="The ARN of the execution that wrote it")]
    at: str

    @property
    def step(self) -> int:
        """Its number."""
        return int(self.record.removeprefix("STEP#"))


class UserStep(JournalItem):
    """The first entry: the user's prompt."""

    who: Literal["USER"]
    text: str


class ModelStep(JournalItem):
    """A decision of the model, with the messages that it adds to the conversation."""

    who: Literal["MODEL"]
    messages: str
    inputs: Annotated[list[str], _JSON, Field(description="The `record` of each input in it")]
    decision: str
    usage: str

    def read_messages(self) -> list[dict[str, Any]]:
        """Return Converse messages in Step Functions' casing."""
        messages: list[dict[str, Any]] = read_json(self.messages)
        return messages

    def read_decision(self) -> Decision:
        """Return the decision. Raises ValueError if no version up to this one writes it."""
        return Decision.model_validate(read_json(self.decision))

    def read_usage(self) -> Usage:
        """Return the tokens and the cost of the reply. Raises ValueError."""
        return Usage.model_validate(read_json(self.usage))


class ToolsStep(JournalItem):
    """The results of a decision's calls."""

    who: Literal["TOOLS"]
    results: str

    def read_results(self) -> list[CallResult]:
        """Return the results, in the order of the calls. Raises ValueError."""
        return [CallResult.model_validate(result) for result in read_json(self.results)]


class RecoveryStep(JournalItem):
    """The decision of a recovery."""

    who: Literal["RECOVERY"]
    action: RecoveryAction
    status: Annotated[Status, Field(description="The status that it left the agent in")]
    reason: Annotated[str, Field(description="The error's name")]
    note: Annotated[str, Field(description="The note of the operator, or of the request to cancel")]
    by: Annotated[str, Field(description="The operator, or the caller that cancelled; empty if neither decided")]
    source: Annotated[str, Field(description="The Source of the operator's answer or of the request to cancel")]
    text: Annotated[str, Field(description="The text for the model")]
    question: Annotated[str, Field(description="The question to the user")]


StepItem = UserStep | ModelStep | ToolsStep | RecoveryStep


class InputItem(Item):
    """An input, `INPUT#<event id>`: an event in the agent's inbox. Its detail is as the sender wrote it."""

    type: InputType
    detail: Annotated[str, Field(description="JSON of any shape")]
    source: str
    time: str
    received_at: str
    execution: Annotated[str, Field(description="The ARN of the execution that wrote it")]
    input_tokens: Annotated[int, Field(description="Of a child that has ended; 0 for any other event")]
    output_tokens: int
    cost_micro_usd: int

    @property
    def fields(self) -> dict[str, Any]:
        """The detail; {} if it is no JSON object."""
        return read_object(self.detail)

    @property
    def note(self) -> str:
        """The note in the detail; empty if it has none."""
        return str(self.fields.get("note", ""))

    @property
    def order(self) -> tuple[str, str, str]:
        """Its place among the inputs: by the event's time."""
        return self.time, self.received_at, self.record

    @property
    def is_text(self) -> bool:
        """Whether it is a text of the user."""
        return self.type == "AgentInputReceived"


class Effect(Item):
    """An entry of the ledger, `EFFECT#000007#0`, or of an attempt to undo it, `EFFECT#000007#0#UNDO#1`."""

    status: EffectStatus
    owner: Annotated[str, Field(description="The lease under which it was reserved or is settled")]
    tool: str
    function: Annotated[str, Field(description="The Lambda's name or ARN")]
    input: Annotated[str, Field(description="JSON of the arguments")]
    result: Annotated[str, Field(description="JSON of the result; empty if it did not happen")]
    error: str
    error_message: str
    reserved_at: str
    settled_at: Annotated[str, Field(description="Empty while it is RESERVED")]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments; {} if they are no JSON object."""
        return read_object(self.input)

    @property
    def unsettled(self) -> bool:
        """Whether its end is not known."""
        return self.status in (EffectStatus.RESERVED, EffectStatus.UNCERTAIN)

    @property
    def undoes(self) -> str:
        """The `record` of the effect that this call undoes; empty if it undoes none."""
        return undoes(self.record)


class Question(Item):
    """The item OPERATOR: the question of a recovery to its operator."""

    token: Annotated[str, Field(description="The token of the task that waits for the answer")]
    question_id: Annotated[str, Field(description="The question's number; a reminder keeps it")]
    question: str
    asked_at: str
    reminders: int


AnyItem = AgentState | StepItem | InputItem | Effect | Question
Ledger = Mapping[str, Effect]
"""Ledger entries by `record`."""


@dataclass(frozen=True)
class Record:
    """The items of one agent, or some of them, each kind in order of `record`."""

    state: AgentState | None = None
    steps: list[StepItem] = field(default_factory=list)
    inputs: list[InputItem] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    question: Question | None = None

    @property
    def ledger(self) -> Ledger:
        """The effects by `record`."""
        return {effect.record: effect for effect in self.effects}

    @property
    def unsettled(self) -> list[Effect]:
        """The effects whose end is not known."""
        return [effect for effect in self.effects if effect.unsettled]


def attributes_of(stored: Mapping[str, Any]) -> dict[str, str]:
    """Return an item in DynamoDB's form, `{"step": {"N": "7"}}`, as text: `{"step": "7"}`. Its texts are cleaned."""
    return {name: clean_text(value.get("S", value.get("N", ""))) for name, value in stored.items()}


def item_of(attributes: Attributes) -> AnyItem:
    """Make the model of an item. Raises ValueError if no machine writes such an item; RecordTooNew."""
    record = attributes["record"]
    model = _MODELS.get(record.partition("#")[0])
    if model is None:
        raise ValueError(f"no machine writes an item {record}")
    if model is JournalItem:
        model = _STEPS.get(attributes.get("who", ""))
        if model is None:
            raise ValueError(f"{record} has who = {attributes.get('who')!r}; known are {', '.join(_STEPS)}")
    return model.model_validate(attributes)  # type: ignore[return-value]


def read_item(stored: Mapping[str, Any]) -> AnyItem:
    """Read an item in DynamoDB's form. Raises the errors of `item_of`."""
    return item_of(attributes_of(stored))


def stored(item: Item) -> dict[str, dict[str, str]]:
    """Return an item in DynamoDB's form, as the machines write it."""
    form = {}
    for name, value in item.model_dump(mode="json", by_alias=True).items():
        text = value if isinstance(value, str) else json.dumps(value)
        form[name] = {"N" if isinstance(value, int) else "S": text}
    return form


def record_of(items: Iterable[AnyItem]) -> Record:
    """Sort items of one agent by their kinds."""
    found = list(items)
    return Record(
        state=next((item for item in found if isinstance(item, AgentState)), None),
        steps=[item for item in found if isinstance(item, JournalItem)],
        inputs=[item for item in found if isinstance(item, InputItem)],
        effects=[item for item in found if isinstance(item, Effect)],
        question=next((item for item in found if isinstance(item, Question)), None),
    )


_MODELS: dict[str, type[Item]] = {
    "STATE": AgentState,
    "STEP": JournalItem,
    "INPUT": InputItem,
    "EFFECT": Effect,
    "OPERATOR": Question,
}
_STEPS: dict[str, type[Item]] = {"USER": UserStep, "MODEL": ModelStep, "TOOLS": ToolsStep, "RECOVERY": RecoveryStep}
