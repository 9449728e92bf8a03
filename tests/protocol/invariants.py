"""Invariants of every step, and of every world at rest, as sentences."""

import json
from collections.abc import Iterator

from tests.protocol.steps import Step, Steps, undo_of
from tests.protocol.world import AGENT, World
from turnstile_agents.events import AgentInputReceived
from turnstile_agents.record import FINISHED, FREE, EffectStatus, Status, undo_attempts, undoes

ENDED = "An agent that has ended never moves again."
LEASE = "No execution takes the lease from a running execution."
FENCE = "An execution that does not hold the lease moves no agent, and puts nothing into its journal or its ledger."
JOURNAL = "An entry of the journal is written once, and the entries have no gap."
ONCE = "A call takes effect at most once per decision."
COMMITTED = "The ledger says COMMITTED only of a call that has taken effect and was not undone."
FAILED = "The ledger says FAILED only of a call that has not taken effect."
UNDO = "An effect is COMPENSATING exactly while an attempt to undo it is unsettled."
CANCEL = "Once a cancellation is kept, no effect is reserved, and the agent neither completes nor waits."
HEARD = "An agent that has completed, or waits for its user, has heard all that the user said."
FOUND = "At rest an agent has ended, waits for a person after a message, or is found by the watch."
GOES_ON = "From every world, without more faults, the agent comes to its end or to a person."

_HAPPENED = {EffectStatus.COMMITTED, EffectStatus.COMPENSATING, EffectStatus.COMPENSATED}
_UNSETTLED = {EffectStatus.RESERVED, EffectStatus.UNCERTAIN}
_WAITS = {Status.WAITING_FOR_INPUT, Status.WAITING_FOR_APPROVAL}


def broken_by(before: World, step: Step) -> list[str]:
    """Return the sentences that a step breaks, each with the violation."""
    after = step.world
    if before.items == after.items and before.acted == after.acted:
        return []
    return [*_moved(before, step), *_put(before, step), *_journal(before, after), *_ledger(after)]


def broken_at(steps: Steps, world: World) -> list[str]:
    """Return the sentences that a world breaks."""
    state = world.item("STATE")
    if not state or not steps.at_rest(world):
        return []
    return [*_unheard(world, Status(state["status"])), *_forgotten(steps, world)]


def is_settled(world: World) -> bool:
    """Return whether an agent has ended, waits for a person, or was never created."""
    state = world.item("STATE")
    return not state or state["status"] in FINISHED | _WAITS or _asks(world)


def _moved(before: World, step: Step) -> Iterator[str]:
    old, new = before.item("STATE"), step.world.item("STATE")
    changed = [name for name in ("step", "status", "nextAction", "owner") if old and old[name] != new[name]]
    if not changed:
        return
    if old["status"] in FINISHED:
        yield f"{ENDED} It was {old['status']}: {', '.join(f'{name} became {new[name]}' for name in changed)}."
    holder, taker = (state["owner"].partition("#")[0] for state in (old, new))
    if holder in (step.actor, FREE):
        return
    if taker != step.actor:
        yield f"{FENCE} {holder} holds it."
    elif before.is_running(holder):
        yield f"{LEASE} {holder} runs."


def _put(before: World, step: Step) -> Iterator[str]:
    state, known = before.item("STATE"), {record for record, _ in before.items}
    put = [record for record, _ in step.world.items if record not in known and record[:5] in ("STEP#", "EFFEC")]
    if not (state and put):
        return
    if state["owner"].partition("#")[0] != step.actor:
        yield f"{FENCE} {', '.join(put)}: {state['owner']} holds it."
    if state["cancels"] != "0" and any(record.startswith("EFFECT#") and not undoes(record) for record in put):
        yield f"{CANCEL} {', '.join(put)} was reserved."


def _journal(before: World, after: World) -> Iterator[str]:
    entries = {record: item for record, item in after.items if record.startswith("STEP#")}
    changed = [record for record, item in before.items if record.startswith("STEP#") and entries.get(record) != item]
    if changed or len(entries) != int(after.item("STATE")["step"]):
        yield f"{JOURNAL} {len(entries)} entries; changed: {changed}."


def _ledger(world: World) -> Iterator[str]:
    for name, count in world.acted:
        if count > 1:
            yield f"{ONCE} {name}: {count} times."
    ledger = {record: world.item(record) for record, _ in world.items if record.startswith("EFFECT#")}
    undos = undo_attempts(ledger)
    for record, entry in ledger.items():
        status, key = EffectStatus(entry["status"]), f"{AGENT}#{record}"
        if status in _HAPPENED and not world.count(key):
            yield f"{COMMITTED} {record} did not take effect."
        if status is EffectStatus.COMMITTED and world.count(undo_of(key)):
            yield f"{COMMITTED} {record} was undone."
        if status is EffectStatus.FAILED and world.count(key):
            yield f"{FAILED} {record} has taken effect."
        unsettled = [attempt for attempt in undos.get(record, []) if attempt["status"] in _UNSETTLED]
        if (status is EffectStatus.COMPENSATING) != bool(unsettled):
            yield f"{UNDO} {record} is {status}, with {len(unsettled)} unsettled attempts."


def _unheard(world: World, status: Status) -> Iterator[str]:
    inputs = {record: world.item(record) for record, _ in world.items if record.startswith("INPUT#")}
    entries = [world.item(record) for record, _ in world.items if record.startswith("STEP#")]
    heard = {record for entry in entries for record in json.loads(entry.get("inputs", "[]"))}
    words = [record for record, item in inputs.items() if item["type"] == AgentInputReceived.__name__]
    if status in (Status.COMPLETED, Status.WAITING_FOR_INPUT) and (missed := set(words) - heard):
        yield f"{HEARD} It is {status}, and has not heard {', '.join(sorted(missed))}."
    waits = status in {*_WAITS, Status.COMPLETED} or _asks(world)
    if world.item("STATE")["cancels"] != "0" and waits:
        yield f"{CANCEL} It is {status}."


def _forgotten(steps: Steps, world: World) -> Iterator[str]:
    if not (is_settled(world) or steps.lambdas.stale(world.items)):
        yield f"{FOUND} It is {world.item('STATE')['status']}."


def _asks(world: World) -> bool:
    """Return whether an execution has told the operator, waits, and would get the operator's answer."""
    token = world.item("OPERATOR").get("token", "")
    return any(at.token == token and run.name == world.told for run, at in world.asked())
