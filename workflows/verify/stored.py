"""An agent's items as verify reads them."""

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Json, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from agent.border import read_json
from agent.conversation import Item
from agent.journal import Entry, Ruling, read_entry
from agent.record import Call, CallResult, Decision, EffectStatus, Status

HAPPENED = frozenset({EffectStatus.COMMITTED, EffectStatus.COMPENSATING, EffectStatus.COMPENSATED})
_CARRIED = {
    "AgentInputReceived": ("text",),
    "AgentDecisionGiven": ("approvalId", "decision"),
    "AgentCancelRequested": (),
    "AgentStateUpdated": ("agentId", "status"),
}
"""What is read of an input's detail, by its type."""

_Object = Annotated[dict[str, Any], BeforeValidator(read_json)]
"""JSON that a machine stored as it came."""


class _Stored(BaseModel):
    """What verify reads of an item; there may be more in it."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class State(_Stored):
    """The agent itself."""

    owner: str
    status: Status
    next_action: str
    step: int
    inbox: int
    cancels: int
    ends: int
    waits_for: str
    parent: str
    children: Json[list[str]]
    error: str
    last_updated: dt.datetime
    by: str
    source: str
    model_calls: int
    tool_calls: int
    replans: int
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int

    @property
    def execution(self) -> str:
        """The ARN of the one that works on the agent."""
        return self.owner.partition("#")[0]


class Input(_Stored):
    """Something that an agent has been told."""

    type: Literal["AgentInputReceived", "AgentDecisionGiven", "AgentCancelRequested", "AgentStateUpdated"]
    detail: _Object
    time: str
    received_at: str
    source: str
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int

    @model_validator(mode="after")
    def _has_its_detail(self) -> Self:
        # What else a sender has put into its event is kept too.
        missing = [name for name in _CARRIED[self.type] if not isinstance(self.detail.get(name), str)]
        if missing:
            raise ValueError(f"its detail has no {', '.join(missing)}")
        if self.type == "AgentDecisionGiven":
            Ruling(decision=self.detail["decision"], note=self.detail.get("note", ""))
        return self


class Effect(_Stored):
    """A call in the ledger."""

    status: EffectStatus
    tool: str
    input: _Object
    result: str
    error: str

    @property
    def happened(self) -> bool:
        """Whether the world was changed, even if that was undone."""
        return self.status in HAPPENED

    @model_validator(mode="after")
    def _has_a_result(self) -> Self:
        if self.happened and read_json(self.result) == self.result:
            raise ValueError("its result is no JSON")
        return self


Read = State | Input | Effect | Entry | Item
"""An item, as it is read; an operator's decision stays as it is."""


def read_item(item: Item) -> Read:
    """Raises KeyError, TypeError or ValueError if no machine would have written the item."""
    match item["record"].partition("#")[0]:
        case "STATE":
            return State.model_validate(item)
        case "STEP":
            return read_entry(item)
        case "EFFECT":
            return Effect.model_validate(item)
        case "INPUT":
            return Input.model_validate(item)
        case "OPERATOR":
            return item
    raise ValueError("no machine writes a record of this name")


def why(error: Exception) -> str:
    """What is wrong with an item, in the words of what could not read it."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


@dataclass(frozen=True)
class Agent:
    """An agent's items, as they are and read. `steps` and `entries` are the journal, in order."""

    state: State
    steps: list[Item]
    entries: list[Entry]
    inbox: list[Item]
    inputs: dict[str, Input]
    effects: dict[str, Effect]
    ledger: list[Item]
    folded: list[str]

    @property
    def closing(self) -> Decision | None:
        """The decision on which the agent would close: a recovery that only tries again lets it stand."""
        stood = (entry for entry in reversed(self.entries) if not (entry.recovery and entry.recovery.action == "RETRY"))
        return next((entry.decision for entry in stood), None)

    @property
    def calls(self) -> Iterator[tuple[Call, CallResult | None]]:
        """Every call of the journal that changes the world, with its result if there is one."""
        for position, entry in enumerate(self.entries):
            calls = entry.decision.calls if entry.decision else []
            # A recovery may stand between.
            after = (entry for entry in self.entries[position + 1 :] if entry.who != "RECOVERY")
            results = next((entry.results for entry in after), [])
            for call, result in itertools.zip_longest(calls, results):
                if call and call.effect == "write":
                    yield call, result
