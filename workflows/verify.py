"""Whether a stack's tables agree with themselves: what `turnstile verify` finds, from stored items alone.

What is checked is what the machines promise: the journal has no gap, STATE is its fold and the inbox's, every effect
belongs to a decision, and to an approval where one is needed, and every result to an effect; parents and children know
of each other; and the seat inventory holds what the ledger says was booked.
"""

import datetime as dt
import functools
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import botocore.session
from botocore.model import Shape
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from agent.conversation import Item, fold, pending_message
from agent.definition import definition_key
from agent.journal import Entry, Ruling, read_entry, read_journal
from agent.record import (
    FINISHED,
    FREE,
    SETTLED,
    Call,
    CallResult,
    Decision,
    EffectStatus,
    Model,
    Outcome,
    Status,
    step_record,
)
from agent.turn import Usage
from tools.flights import VOID
from workflows.client import Stack
from workflows.converse_rules import refusal
from workflows.engines.casing import UnknownField, to_wire

PAUSE = 1.0
"""Seconds between the look that finds something and the one that confirms it."""
NEWS_SECONDS = 60
"""How long a child's news may be on its way, and its start."""
UNDO = "#UNDO"
BOOKING_TOOLS = frozenset({"book_flight", "book_flight_partner"})
CANCELLING_TOOL = "cancel_flight"
_DUE = frozenset({Status.INITIATED, Status.PLANNING})
"""In one of these a turn may be announced."""
_WAITING = frozenset({Status.WAITING_FOR_INPUT, Status.WAITING_FOR_APPROVAL, Status.WAITING_FOR_AGENT})
_AT_REST = _WAITING | {Status.COMPLETED, Status.CANCELLED}
"""In one of these nobody works on the agent; a recovery works on one that is FAILED."""
_FAILED = frozenset({Status.FAILED, Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED})
_HAPPENED = frozenset({EffectStatus.COMMITTED, EffectStatus.COMPENSATING, EffectStatus.COMPENSATED})
_CARRIED = {
    "AgentInputReceived": ("text",),
    "AgentDecisionGiven": ("approvalId", "decision"),
    "AgentCancelRequested": (),
    "AgentStateUpdated": ("agentId", "status"),
}
"""What is read of an input's detail, by its type."""
_NOTHING_OVER: Mapping[str, str] = MappingProxyType({})


class Kind(StrEnum):
    """What sort of inconsistency it is."""

    RECORD_UNREADABLE = "RECORD_UNREADABLE"
    JOURNAL_GAP = "JOURNAL_GAP"
    COUNTER_WRONG = "COUNTER_WRONG"
    STATUS_WRONG = "STATUS_WRONG"
    AGENT_LOST = "AGENT_LOST"
    LEASE_DEAD = "LEASE_DEAD"
    INPUT_MISSING = "INPUT_MISSING"
    INPUT_TWICE = "INPUT_TWICE"
    INPUT_UNHEARD = "INPUT_UNHEARD"
    CONVERSATION_BROKEN = "CONVERSATION_BROKEN"
    EFFECT_UNSETTLED = "EFFECT_UNSETTLED"
    EFFECT_UNDECIDED = "EFFECT_UNDECIDED"
    EFFECT_MISSING = "EFFECT_MISSING"
    EFFECT_CONTRADICTED = "EFFECT_CONTRADICTED"
    EFFECT_TWICE = "EFFECT_TWICE"
    EFFECT_UNAPPROVED = "EFFECT_UNAPPROVED"
    CHILD_UNDECIDED = "CHILD_UNDECIDED"
    CHILD_MISSING = "CHILD_MISSING"
    CHILD_UNHEARD = "CHILD_UNHEARD"
    SEATS_WRONG = "SEATS_WRONG"
    BOOKING_UNDECIDED = "BOOKING_UNDECIDED"
    BOOKING_MISSING = "BOOKING_MISSING"
    BOOKING_CONTRADICTED = "BOOKING_CONTRADICTED"


