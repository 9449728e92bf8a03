"""The items that verify reads, and the checks of each by itself."""

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from turnstile_agents.border import read_json
from turnstile_agents.errors import RecordTooNew
from turnstile_agents.items import (
    AgentState,
    AnyItem,
    Attributes,
    Effect,
    InputItem,
    JournalItem,
    Ledger,
    Record,
    item_of,
)
from turnstile_agents.journal import Entry, Ruling, read_entry
from turnstile_agents.record import Call, CallResult, Decision, EffectStatus

HAPPENED = frozenset({EffectStatus.COMMITTED, EffectStatus.COMPENSATING, EffectStatus.COMPENSATED})
_CARRIED = {
    "AgentInputReceived": ("text",),
    "AgentDecisionGiven": ("approvalId", "decision"),
    "AgentCancelRequested": (),
    "AgentStateUpdated": ("agentId", "status"),
}
"""The fields that are read from an input's detail, by its type."""


def read_checked(attributes: Attributes) -> AnyItem:
    """Read an item with the JSON that it holds.

    Raise ValueError if no machine could have written it, RecordTooNew if a newer version did.
    """
    item = item_of(attributes)
    match item:
        case AgentState():
            dt.datetime.fromisoformat(item.last_updated)
        case JournalItem():
            read_entry(item, Record())
        case InputItem():
            _check_detail(item)
        case Effect():
            _check_call(item)
    return item


def read_sound(attributes: Attributes | None) -> AnyItem | None:
    """Read an item; None if there is none, or if it is broken, which the check of its agent reports."""
    try:
        return item_of(attributes) if attributes else None
    except (ValueError, RecordTooNew):
        return None


def _check_detail(item: InputItem) -> None:
    detail = item.fields
    # The detail may have more fields: the machines keep every field that a sender put into its event.
    missing = [name for name in _CARRIED[item.type] if not isinstance(detail.get(name), str)]
    if missing:
        raise ValueError(f"its detail has no {', '.join(missing)}")
    if item.type == "AgentDecisionGiven":
        Ruling(decision=detail["decision"], note=detail.get("note", ""))


def _check_call(effect: Effect) -> None:
    if not isinstance(read_json(effect.input), dict):
        raise ValueError("its input is no JSON object")
    if effect.status in HAPPENED and read_json(effect.result) == effect.result:
        raise ValueError("its result is no JSON")


def why(error: Exception) -> str:
    """Write what is wrong with an item, from the error of reading it."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


@dataclass(frozen=True)
class StoredAgent:
    """An agent's record, all of whose items can be read. `entries` is its journal, in order."""

    state: AgentState
    record: Record
    entries: list[Entry]
    inputs: dict[str, InputItem]
    effects: Ledger
    folded: list[str]
    """The `record` of each input that the journal took in, in order."""

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
