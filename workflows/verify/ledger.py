"""An agent's effects, against the decisions, approvals and results of its journal."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.border import read_json
from agent.record import FREE, Call, EffectStatus, Outcome, Status, undo_attempts, undoes
from workflows.verify.kinds import Found, Kind
from workflows.verify.stored import Agent

_LAST_UNDO: Mapping[EffectStatus, set[EffectStatus | None]] = {
    EffectStatus.COMMITTED: {None, EffectStatus.FAILED},
    EffectStatus.COMPENSATING: {EffectStatus.RESERVED, EffectStatus.UNCERTAIN},
    EffectStatus.COMPENSATED: {EffectStatus.COMMITTED},
}
"""What the last attempt to undo an effect may be, by the effect's status; an effect of any other status has none."""


def check_ledger(agent: Agent, over: Mapping[str, str]) -> Iterator[Found]:
    """Every effect is settled, decided, approved and, if it was to be, undone; every result has its effect."""
    yield from _settled(agent, over)
    yield from _decided(agent)
    yield from _approved(agent)
    yield from _undone(agent)
    yield from _carried_out(agent)


def _settled(agent: Agent, over: Mapping[str, str]) -> Iterator[Found]:
    """Who has begun something works on it, and who has completed knows how everything ended."""
    state = agent.state
    idle = state.owner == FREE or state.execution in over
    for record, effect in agent.effects.items():
        begun = effect.status is EffectStatus.RESERVED
        unknown = effect.status is EffectStatus.UNCERTAIN and state.status is Status.COMPLETED
        if (begun and idle) or unknown:
            who = "nobody works on the agent" if begun else "the agent is COMPLETED"
            yield Kind.EFFECT_UNSETTLED, record, f"{effect.tool} is {effect.status}, but {who}"


def _decided(agent: Agent) -> Iterator[Found]:
    """Every effect is a call of a decision, or an alternative of one, or undoes one."""
    known = {link.key: link for call, _ in agent.calls for link in _chain(call)}
    for record, effect in agent.effects.items():
        if base := undoes(record):
            if base not in agent.effects:
                yield Kind.EFFECT_UNDECIDED, record, f"{effect.tool} undoes {base}, which is not in the ledger"
            continue
        call = known.get(record)
        if call is None:
            yield Kind.EFFECT_UNDECIDED, record, f"No decision of the journal has this call of {effect.tool}"
        elif (call.name, call.input) != (effect.tool, effect.input):
            what = f"{effect.tool}({json.dumps(effect.input)}) was carried out"
            yield Kind.EFFECT_UNDECIDED, record, f"{what}, but decided was {call.name}({json.dumps(call.input)})"


def _approved(agent: Agent) -> Iterator[Found]:
    """Nothing that needs approval has begun without."""
    rulings = {
        each.detail["approvalId"]: each.detail["decision"]
        for each in agent.inputs.values()
        if each.type == "AgentDecisionGiven"
    }
    for entry in agent.entries:
        decision = entry.decision
        if decision is None or decision.action != "ASK_APPROVAL":
            continue
        ruling = rulings.get(decision.waits_for, "not decided about")
        for link in (link for call in decision.calls for link in _chain(call) if link.key in agent.effects):
            if ruling != "APPROVE":
                what = f"{link.name} has begun, but approval {decision.waits_for} is {ruling}"
                yield Kind.EFFECT_UNAPPROVED, link.key, what


def _undone(agent: Agent) -> Iterator[Found]:
    """Compare each effect with the attempts to undo it: both are written together, so no half of it may stand alone."""
    attempts = undo_attempts(agent.effects)
    for record, effect in agent.effects.items():
        statuses = [attempt.status for attempt in attempts.get(record, [])]
        last = statuses[-1] if statuses else None
        if last not in _LAST_UNDO.get(effect.status, {None}):
            what = f"its last undo is {last}" if last else "no undo of it is in the ledger"
            yield Kind.EFFECT_CONTRADICTED, record, f"{effect.tool} is {effect.status}, but {what}"
        if any(status is not EffectStatus.FAILED for status in statuses[:-1]):
            what = f"{len(statuses)} undos of {effect.tool} are {', '.join(statuses)}"
            yield Kind.EFFECT_TWICE, record, f"{what}, but a new one begins only after the last one FAILED"


def _carried_out(agent: Agent) -> Iterator[Found]:
    """The journal's results are the ledger's, and nothing was tried again that may have happened."""
    for call, result in agent.calls:
        tried = [(link.key, agent.effects[link.key]) for link in _chain(call) if link.key in agent.effects]
        for (key, effect), (_, other) in itertools.pairwise(tried):
            if effect.status is not EffectStatus.FAILED:
                yield Kind.EFFECT_TWICE, key, f"{effect.tool} is {effect.status}, but {other.tool} was tried after it"
        if result is None:
            continue
        happened = [effect for _, effect in tried if effect.happened]
        doubtful = [effect for _, effect in tried if effect.status is not EffectStatus.FAILED]
        if result.outcome is Outcome.COMMITTED and not happened:
            told = f"is {tried[-1][1].status} in the ledger" if tried else "is not in the ledger"
            yield Kind.EFFECT_MISSING, call.key, f"The journal has a result of {call.name}, but the call {told}"
        elif result.outcome is Outcome.COMMITTED and result.value not in [_as_journaled(e.result) for e in happened]:
            what = f"The journal's result of {call.name} is another one than the ledger's"
            yield Kind.EFFECT_CONTRADICTED, call.key, what
        elif result.outcome in (Outcome.REJECTED, Outcome.UNAVAILABLE) and doubtful:
            what = f"The journal says that {call.name} was {result.outcome}, but the ledger has {doubtful[-1].status}"
            yield Kind.EFFECT_CONTRADICTED, call.key, what


def _as_journaled(result: str) -> Any:
    """A result of the ledger as it reads among the results of the journal."""
    return read_json(f'[{{"value": {result}}}]')[0]["value"]


def _chain(call: Call) -> Iterator[Call]:
    """A call and its alternatives, in the order in which they are tried."""
    link: Call | None = call
    while link:
        yield link
        link = link.alternative