_FOREIGN = "No machine writes that: find out what else has written to the table, and restore it from a backup"
_LOOK = "Compare what was done with `turnstile trace {agent}` before anything is repeated"
_RESUME = "`turnstile resume {agent}` lets a recovery take it over"
_INVENTORY = "Compare the booking with the ledger of its agent, and correct the inventory by hand"
ADVICE: Mapping[Kind, str] = {
    Kind.RECORD_UNREADABLE: _FOREIGN,
    Kind.JOURNAL_GAP: _FOREIGN,
    Kind.COUNTER_WRONG: _FOREIGN,
    Kind.STATUS_WRONG: _FOREIGN,
    Kind.AGENT_LOST: _RESUME,
    Kind.LEASE_DEAD: _RESUME,
    Kind.INPUT_MISSING: _FOREIGN,
    Kind.INPUT_TWICE: _FOREIGN,
    Kind.INPUT_UNHEARD: "Whatever is said to it next with `turnstile input {agent}` brings it in",
    Kind.CONVERSATION_BROKEN: _FOREIGN,
    Kind.EFFECT_UNSETTLED: "Find out from the tool's own records whether it happened; unless the agent is finished, "
    + _RESUME,
    Kind.EFFECT_UNDECIDED: _LOOK,
    Kind.EFFECT_MISSING: _LOOK,
    Kind.EFFECT_CONTRADICTED: _LOOK,
    Kind.EFFECT_TWICE: _LOOK + ", and undo one of them",
    Kind.EFFECT_UNAPPROVED: _FOREIGN,
    Kind.CHILD_UNDECIDED: _FOREIGN,
    Kind.CHILD_MISSING: "agent_watch lets its parent start it again; look at the executions of AgentStart if not",
    Kind.CHILD_UNHEARD: "agent_watch announces it again; look at the executions of AgentInput if not",
    Kind.SEATS_WRONG: "Correct the flight by hand: the bookings are what was sold",
    Kind.BOOKING_UNDECIDED: _INVENTORY,
    Kind.BOOKING_MISSING: _INVENTORY,
    Kind.BOOKING_CONTRADICTED: _INVENTORY,
}
"""What to do about each kind."""


class Finding(Model):
    """Something that contradicts something else."""

    agent_id: Annotated[str, Field(description="Whose it is; empty for a flight")]
    kind: Kind
    record: Annotated[str, Field(description="Where: an item's `record`, a booking's id or a flight's")]
    text: Annotated[str, Field(description="What is inconsistent, and what to do")]


class Verdict(Model):
    """What `verify` says."""

    agents: Annotated[int, Field(description="How many were looked at")]
    findings: list[Finding]


Found = tuple[Kind, str, str]
"""A finding of the agent at hand: its kind, its record, and what is inconsistent."""


# ---- One agent


def findings(items: Iterable[Item], over: Mapping[str, str] = _NOTHING_OVER) -> list[Finding]:
    """What is inconsistent among all items of one agent. Pure.

    `over`: executions that have ended, as ARN and how; a lease or a reservation that one of them holds is nobody's.
    """
    ordered = sorted(items, key=lambda item: item["record"])
    return [_finding(ordered[0]["agentId"], *found) for found in _check(ordered, over)] if ordered else []


def _finding(agent_id: str, kind: Kind, record: str, what: str) -> Finding:
    return Finding(
        agent_id=agent_id, kind=kind, record=record, text=f"{what}. {ADVICE[kind].format(agent=agent_id or 'AGENT')}."
    )


