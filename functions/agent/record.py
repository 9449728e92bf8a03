"""The agent's record in the table `AgentWorkflows`: what its items are called and what they hold.

One partition per agent (`agentId`), told apart by `record`: `STATE`, `STEP#000007`, `INPUT#<event id>`,
`EFFECT#000007#0`, `EFFECT#000007#0#UNDO#1`. Nested values (messages, decisions, results) are stored as JSON text, so
that the machines can write what they carry without knowing its shape.
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
"""What `owner` and `nextAction` hold when there is none: an attribute of STATE is never missing."""
KEY_KNOWN_DAYS = 30
"""Days for which a tool knows the key of a call: longer than an execution can be redriven (14 days)."""
GOAL_LIMIT = 4096
"""Bytes of `goal` in UTF-8; a longer one would make every checkpoint grow with it."""
BY_LIMIT = 256
"""Characters of a caller's name; STATE carries it too."""
_UNDO = re.compile(r"(.+)#UNDO#([1-9][0-9]*)")
Entry = TypeVar("Entry")


class Status(StrEnum):
    """Where an agent stands."""

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
"""In one of these an agent stays until somebody outside acts: whoever watches it can stop watching."""


class NextAction(StrEnum):
    """What an `AgentStateUpdated` event asks for; without one it only tells."""

    PLANNING = "PLANNING"
    EXECUTE_TOOL = "EXECUTE_TOOL"
    REPLAN = "REPLAN"


class Verdict(StrEnum):
    """What becomes of calls that wait for approval. Nobody gives EXPIRE: it is what comes of waiting too long."""

    APPROVE = "APPROVE"
    REFUSE = "REFUSE"
    EXPIRE = "EXPIRE"


class EffectStatus(StrEnum):
    """The ledger of one call that changes the world."""

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
    """The `record` of a journal entry, as `STEP#000007`."""
    return f"STEP#{step:06d}"


def effect_record(step: int, index: int) -> str:
    """The `record` of a ledger entry, keyed by the decision's step and the call's place in it, as `EFFECT#000007#0`."""
    return f"EFFECT#{step:06d}#{index}"


def undo_record(effect: str, attempt: int) -> str:
    """Return the `record` of an attempt to undo an effect, counted from 1, as `EFFECT#000007#0#UNDO#1`.

    Each attempt has a key of its own, because a tool answers a key that it knows with what it answered before.
    """
    return f"{effect}#UNDO#{attempt}"


def undoes(record: str) -> str:
    """Return the `record` of the effect that this ledger entry undoes; "" if it undoes none."""
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
    """Who is delegated to. The same for the same call of the same agent, so that a second request starts no second
    child."""
    key = f"{agent_id}#{step:06d}#{index}"
    return f"child-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


class Model(BaseModel):
    """Base of what crosses a border: camelCase outside, snake_case inside, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def dump(self) -> dict[str, Any]:
        """The JSON object that the machine carries: every field present, camelCase."""
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
    effect: Annotated[Literal["read", "write"], Field(description="Whether it changes the world")]
    input: Annotated[dict[str, Any], Field(description="Arguments that passed the tool's schema")]
    key: Annotated[str, Field(description="The ledger entry's `record`")]
    timeout_seconds: Annotated[
        int, Field(gt=0, description="How long the machine waits; longer than the function's own")
    ]
    alternative: Annotated["Call | None", Field(description="What is called instead if it is unavailable")] = None
    approval: Annotated[bool, Field(description="Whether somebody must approve it first")] = False

    @property
    def alternatives(self) -> "list[Call]":
        """What is called instead, in order, each if the one before is unavailable."""
        return [self.alternative, *self.alternative.alternatives] if self.alternative else []


class Child(Model):
    """An agent that is delegated to."""

    tool_use_id: Annotated[str, Field(description="The `delegate` that asked for it; empty in the JSON protocol")]
    agent_id: Annotated[str, Field(description="Its id, which follows from its parent's and the call's key")]
    agent: Annotated[str, Field(description="Its definition")]
    goal: str
    prompt: str
    step: Annotated[str, Field(description="The `record` of the decision that names it", examples=["STEP#000002"])]
    place: Annotated[int, Field(ge=0, description="Its place among the children of that decision", examples=[0])]
    depth: Annotated[int, Field(ge=1, description="How many agents are above it")]
    tokens: Annotated[int, Field(ge=1, description="What it may use up at most: a share of what its parent has left")]
    cost_micro_usd: Annotated[int, Field(ge=1)]


class Answer(Model):
    """What a tool use is answered without being carried out: a built-in, or a call that was wrong."""

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
"""What a decision is. ASK_APPROVAL holds calls until somebody approves them; REPLAN replaces a plan; INVALID is a reply
that could not be used; MISALIGNED claims for the second time to be complete, against what the record says. CANCEL is
nobody's reply and in no journal: LoadTurn answers it for an agent that is to be cancelled."""


RecoveryAction = Literal["RETRY", "REPLAN", "COMPENSATE", "ABORT", "FAIL", "CANCEL"]
"""What a recovery decides, by itself or because an operator says so. FAIL leaves the agent FAILED, CANCEL leaves it
CANCELLED, as somebody asked."""


class Decision(Model):
    """The model's reply, checked: the one thing that the machine routes on. Stored in the journal as it is."""

    action: Action
    status: Annotated[Status, Field(description="The agent's status once this decision is checkpointed")]
    closes_as: Annotated[Status, Field(description="The status if the turn closes on it")]
    ends: Annotated[int, Field(description="1 if the agent ends when the turn closes on it, else 0")] = Field(
        default_factory=lambda decision: int(decision["closes_as"] in FINISHED)
    )
    next_action: Annotated[Literal["NONE"], Field(description="None: the turn that closes on it is the last")] = "NONE"
    tool_use_id: Annotated[
        str, Field(description="The built-in's tool use, answered later; empty if there is none")
    ] = ""
    calls: Annotated[list[Call], Field(description="What is to be carried out: TOOL_USE, ASK_APPROVAL")] = []
    children: Annotated[list[Child], Field(description="Who is delegated to: DELEGATE")] = []
    waits_for: Annotated[
        str, Field(description="The decision's step, by which what is waited for is told apart; empty otherwise")
    ] = ""
    answers: Annotated[list[Answer], Field(description="Tool uses answered at once")] = []
    message: Annotated[str, Field(description="The question, the result, the reason, or the correction")] = ""
    reflection: Annotated[str, Field(description="What the model says of its progress")] = ""
    fingerprint: Annotated[str, Field(description="The same for the same calls with the same arguments")] = ""
    doubted: Annotated[bool, Field(description="Whether it claimed to be complete and was sent back for it")] = False
    results_record: Annotated[str, Field(description="The `record` that the results of its calls go to")]


class CallResult(Model):
    """How one call ended: item i of a TOOLS step answers `calls[i]` of the decision before it."""

    outcome: Outcome
    value: Annotated[Any, Field(description="The tool's output, when COMMITTED")] = None
    error: Annotated[str, Field(description="The error's name, unless COMMITTED")] = ""
    message: Annotated[str, Field(description="The error's cause as the machine caught it")] = ""
