"""The agent's record in the table `AgentWorkflows`: the names of its items and what they hold.

Each agent has one partition (`agentId`). Its items differ by `record`: `STATE`, `STEP#000007`, `INPUT#<event id>`,
`EFFECT#000007#0`, `EFFECT#000007#0#UNDO#1`. Nested values (messages, decisions, results) are stored as JSON text, so
that the machines can write them without knowing their shape.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

AGENT_ID = r"^[A-Za-z0-9_-]{1,64}$"
FREE = "NONE"
"""The value of `owner` without an owner, and of `nextAction` without an action: STATE has every attribute, always."""
KEY_KNOWN_DAYS = 30
"""Days for which a tool knows the key of a call: longer than an execution can be redriven (14 days)."""
GOAL_LIMIT = 4096
"""Bytes of `goal` in UTF-8; a longer goal would make every checkpoint larger."""
BY_LIMIT = 256
"""Characters of a caller's name; STATE holds it too."""
_UNDO = re.compile(r"(.+)#UNDO#([1-9][0-9]*)")
Entry = TypeVar("Entry")


class Status(StrEnum):
    """The status of an agent."""

    INITIATED = "INITIATED"
    PLANNING = "PLANNING"
    PLANNING_COMPLETE = "PLANNING_COMPLETE"
    TOOL_EXECUTION_PENDING = "TOOL_EXECUTION_PENDING"
    TOOL_EXECUTION_SUCCESS = "TOOL_EXECUTION_SUCCESS"
    TOOL_EXECUTION_FAILED = "TOOL_EXECUTION_FAILED"
    PLANNING_FAILED = "PLANNING_FAILED"
    WAITING_FOR_INPUT = "WAITING_FOR_INPUT"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    WAITING_FOR_AGENT = "WAITING_FOR_AGENT"
    WAITING_FOR_OPERATOR = "WAITING_FOR_OPERATOR"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
"""An agent in one of these takes no more input."""
SETTLED = FINISHED | {
    Status.WAITING_FOR_INPUT,
    Status.WAITING_FOR_APPROVAL,
    Status.WAITING_FOR_OPERATOR,
}
"""In one of these an agent stays until a person outside acts, so a program that follows it can stop."""


class NextAction(StrEnum):
    """The turn that an `AgentStateUpdated` event asks for. Without a next action the event only informs."""

    PLANNING = "PLANNING"
    EXECUTE_TOOL = "EXECUTE_TOOL"
    REPLAN = "REPLAN"


class Verdict(StrEnum):
    """The decision about calls that wait for approval. EXPIRE does not come from a person: the wait was too long."""

    APPROVE = "APPROVE"
    REFUSE = "REFUSE"
    EXPIRE = "EXPIRE"


class EffectStatus(StrEnum):
    """The status of a ledger entry: of one call that changes data outside the agent."""

    RESERVED = "RESERVED"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"
    UNCERTAIN = "UNCERTAIN"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"


class Outcome(StrEnum):
    """How a tool call ended, as the machine's Map reports it."""

    COMMITTED = "COMMITTED"
    REJECTED = "REJECTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNCERTAIN = "UNCERTAIN"


def step_record(step: int) -> str:
    """Return the `record` of a journal entry, as `STEP#000007`."""
    return f"STEP#{step:06d}"


def effect_record(step: int, index: int) -> str:
    """Return the `record` of a ledger entry: the decision's step and the call's place in it, as `EFFECT#000007#0`."""
    return f"EFFECT#{step:06d}#{index}"


def undo_record(effect: str, attempt: int) -> str:
    """Return the `record` of an attempt to undo an effect, counted from 1, as `EFFECT#000007#0#UNDO#1`.

    Each attempt has its own key, because a tool answers a key that it knows with its earlier answer.
    """
    return f"{effect}#UNDO#{attempt}"


def undoes(record: str) -> str:
    """Return the `record` of the effect that this ledger entry undoes; "" if it undoes no effect."""
    found = _UNDO.fullmatch(record)
    return found[1] if found else ""


def undo_attempts(ledger: Mapping[str, Entry]) -> dict[str, list[Entry]]:
    """Group the attempts to undo by the `record` of the effect that they undo, each group in order of its attempts.

    `ledger`: entries of any kind by their `record`.
    """
    groups: defaultdict[str, list[tuple[int, Entry]]] = defaultdict(list)
    for record, entry in ledger.items():
        if found := _UNDO.fullmatch(record):
            groups[found[1]].append((int(found[2]), entry))
    return {effect: [entry for _, entry in sorted(group, key=lambda each: each[0])] for effect, group in groups.items()}


def child_id(agent_id: str, step: int, index: int) -> str:
    """Return the id of a child. The same call of the same agent gives the same id, so that a second request starts no
    second child."""
    key = f"{agent_id}#{step:06d}#{index}"
    return f"child-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


class Model(BaseModel):
    """Base of all data that crosses a border: camelCase outside, snake_case inside, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, defer_build=True
    )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that the machine carries: every field present, camelCase."""
        return self.model_dump(mode="json", by_alias=True)


class PlanStep(Model):
    """One entry of an agent's plan. Models add keys of their own, which are dropped."""

    model_config = ConfigDict(extra="ignore")

    step: Annotated[int, Field(ge=1, description="Its number, from 1")]
    action: Annotated[str, Field(min_length=1, max_length=200, description="What is to be done, in a few words")]
    status: Annotated[Literal["PENDING", "DONE", "SKIPPED"], Field(description="How far it is")] = "PENDING"