class _Stored(BaseModel):
    """What verify reads of an item; there may be more in it."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class _State(_Stored):
    owner: str
    status: Status
    next_action: str
    step: int
    inbox: int
    cancels: int
    waits_for: str
    children: Json[list[str]]
    error: str
    last_updated: dt.datetime
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


class _Input(_Stored):
    type: Literal["AgentInputReceived", "AgentDecisionGiven", "AgentCancelRequested", "AgentStateUpdated"]
    detail: Json[dict[str, Any]]
    time: str
    received_at: str
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


class _Effect(_Stored):
    status: EffectStatus
    tool: str
    input: Json[dict[str, Any]]
    result: str
    error: str

    @property
    def happened(self) -> bool:
        return self.status in _HAPPENED

    @model_validator(mode="after")
    def _has_a_result(self) -> Self:
        if self.happened:
            json.loads(self.result)
        return self


@dataclass(frozen=True)
class _Agent:
    """An agent's items, as they are and read. `steps` and `entries` are the journal, in order."""

    state: _State
    steps: list[Item]
    entries: list[Entry]
    inbox: list[Item]
    inputs: dict[str, _Input]
    effects: dict[str, _Effect]
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


def _check(items: list[Item], over: Mapping[str, str]) -> Iterator[Found]:
    read: dict[str, _State | _Effect | _Input | Entry | Item] = {}
    for item in items:
        try:
            read[item["record"]] = _read(item)
        except (KeyError, TypeError, ValueError) as error:
            yield Kind.RECORD_UNREADABLE, item["record"], f"It cannot be read: {_why(error)}"
    if all(item["record"] != "STATE" for item in items):
        yield Kind.RECORD_UNREADABLE, "STATE", f"It is missing, but there are {len(items)} other items"
    state = read.get("STATE")
    if not isinstance(state, _State):
        return
    yield from _lease(state, over)
    # What follows from a gap or an item that cannot be read is not told as well.
    gaps = list(_gaps(state, {item["record"] for item in items if item["record"].startswith("STEP#")}))
    yield from gaps
    if gaps or len(read) < len(items):
        return
    steps = [item for item in items if item["record"].startswith("STEP#")]
    agent = _Agent(
        state=state,
        steps=steps,
        entries=read_journal(items),
        inbox=[item for item in items if item["record"].startswith("INPUT#")],
        inputs={record: each for record, each in read.items() if isinstance(each, _Input)},
        effects={record: effect for record, effect in read.items() if isinstance(effect, _Effect)},
        ledger=[item for item in items if item["record"].startswith("EFFECT#")],
        folded=[record for item in steps for record in json.loads(item.get("inputs", "[]"))],
    )
    yield from _counters(agent)
    yield from _status(agent)
    yield from _inputs(agent)
    yield from _children(agent)
    yield from _conversation(agent)
    yield from _settled(agent, over)
    yield from _decided(agent)
    yield from _approved(agent)
    yield from _undone(agent)
    yield from _carried_out(agent)


def _read(item: Item) -> "_State | _Effect | _Input | Entry | Item":
    match item["record"].partition("#")[0]:
        case "STATE":
            return _State.model_validate(item)
        case "STEP":
            return read_entry(item)
        case "EFFECT":
            return _Effect.model_validate(item)
        case "INPUT":
            return _Input.model_validate(item)
        case "OPERATOR":
            return item
    raise ValueError("no machine writes a record of this name")


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _lease(state: _State, over: Mapping[str, str]) -> Iterator[Found]:
    if state.execution in over:
        what = f"{state.execution} holds the lease, but it has ended: {over[state.execution]}"
        yield Kind.LEASE_DEAD, "STATE", what
    elif state.owner == FREE and state.next_action == FREE and state.status not in SETTLED | _FAILED | _WAITING:
        # One that has failed is announced to the recovery; whether that comes in time is not in the tables.
        yield Kind.AGENT_LOST, "STATE", f"The agent is {state.status}, but nobody works on it and nothing is announced"
    elif state.owner == FREE and state.status is Status.WAITING_FOR_OPERATOR:
        yield Kind.AGENT_LOST, "STATE", "The agent waits for its operator, but no recovery waits for the decision"


