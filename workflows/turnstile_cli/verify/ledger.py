"""The check of an agent's effects, against the decisions, approvals and results of its journal."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from turnstile_agents.border import read_json
from turnstile_agents.record import FREE, Call, EffectStatus, Outcome, Status, undo_attempts, undoes
from turnstile_cli.verify.kinds import Found, Kind
from turnstile_cli.verify.stored import HAPPENED, StoredAgent

_LAST_UNDO: Mapping[EffectStatus, set[EffectStatus | None]] = {
    EffectStatus.COMMITTED: {None, EffectStatus.FAILED},
    EffectStatus.COMPENSATING: {EffectStatus.RESERVED, EffectStatus.UNCERTAIN},
    EffectStatus.COMPENSATED: {EffectStatus.COMMITTED},
}
"""The allowed statuses of the last undo of an effect, by the effect's status (None: no undo). Others have no undo."""


def check_ledger(agent: StoredAgent, over: Mapping[str, str]) -> Iterator[Found]:
    """Check that every effect is settled, decided, approved and, if required, undone; each result has its effect."""
    yield from _settled(agent, over)
    yield from _decided(agent)
    yield from _approved(agent)
    yield from _undone(agent)
    yield from _carried_out(agent)


def _settled(agent: StoredAgent, over: Mapping[str, str]) -> Iterator[Found]:
    """Check that an execution works on every RESERVED effect, and that a COMPLETED agent has no UNCERTAIN effect."""
    state = agent.state
    idle = state.owner == FREE or state.execution in over
    for record, effect in agent.effects.items():
        begun = effect.status is EffectStatus.RESERVED
        unknown = effect.status is EffectStatus.UNCERTAIN and state.status is Status.COMPLETED
        if (begun and idle) or unknown:
            why = "no execution works on the agent" if begun else "the agent is COMPLETED"
            yield Kind.EFFECT_UNSETTLED, record, f"{effect.tool} is {effect.status}, but {why}"


def _decided(agent: StoredAgent) -> Iterator[Found]:
    """Check that every effect is a call of a decision, an alternative of such a call, or the undo of an effect."""
    known = {link.key: link for call, _ in agent.calls for link in _chain(call)}
    for record, effect in agent.effects.items():
        if base := undoes(record):
            if base not in agent.effects:
                yield Kind.EFFECT_UNDECIDED, record, f"{effect.tool} undoes {base}, which is not in the ledger"
            continue
        call = known.get(record)
        if call is None:
            yield Kind.EFFECT_UNDECIDED, record, f"No decision of the journal has this call of {effect.tool}"
        elif (call.name, call.input) != (effect.tool, effect.arguments):
            what = f"{effect.tool}({json.dumps(effect.arguments)}) was carried out"
            yield Kind.EFFECT_UNDECIDED, record, f"{what}, but the decision has {call.name}({json.dumps(call.input)})"


def _approved(agent: StoredAgent) -> Iterator[Found]:
    """Check that no call that needs an approval has begun without it."""
    rulings = {
        each.fields["approvalId"]: each.fields["decision"]
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


def _undone(agent: StoredAgent) -> Iterator[Found]:
    """Compare each effect with the attempts to undo it: one transaction writes both, so they must agree."""
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


def _carried_out(agent: StoredAgent) -> Iterator[Found]:
    """Check that the journal's results equal the ledger's, and that no call that may have happened was tried again."""
    for call, result in agent.calls:
        tried = [(link.key, agent.effects[link.key]) for link in _chain(call) if link.key in agent.effects]
        for (key, effect), (_, other) in itertools.pairwise(tried):
            if effect.status is not EffectStatus.FAILED:
                yield Kind.EFFECT_TWICE, key, f"{effect.tool} is {effect.status}, but {other.tool} was tried after it"
        if result is None:
            continue
        happened = [effect for _, effect in tried if effect.status in HAPPENED]
        doubtful = [effect for _, effect in tried if effect.status is not EffectStatus.FAILED]
        if result.outcome is Outcome.COMMITTED and not happened:
            told = f"is {tried[-1][1].status} in the ledger" if tried else "is not in the ledger"
            yield Kind.EFFECT_MISSING, call.key, f"The journal has a result of {call.name}, but the call {told}"
        elif result.outcome is Outcome.COMMITTED and result.value not in [_as_journaled(e.result) for e in happened]:
            what = f"The journal's result of {call.name} differs from the ledger's"
            yield Kind.EFFECT_CONTRADICTED, call.key, what
        elif result.outcome in (Outcome.REJECTED, Outcome.UNAVAILABLE) and doubtful:
            what = f"The journal says that {call.name} was {result.outcome}, but the ledger has {doubtful[-1].status}"
            yield Kind.EFFECT_CONTRADICTED, call.key, what


def _as_journaled(result: str) -> Any:
    """Read a result of the ledger in the same way as a result in the journal."""
    return read_json(f'[{{"value": {result}}}]')[0]["value"]


def _chain(call: Call) -> Iterator[Call]:
    """Yield a call and its alternatives, in the order in which they are tried."""
    link: Call | None = call
    while link:
        yield link
        link = link.alternative
