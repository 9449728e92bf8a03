"""The models into which verify reads an agent's items."""

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Json, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from turnstile_agents.border import read_json
from turnstile_agents.conversation import Item
from turnstile_agents.journal import Entry, Ruling, read_entry
from turnstile_agents.record import Call, CallResult, Decision, EffectStatus, Status

HAPPENED = frozenset({EffectStatus.COMMITTED, EffectStatus.COMPENSATING, EffectStatus.COMPENSATED})
_CARRIED = {
    "AgentInputReceived": ("text",),
    "AgentDecisionGiven": ("approvalId", "decision"),
    "AgentCancelRequested": (),
    "AgentStateUpdated": ("agentId", "status"),
}
"""The fields that are read from an input's detail, by its type."""

_Object = Annotated[dict[str, Any], BeforeValidator(read_json)]
"""JSON that a machine stored without changing it."""


class _Stored(BaseModel):
    """The attributes of an item that verify reads; the item may have more."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class StoredState(_Stored):
    """The item STATE: the agent itself."""

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
        """The ARN of the execution that works on the agent."""
        return self.owner.partition("#")[0]


class Input(_Stored):
    """An item INPUT#: an event in the agent's inbox."""

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
        # The detail may have more fields: the machines keep every field that a sender put into its event.
        missing = [name for name in _CARRIED[self.type] if not isinstance(self.detail.get(name), str)]
        if missing:
            raise ValueError(f"its detail has no {', '.join(missing)}")
        if self.type == "AgentDecisionGiven":
            Ruling(decision=self.detail["decision"], note=self.detail.get("note", ""))
        return self


class StoredEffect(_Stored):
    """An item EFFECT#: a call in the ledger."""

    status: EffectStatus
    tool: str
    input: _Object
    result: str
    error: str

    @property
    def happened(self) -> bool:
        """Whether the call took effect, even if the effect was undone."""
        return self.status in HAPPENED

    @model_validator(mode="after")
    def _has_a_result(self) -> Self:
        if self.happened and read_json(self.result) == self.result:
            raise ValueError("its result is no JSON")
        return self


Read = StoredState | Input | StoredEffect | Entry | Item
"""An item after reading; the item OPERATOR stays as it is."""


def read_item(item: Item) -> Read:
    """Read an item into its model. Raise KeyError, TypeError or ValueError if no machine could have written it."""
    match item["record"].partition("#")[0]:
        case "STATE":
            return StoredState.model_validate(item)
        case "STEP":
            return read_entry(item)
        case "EFFECT":
            return StoredEffect.model_validate(item)
        case "INPUT":
            return Input.model_validate(item)
        case "OPERATOR":
            return item
    raise ValueError("no machine writes a record of this name")


def why(error: Exception) -> str:
    """Write what is wrong with an item, from the error of reading it."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


@dataclass(frozen=True)
class StoredAgent:
    """An agent's items, raw and as models. `steps` and `entries` are the journal, in order."""

    state: StoredState
    steps: list[Item]
    entries: list[Entry]
    inbox: list[Item]
    inputs: dict[str, Input]
    effects: dict[str, StoredEffect]
    ledger: list[Item]
    folded: list[str]

    @property
    def closing(self) -> Decision | None:
        """The decision on which the agent would close; a recovery with RETRY leaves it valid."""
        stood = (entry for entry in reversed(self.entries) if not (entry.recovery and entry.recovery.action == "RETRY"))
        return next((entry.decision for entry in stood), None)

    @property
    def calls(self) -> Iterator[tuple[Call, CallResult | None]]:
        """Every write call of the journal, with its result if there is one."""
        for position, entry in enumerate(self.entries):
            calls = entry.decision.calls if entry.decision else []
            # Recoveries may stand between a decision and its results.
            after = (entry for entry in self.entries[position + 1 :] if entry.who != "RECOVERY")
            results = next((entry.results for entry in after), [])
            for call, result in itertools.zip_longest(calls, results):
                if call and call.effect == "write":
                    yield call, result