def _gaps(state: _State, steps: set[str]) -> Iterator[Found]:
    expected = {step_record(number) for number in range(1, state.step + 1)}
    for record in sorted(expected - steps):
        yield Kind.JOURNAL_GAP, record, f"It is missing, but the journal goes to step {state.step}"
    for record in sorted(steps - expected):
        yield Kind.JOURNAL_GAP, record, f"It is there, but STATE ends the journal at step {state.step}"


def _counters(agent: _Agent) -> Iterator[Found]:
    entries = agent.entries
    # What a child has used counts as its parent's.
    usages: list[Usage | _Input] = [entry.usage for entry in entries if entry.usage]
    usages += agent.inputs.values()
    decided = [entry.decision or entry.recovery for entry in entries]
    counted = {
        "model_calls": sum(entry.who == "MODEL" for entry in entries),
        "tool_calls": sum(len(entry.results) for entry in entries),
        "replans": sum(each is not None and each.action == "REPLAN" for each in decided),
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "cost_micro_usd": sum(usage.cost_micro_usd for usage in usages),
        "inbox": len(agent.inputs),
        "cancels": sum(each.type == "AgentCancelRequested" for each in agent.inputs.values()),
    }
    for name, number in counted.items():
        told = getattr(agent.state, name)
        if told != number:
            where = "the items INPUT# give" if name in ("inbox", "cancels") else "the journal gives"
            yield Kind.COUNTER_WRONG, "STATE", f"`{to_camel(name)}` is {told}, but {where} {number}"


def _status(agent: _Agent) -> Iterator[Found]:
    state, last, closing = agent.state, agent.entries[-1], agent.closing
    decision, recovery = last.decision, last.recovery
    match state.status:
        case Status.INITIATED:
            fits = last.who == "USER"
        case Status.PLANNING_COMPLETE | Status.TOOL_EXECUTION_PENDING:
            fits = decision is not None and decision.status is state.status
        case Status.TOOL_EXECUTION_SUCCESS:
            fits = last.who == "TOOLS"
        case Status.COMPLETED:
            fits = closing is not None and closing.action == "COMPLETE"
        case Status.WAITING_FOR_INPUT:
            fits = (closing is not None and closing.action == "ASK_USER") or bool(recovery and recovery.question)
        case Status.WAITING_FOR_APPROVAL:
            fits = closing is not None and closing.action == "ASK_APPROVAL"
        case Status.WAITING_FOR_AGENT:
            fits = closing is not None and closing.action == "DELEGATE"
        case Status.CANCELLED:
            # Any decision may have been the last; what counts is that somebody wanted it.
            fits = state.cancels > 0 or (recovery is not None and recovery.action == "CANCEL")
        case _:
            fits = True
    if not fits:
        what = f"{last.who}: {decided.action}" if (decided := decision or recovery) else last.who
        yield Kind.STATUS_WRONG, "STATE", f"The agent is {state.status}, but the last entry of its journal is {what}"
    waits = state.status in (Status.WAITING_FOR_APPROVAL, Status.WAITING_FOR_AGENT)
    if fits and waits and closing and state.waits_for != closing.waits_for:
        what = f"`waitsFor` is {state.waits_for!r}, but the agent is {state.status} by decision {closing.waits_for}"
        yield Kind.STATUS_WRONG, "STATE", what
    if state.status in _FAILED and not state.error:
        yield Kind.STATUS_WRONG, "STATE", f"The agent is {state.status}, but `error` is empty"
    worker = "nobody" if state.owner == FREE else state.execution
    if state.next_action != FREE and (state.owner != FREE or state.status not in _DUE):
        what = f"`nextAction` is {state.next_action}, but the agent is {state.status} and {worker} works on it"
        yield Kind.STATUS_WRONG, "STATE", what
    if state.owner != FREE and state.status in _AT_REST:
        yield Kind.STATUS_WRONG, "STATE", f"The agent is {state.status}, but {worker} holds the lease"