class Call(Model):
    """A tool call that the machine is to carry out: checked, with everything that CallTools needs."""

    index: Annotated[int, Field(ge=0, description="Its place among the calls of this decision")]
    tool_use_id: Annotated[str, Field(description="The model's id for it; empty in the JSON protocol")]
    name: Annotated[str, Field(description="The tool")]
    function: Annotated[
        str, Field(description="The Lambda's name or ARN, from the definition and never from the model")
    ]
    effect: Annotated[Literal["read", "write"], Field(description="`write` if it changes data outside the agent")]
    input: Annotated[dict[str, Any], Field(description="Arguments that passed the tool's schema")]
    key: Annotated[str, Field(description="The ledger entry's `record`")]
    timeout_seconds: Annotated[
        int, Field(gt=0, description="How long the machine waits: longer than the function's own timeout")
    ]
    alternative: Annotated["Call | None", Field(description="The call that replaces it if it is unavailable")] = None
    approval: Annotated[bool, Field(description="Whether an approver must approve it first")] = False

    @property
    def alternatives(self) -> "list[Call]":
        """The calls that replace it, in order, each if the call before it is unavailable."""
        return [self.alternative, *self.alternative.alternatives] if self.alternative else []


class Child(Model):
    """An agent that its parent delegates to."""

    tool_use_id: Annotated[str, Field(description="The `delegate` that asked for it; empty in the JSON protocol")]
    agent_id: Annotated[str, Field(description="Its id, which follows from its parent's and the call's key")]
    agent: Annotated[str, Field(description="Its definition")]
    goal: str
    prompt: str
    step: Annotated[str, Field(description="The `record` of the decision that names it", examples=["STEP#000002"])]
    place: Annotated[int, Field(ge=0, description="Its place among the children of that decision", examples=[0])]
    depth: Annotated[int, Field(ge=1, description="Number of agents above it")]
    tokens: Annotated[int, Field(ge=1, description="Most tokens that it may use: a share of what its parent has left")]
    cost_micro_usd: Annotated[int, Field(ge=1)]


class Answer(Model):
    """The answer to a tool use that is not carried out: to a built-in, or to a wrong call."""

    tool_use_id: str
    text: str
    error: bool = False


Action = Literal[
    "TOOL_USE",
    "ASK_APPROVAL",
    "DELEGATE",
    "PLAN",
    "REPLAN",
    "ASK_USER",
    "COMPLETE",
    "MISALIGNED",
    "GIVE_UP",
    "INVALID",
    "CANCEL",
]
"""The kind of a decision. ASK_APPROVAL holds calls until they are approved; REPLAN replaces a plan; INVALID is a reply
that could not be used; MISALIGNED claims for the second time to be complete, although the record says otherwise. CANCEL
is not a reply and is in no journal: LoadTurn returns it for an agent that is to be cancelled."""


RecoveryAction = Literal["RETRY", "REPLAN", "COMPENSATE", "ABORT", "FAIL", "CANCEL"]
"""The decision of a recovery, by itself or by an operator's order. FAIL leaves the agent FAILED. CANCEL leaves it
CANCELLED, because a caller asked for that or an agent above it has ended."""


class Decision(Model):
    """The model's reply, checked. The machine routes on nothing else. Stored in the journal unchanged."""

    action: Action
    status: Annotated[Status, Field(description="The agent's status once this decision is checkpointed")]
    closes_as: Annotated[Status, Field(description="The status if the turn closes on it")]
    ends: Annotated[int, Field(description="1 if the agent ends when the turn closes on it, else 0")] = Field(
        default_factory=lambda decision: int(decision["closes_as"] in FINISHED)
    )
    next_action: Annotated[Literal["NONE"], Field(description="NONE: no turn follows")] = "NONE"
    tool_use_id: Annotated[
        str, Field(description="The tool use of a built-in that is answered later; empty otherwise")
    ] = ""
    calls: Annotated[list[Call], Field(description="The calls to carry out, of TOOL_USE and ASK_APPROVAL")] = []
    children: Annotated[list[Child], Field(description="The agents to start, of DELEGATE")] = []
    waits_for: Annotated[
        str, Field(description="The decision's step, if the agent waits for its approval or its children; or empty")
    ] = ""
    answers: Annotated[list[Answer], Field(description="Tool uses answered at once")] = []
    message: Annotated[str, Field(description="The question, the result, the reason, or the correction")] = ""
    reflection: Annotated[str, Field(description="What the model says of its progress")] = ""
    fingerprint: Annotated[str, Field(description="The same for the same calls with the same arguments")] = ""
    doubted: Annotated[bool, Field(description="Whether it claimed to be complete and was refused for that")] = False
    results_record: Annotated[str, Field(description="The `record` that the results of its calls go to")]


class CallResult(Model):
    """The result of one call: item i of a TOOLS step answers `calls[i]` of the decision before it."""

    outcome: Outcome
    value: Annotated[Any, Field(description="The tool's output, when COMMITTED")] = None
    error: Annotated[str, Field(description="The error's name, unless COMMITTED")] = ""
    message: Annotated[str, Field(description="The error's cause as the machine caught it")] = ""


class Usage(Model):
    """The tokens and the cost of one reply."""

    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    cost_micro_usd: Annotated[int, Field(ge=0)] = 0
    model_id: Annotated[str, Field(description="The model that replied")]