def _inputs(agent: _Agent) -> Iterator[Found]:
    for record, times in Counter(agent.folded).items():
        if record not in agent.inputs:
            yield Kind.INPUT_MISSING, record, "The journal has folded it in, but it is not there"
        if times > 1:
            yield Kind.INPUT_TWICE, record, f"The journal has folded it in {times} times"
    if agent.state.status in (Status.COMPLETED, Status.WAITING_FOR_INPUT):
        for record in sorted(agent.inputs.keys() - set(agent.folded)):
            if agent.state.status is Status.WAITING_FOR_INPUT and agent.inputs[record].type == "AgentStateUpdated":
                continue  # the news of a child that is not waited for any more wakes nobody
            yield Kind.INPUT_UNHEARD, record, f"The agent is {agent.state.status} and has not heard it"


def _children(agent: _Agent) -> Iterator[Found]:
    """STATE names the children of all decisions; nobody else's news has come."""
    decided = [child.agent_id for entry in agent.entries if entry.decision for child in entry.decision.children]
    known = set(agent.state.children)
    for child in sorted(known - set(decided)):
        yield Kind.CHILD_UNDECIDED, "STATE", f"{child} is among its `children`, but no decision has delegated to it"
    for child in sorted(set(decided) - known):
        yield Kind.CHILD_UNDECIDED, "STATE", f"A decision has delegated to {child}, which is not among its `children`"
    for record, each in sorted(agent.inputs.items()):
        if each.type == "AgentStateUpdated" and record.removeprefix("INPUT#") not in decided:
            yield Kind.CHILD_UNDECIDED, record, "It is the news of an agent that no decision has delegated to"


def _conversation(agent: _Agent) -> Iterator[Found]:
    """Whether Bedrock would take what LoadTurn would send."""
    record = agent.steps[-1]["record"]
    try:
        conversation = fold(agent.steps, agent.ledger, agent.inbox)
        last = conversation.last
        if last and (last.calls or last.children):
            return  # results come before anything is sent
        waiting = [
            each.detail["text"]
            for name, each in agent.inputs.items()
            if name not in conversation.folded and each.type == "AgentInputReceived"
        ]
        if last and not waiting:
            waiting = ["…"]  # nothing is sent before the user says something
        for message in pending_message(conversation, waiting):
            conversation.add(message["Role"], message["Content"])
        tool = {"ToolSpec": {"Name": "any", "InputSchema": {"Json": {"type": "object"}}}}
        request = {"Messages": conversation.messages, "ToolConfig": {"Tools": [tool]}}
        refused = refusal(to_wire(request, _converse()))
    except (KeyError, TypeError, ValueError, UnknownField) as error:
        yield Kind.CONVERSATION_BROKEN, record, f"The journal up to here cannot be folded: {_why(error)}"
        return
    if refused:
        yield Kind.CONVERSATION_BROKEN, record, f"Bedrock refuses the conversation up to here: {refused.rstrip('.')}"


@functools.cache
def _converse() -> Shape:
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    shape: Shape | None = model.operation_model("Converse").input_shape
    if shape is None:
        raise TypeError("This version of botocore knows no arguments of Converse")
    return shape


def _settled(agent: _Agent, over: Mapping[str, str]) -> Iterator[Found]:
    """Who has begun something works on it, and who has completed knows how everything ended."""
    state = agent.state
    idle = state.owner == FREE or state.execution in over
    for record, effect in agent.effects.items():
        begun = effect.status in (EffectStatus.RESERVED, EffectStatus.COMPENSATING)
        unknown = effect.status is EffectStatus.UNCERTAIN and state.status is Status.COMPLETED
        if (begun and idle) or unknown:
            who = "nobody works on the agent" if begun else "the agent is COMPLETED"
            yield Kind.EFFECT_UNSETTLED, record, f"{effect.tool} is {effect.status}, but {who}"


def _decided(agent: _Agent) -> Iterator[Found]:
    """Every effect is a call of a decision, or an alternative of one, or undoes one."""
    known = {link.key: link for call, _ in agent.calls for link in _chain(call)}
    for record, effect in agent.effects.items():
        base = record.removesuffix(UNDO)
        if base != record:
            if base not in agent.effects:
                yield Kind.EFFECT_UNDECIDED, record, f"{effect.tool} undoes {base}, which is not in the ledger"
            continue
        call = known.get(record)
        if call is None:
            yield Kind.EFFECT_UNDECIDED, record, f"No decision of the journal has this call of {effect.tool}"
        elif (call.name, call.input) != (effect.tool, effect.input):
            what = f"{effect.tool}({json.dumps(effect.input)}) was carried out"
            yield Kind.EFFECT_UNDECIDED, record, f"{what}, but decided was {call.name}({json.dumps(call.input)})"


def _approved(agent: _Agent) -> Iterator[Found]:
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


def _undone(agent: _Agent) -> Iterator[Found]:
    """What is undone has an entry of its own, and both say the same."""
    for record, effect in agent.effects.items():
        if record.endswith(UNDO):
            continue
        undo = agent.effects.get(record + UNDO)
        if effect.status is EffectStatus.COMPENSATED:
            fits = undo is not None and undo.status is EffectStatus.COMMITTED
        elif effect.status is EffectStatus.COMPENSATING:
            fits = undo is not None
        else:
            # A compensation that is known to have failed leaves what it was to undo standing.
            fits = undo is None or (undo.status is EffectStatus.FAILED and effect.happened)
        if not fits:
            what = f"is {undo.status}" if undo else "is not in the ledger"
            yield Kind.EFFECT_CONTRADICTED, record, f"{effect.tool} is {effect.status}, but its {UNDO[1:]} {what}"


def _carried_out(agent: _Agent) -> Iterator[Found]:
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
        elif result.outcome is Outcome.COMMITTED and result.value not in [json.loads(e.result) for e in happened]:
            what = f"The journal's result of {call.name} is another one than the ledger's"
            yield Kind.EFFECT_CONTRADICTED, call.key, what
        elif result.outcome in (Outcome.REJECTED, Outcome.UNAVAILABLE) and doubtful:
            what = f"The journal says that {call.name} was {result.outcome}, but the ledger has {doubtful[-1].status}"
            yield Kind.EFFECT_CONTRADICTED, call.key, what


def _chain(call: Call) -> Iterator[Call]:
    """A call and its alternatives, in the order in which they are tried."""
    link: Call | None = call
    while link:
        yield link
        link = link.alternative


# ---- Parents and their children


def family_findings(items: Iterable[Item], states: Mapping[str, Item], now: dt.datetime) -> list[Finding]:
    """What is inconsistent between an agent and the STATE of its children, by id. Pure.

    A child that is not there yet, or whose news has not come, is told `NEWS_SECONDS` later.
    """
    found = list(items)
    record = {item["record"]: item for item in found}
    try:
        state, entries = _State.model_validate(record["STATE"]), read_journal(found)
    except (KeyError, TypeError, ValueError):
        return []  # told already
    if state.status is not Status.WAITING_FOR_AGENT:
        return []
    agent_id = record["STATE"]["agentId"]
    late = now - dt.timedelta(seconds=NEWS_SECONDS)
    open_one = (entry.decision for entry in entries if entry.decision and entry.decision.waits_for == state.waits_for)
    children = [child.agent_id for decision in open_one for child in decision.children]
    awaited = [child for child in children if f"INPUT#{child}" not in record]
    if children and not awaited:
        what = f"The agent waits for {', '.join(children)}, but has heard of all of them, and nobody wakes it"
        return [_finding(agent_id, Kind.AGENT_LOST, "STATE", what)]
    missing = []
    for child in awaited:
        if child not in states:
            if state.last_updated < late:
                what = f"{agent_id} waits for it, but there is no such agent"
                missing.append(_finding(child, Kind.CHILD_MISSING, "STATE", what))
        elif states[child]["status"] in FINISHED and dt.datetime.fromisoformat(states[child]["lastUpdated"]) < late:
            what = f"The agent waits for {child}, which is {states[child]['status']}, but has not heard of it"
            missing.append(_finding(agent_id, Kind.CHILD_UNHEARD, f"INPUT#{child}", what))
    return missing


# ---- The sample agent's seat inventory


def inventory_findings(flights: Iterable[Item], bookings: Iterable[Item], effects: Iterable[Item]) -> list[Finding]:
    """What is inconsistent between all flights, all bookings and the ledgers of all agents. Pure."""
    booked, ledger = _made(bookings), list(effects)
    return [
        *_seats(flights, booked),
        *booking_findings(booked, ledger),
        *_cancelled_by_nobody(booked, ledger),
    ]


def booking_findings(bookings: Iterable[Item], effects: Iterable[Item]) -> list[Finding]:
    """What is inconsistent between bookings and the ledger of the agents that made them. Pure."""
    booked, ledger = _made(bookings), list(effects)
    return [*_bookings(booked, ledger), *_booking_effects(booked, ledger)]


def _made(bookings: Iterable[Item]) -> list[Item]:
    """Without what stands in the place of a booking that was never made."""
    return [booking for booking in bookings if booking["status"] != VOID]


def _seats(flights: Iterable[Item], bookings: list[Item]) -> Iterator[Finding]:
    sold = {flight["flightId"]: int(flight["seatsSold"]) for flight in flights}
    standing: Counter[str] = Counter()
    for booking in bookings:
        if booking["status"] == "BOOKED":
            standing[booking["flightId"]] += int(booking["passengers"])
    for flight in sorted(sold.keys() | standing.keys()):
        if flight not in sold:
            yield _finding("", Kind.SEATS_WRONG, flight, f"{standing[flight]} seats are booked, but there is no flight")
        elif sold[flight] != standing[flight]:
            what = f"{sold[flight]} seats are sold, but the bookings that stand have {standing[flight]}"
            yield _finding("", Kind.SEATS_WRONG, flight, what)


def _bookings(bookings: list[Item], effects: list[Item]) -> Iterator[Finding]:
    """Whoever made a booking has an entry that says so."""
    ledger = {_full_key(effect): effect for effect in effects if effect["tool"] in BOOKING_TOOLS}
    for booking in bookings:
        agent_id, booking_id, status = booking["key"].partition("#")[0], booking["bookingId"], booking["status"]
        effect = ledger.get(booking["key"])
        if effect is None:
            what = f"It was made by {booking['key']}, which is no booking in the ledger"
            yield _finding(agent_id, Kind.BOOKING_UNDECIDED, booking_id, what)
        elif effect["status"] == EffectStatus.FAILED:
            what = f"It is {status}, but {booking['key']} is FAILED: nothing happened"
            yield _finding(agent_id, Kind.BOOKING_CONTRADICTED, booking_id, what)
        elif effect["status"] == EffectStatus.COMPENSATED and status != "CANCELLED":
            what = f"It is {status}, but {booking['key']} is COMPENSATED"
            yield _finding(agent_id, Kind.BOOKING_CONTRADICTED, booking_id, what)


def _booking_effects(bookings: list[Item], effects: list[Item]) -> Iterator[Finding]:
    """What the ledger says happened has happened."""
    by_key: defaultdict[str, list[Item]] = defaultdict(list)
    for booking in bookings:
        by_key[booking["key"]].append(booking)
    by_id = {booking["bookingId"]: booking for booking in bookings}
    for effect in effects:
        agent_id, record = effect["agentId"], effect["record"]
        if effect["tool"] in BOOKING_TOOLS and effect["status"] in _HAPPENED:
            made = by_key[_full_key(effect)]
            if len(made) != 1:
                what = f"{effect['tool']} is {effect['status']}, but it has {len(made)} bookings"
                yield _finding(agent_id, Kind.BOOKING_MISSING, record, what)
        elif effect["tool"] == CANCELLING_TOOL and effect["status"] == EffectStatus.COMMITTED:
            cancelled = by_id.get(_cancels(effect))
            if cancelled and cancelled["status"] != "CANCELLED":
                what = f"{CANCELLING_TOOL} is COMMITTED, but {cancelled['bookingId']} is {cancelled['status']}"
                yield _finding(agent_id, Kind.BOOKING_CONTRADICTED, record, what)


def _cancelled_by_nobody(bookings: list[Item], effects: list[Item]) -> Iterator[Finding]:
    cancels = {
        _cancels(effect)
        for effect in effects
        if effect["tool"] == CANCELLING_TOOL and effect["status"] != EffectStatus.FAILED
    }
    for booking in bookings:
        if booking["status"] == "CANCELLED" and booking["bookingId"] not in cancels:
            agent_id = booking["key"].partition("#")[0]
            what = "It is CANCELLED, but no call in the ledger has cancelled it"
            yield _finding(agent_id, Kind.BOOKING_UNDECIDED, booking["bookingId"], what)


def _full_key(effect: Item) -> str:
    return f"{effect['agentId']}#{effect['record']}"


def _cancels(effect: Item) -> str:
    return str(json.loads(effect["input"])["booking_id"])


# ---- Reading


def verify(stack: Stack, agent_id: str | None = None) -> Verdict:
    """Looks at all agents and the seat inventory, or at one agent and its bookings.

    A look reads one item after the other while agents work. So what it finds is told only if a second look, `PAUSE`
    seconds later, finds it at the same place. Raises UnknownAgent.
    """
    first = _look(stack, agent_id)
    if not first.findings:
        return first
    time.sleep(PAUSE)
    found = {(finding.agent_id, finding.kind, finding.record) for finding in first.findings}
    second = _look(stack, agent_id)
    confirmed = [each for each in second.findings if (each.agent_id, each.kind, each.record) in found]
    return Verdict(agents=second.agents, findings=confirmed)


def _look(stack: Stack, agent_id: str | None) -> Verdict:
    outputs = stack.outputs
    items = stack.read_agent(agent_id) if agent_id else _scan(stack, outputs.table_name)
    by_agent: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        if not item["agentId"].startswith(definition_key("")):
            by_agent[item["agentId"]].append(item)
    over = _over(stack, items)
    found = [finding for _, record in sorted(by_agent.items()) for finding in findings(record, over)]
    states = {item["agentId"]: item for item in items if item["record"] == "STATE"}
    now = dt.datetime.now(dt.UTC)
    for _, record in sorted(by_agent.items()):
        found += family_findings(record, states if agent_id is None else _children_of(stack, record), now)
    effects = [item for item in items if item["record"].startswith("EFFECT#")]
    bookings = _scan(stack, outputs.bookings_table_name)
    if agent_id:
        own = [booking for booking in bookings if booking["key"].startswith(f"{agent_id}#")]
        found += booking_findings(own, effects)
    else:
        found += inventory_findings(_scan(stack, outputs.flights_table_name), bookings, effects)
    return Verdict(agents=len(by_agent), findings=found)


def _children_of(stack: Stack, items: Iterable[Item]) -> dict[str, Item]:
    children = [child for item in items if item["record"] == "STATE" for child in json.loads(item["children"])]
    states = {child: stack.item(child, "STATE") for child in children}
    return {child: state for child, state in states.items() if state}


def _over(stack: Stack, items: Iterable[Item]) -> dict[str, str]:
    """The executions that hold a lease but have ended."""
    owners = {item["owner"].partition("#")[0] for item in items if item["record"] == "STATE"} - {FREE}
    known = {arn: stack.execution(arn) for arn in sorted(owners)}
    return {
        arn: execution.status if execution else "it is not known any more"
        for arn, execution in known.items()
        if execution is None or execution.status != "RUNNING"
    }


def _scan(stack: Stack, table: str) -> list[Item]:
    pages = stack.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [
        {name: str(value.get("S", value.get("N", ""))) for name, value in item.items()}
        for page in pages
        for item in page["Items"]
    ]
