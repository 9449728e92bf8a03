"""The cases: every Task state of every machine times every kind of fault, every event's delivery, and random pairs.

The states come from the machines themselves. `WAYS` tells how an agent is brought to each state: by a scenario that
visits it, or by faults that lead there. A case's id contains all of this, so one case can be run alone:

    straight_booking/agent_turn.CommitEffect/timeout_after
    outage/agent_recovery.TakeOver/aborted
    straight_booking/agent_turn!1/late                      the first event for agent_turn
    straight_booking/agent_turn.LoadTurn/aborted+agent_turn.AskModel#2/throttled
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from turnstile_cli.engines.faults import Delivery, Fault, canceled
from turnstile_cli.files import TEMPLATE
from turnstile_cli.machines.definition import Machine, State, load_machines

ASL = TEMPLATE.parent / "asl"
Kind = Literal[
    "throttled",
    "transient",
    "unmodelled",
    "conflict",
    "contended",
    "refused",
    "flooded",
    "outage",
    "permanent",
    "forever",
    "timeout_before",
    "timeout_after",
    "malformed",
    "too_large",
    "uncaught",
    "aborted",
    "worker_before",
    "worker_after",
    "taken_over",
    "outrun",
    "squatted",
    "killed_before",
    "killed_after",
    "twice",
    "lost",
    "late",
    "again",
]
KINDS: dict[Kind, str] = {
    "throttled": "the service refuses one attempt with its throttling error",
    "transient": "the service fails one attempt with its internal error",
    "unmodelled": "the service fails one attempt with an error that its API does not name",
    "conflict": "several attempts of a write in a row meet another write of the same item",
    "contended": "as many attempts of a write as its retries allow meet another write, or its table is throttled",
    "refused": "the bus refuses the event in every attempt of the state, for a reason that does not pass",
    "flooded": "every attempt of the state meets the throttling error",
    "outage": "every attempt of the state meets the internal error",
    "permanent": "the service refuses one attempt with an error that does not pass",
    "forever": "the service refuses every attempt with an error that does not pass",
    "timeout_before": "States.Timeout, and nothing had happened",
    "timeout_after": "States.Timeout, and the call had taken effect",
    "malformed": "the call took effect, and its answer cannot be read",
    "too_large": "a request to a service, or an answer of a function or a model, is larger than a state may carry",
    "uncaught": "States.Runtime right after the state; no Catch sees it",
    "aborted": "the execution is stopped right after the state",
    "worker_before": "the function's process is killed before it acts",
    "worker_after": "the function's process is killed after it acted",
    "taken_over": "the turn is held at the state while another turn takes the agent over and ends; then it goes on",
    "squatted": "the turn is held at the state while other senders request its children's ids; then it goes on",
    "outrun": "agent_watch is held at the state while the operator answers and the recovery ends; then it goes on",
    "killed_before": "the engine is killed while the state is entered",
    "killed_after": "the engine is killed when the state has succeeded",
    "twice": "the event is delivered twice, at once",
    "lost": "the event is not delivered",
    "late": "the event is delivered after the agent has come to rest without it",
    "again": "the event is delivered, and once more after the agent has come to rest",
}
DELIVERIES: tuple[Kind, ...] = ("twice", "lost", "late", "again")
KILLS: tuple[Kind, ...] = ("killed_before", "killed_after")
FOREVER = 1000
CONFLICTS = 3
"""How often a write meets another write, in a row."""
CONTENDED = 8
"""How often a write is cancelled that the machine tries again after a pause instead of by a Retry."""
TOO_LARGE = "States.DataLimitExceeded"
REFUSED = {
    "error": "EventBridge.FailedEntry",
    "cause": '{"Entries":[{"ErrorCode":"MalformedDetail"}],"FailedEntryCount":1}',
}
"""An answer of the bus, as AWS reports it, for an event that it never takes."""
WRITES = {"transactWriteItems", "updateItem", "putItem"}
"""The actions of DynamoDB that conflict with a transaction."""
ANSWERS = {"lambda", "aws-sdk:bedrockruntime"}
"""The services whose answers may be too large; for every other service, the request may be too large."""


@dataclass(frozen=True)
class Errors:
    """The names of a service's errors in `ErrorEquals`."""

    throttled: str
    transient: str
    unmodelled: str
    """The name of every error that the API's model does not name."""
    permanent: str
    unreadable: str
    """The SDK's error for an answer that it cannot read; empty where our own code reads the answer."""


SERVICES = {
    "aws-sdk:dynamodb": Errors(
        throttled="DynamoDb.ThrottlingException",
        transient="DynamoDb.InternalServerErrorException",
        unmodelled="DynamoDb.DynamoDbException",
        permanent="DynamoDb.ResourceNotFoundException",
        unreadable="DynamoDb.SdkClientException",
    ),
    "aws-sdk:bedrockruntime": Errors(
        throttled="BedrockRuntime.ThrottlingException",
        transient="BedrockRuntime.InternalServerException",
        unmodelled="BedrockRuntime.BedrockRuntimeException",
        permanent="BedrockRuntime.AccessDeniedException",
        unreadable="",
    ),
    "aws-sdk:sfn": Errors(
        throttled="Sfn.SfnException",
        transient="Sfn.SdkClientException",
        unmodelled="Sfn.SfnException",
        permanent="Sfn.AccessDeniedException",
        unreadable="Sfn.SdkClientException",
    ),
    "aws-sdk:sqs": Errors(
        throttled="Sqs.RequestThrottledException",
        transient="Sqs.SqsException",
        unmodelled="Sqs.SqsException",
        permanent="Sqs.QueueDoesNotExistException",
        unreadable="Sqs.SdkClientException",
    ),
    "lambda": Errors(
        throttled="Lambda.TooManyRequestsException",
        transient="Lambda.ServiceException",
        unmodelled="Lambda.AWSLambdaException",
        permanent="Lambda.AccessDeniedException",
        unreadable="",
    ),
    "events": Errors(
        throttled="EventBridge.ThrottlingException",
        transient="EventBridge.InternalException",
        unmodelled="EventBridge.AmazonEventBridgeException",
        permanent="EventBridge.AccessDeniedException",
        unreadable="EventBridge.SdkClientException",
    ),
    "sns": Errors(
        throttled="SNS.ThrottledException",
        transient="SNS.InternalErrorException",
        unmodelled="SNS.AmazonSNSException",
        permanent="SNS.AuthorizationErrorException",
        unreadable="SNS.SdkClientException",
    ),
}
"""The errors of each service; the key is the start of the Resource after `arn:aws:states:::`."""


class UnknownCase(Exception):
    """No case has this id, or a state has no case; the message says what to do."""


@dataclass(frozen=True)
class Place:
    """The place of a fault: a visit of a Task state, or an event for a machine (then `state` is empty)."""

    machine: str
    """The name of its file: agent_turn."""
    state: str
    visit: int = 1
    """The number of the visit, or of the event, from 1."""

    def __str__(self) -> str:
        if not self.state:
            return f"{self.machine}!{self.visit}"
        return f"{self.machine}.{self.state}" + (f"#{self.visit}" if self.visit > 1 else "")

    @property
    def logical_id(self) -> str:
        """The machine's name in the template: AgentTurn."""
        return "".join(word.capitalize() for word in self.machine.split("_"))


@dataclass(frozen=True)
class Injection:
    """A fault of a kind at a place."""

    place: Place
    kind: Kind

    def __str__(self) -> str:
        return f"{self.place}/{self.kind}"


@dataclass(frozen=True)
class Way:
    """The way on which an agent comes to a state: a play of `turnstile_cli.chaos.plays`, and faults that lead there."""

    play: str
    leads: tuple[Injection, ...] = ()
    operator: str = ""
    """The operator's decision when asked, after a look-up of each uncertain effect; empty: the operator gives none.
    CANCEL: the agent is cancelled instead."""
    cancelled_at: Place | None = None
    """The state at which the agent is held until it has been cancelled; None: it is not cancelled."""
    outlived_at: str = ""
    """The state of agent_turn at which the agent's first child is held while the agent is cancelled, after the agent
    has heard the other child's end; empty: it is not cancelled."""
    crowded: bool = False
    """True: beside it wait more parents, all of them for a child at work, than one run of agent_watch checks."""
    name: str = ""
    """Its name in a case's id; empty: the play's name."""


@dataclass(frozen=True)
class Case:
    """The life of one agent, with faults in it."""

    way: Way
    faults: tuple[Injection, ...]

    @property
    def id(self) -> str:
        return f"{self.way.name or self.way.play}/{'+'.join(map(str, self.faults))}"

    @property
    def kills(self) -> bool:
        """Whether one of its faults kills the engine."""
        return any(fault.kind in KILLS for fault in self.faults)


def _at(machine: str, state: str, kind: Kind, visit: int = 1) -> Injection:
    return Injection(Place(machine, state, visit), kind)


BOOKING = Way("straight_booking")
ANSWER = Way("ask_the_user")
OUTAGE = Way("straight_booking", (_at("agent_turn", "AskModel", "outage"),), name="outage")
"""The model does not answer for as long as the turn tries: a recovery tries again."""
DENIED = Way("straight_booking", (_at("agent_turn", "AskModel", "permanent"),), name="denied")
"""The model denies access: the operator is asked."""
DIED = Way("straight_booking", (_at("agent_turn", "LoadTurn", "aborted"),), name="died")
"""The turn is stopped before it can announce an error."""
UNKNOWN = Way("straight_booking", (_at("agent_turn", "CallWriteTool", "timeout_after"),), name="unknown")
"""The booking was made and its answer lost."""
UNDONE = Way("straight_booking", (_at("agent_turn", "CallWriteTool", "timeout_before"),), name="nothing_happened")
"""The booking was never begun, but the ledger does not show that."""
UNSETTLED = Way(
    "straight_booking",
    (_at("agent_turn", "CallWriteTool", "timeout_before"), _at("agent_recovery", "LookUp", "permanent")),
    name="unsettled",
)
"""The booking was never begun, the look-up fails, and an operator is asked."""
HAPPENED = Way(
    "straight_booking",
    (_at("agent_turn", "CallWriteTool", "timeout_after"), _at("agent_recovery", "LookUp", "permanent")),
    name="happened",
)
"""The booking was made, its answer was lost, the look-up fails, and an operator is asked."""
UNHEARD = Way(
    "straight_booking",
    (_at("agent_turn", "LoadTurn", "aborted"), Injection(Place("agent_recovery", ""), "lost")),
    name="died_unheard",
)
"""The turn is stopped, and the event about it is lost: only agent_watch finds the agent."""
NOT_BEGUN = Way("straight_booking", (Injection(Place("agent_turn", ""), "lost"),), name="not_begun")
FAILED_UNHEARD = Way(
    "straight_booking",
    (
        _at("agent_turn", "AskModel", "outage"),
        Injection(Place("agent_recovery", ""), "lost"),
        Injection(Place("agent_recovery", "", 2), "lost"),
    ),
    name="failed_unheard",
)
"""The turn failed, and both events about it are lost: the event from its record and the event of its end."""
GIVEN_UP = Way("book_then_give_up")
APPROVED = Way("approved")
DELEGATED = Way("two_flights")
UNTOLD = Way("approved_when_told")
CROWDED = Way(DELEGATED.play, crowded=True, name="crowded")
OUTLIVED = Way(DELEGATED.play, outlived_at="AskModel", name="outlived")
UNDO_DIED = Way(
    "book_then_give_up",
    (_at("agent_recovery", "CallUndo", "aborted"),),
    cancelled_at=Place("agent_recovery", "CallUndo"),
    name="undo_died_and_cancelled",
)
"""The agent is cancelled during an undo, and the recovery is stopped after the undo: another recovery settles it."""
CALLED_AGAIN = Way("call_again", UNKNOWN.leads, name="call_again")
ABORTED = Way(DENIED.play, DENIED.leads, operator="ABORT", name="denied_then_aborted")
COMPENSATED = Way(DENIED.play, DENIED.leads, operator="COMPENSATE", name="denied_then_compensated")
CANCELLED = Way(DENIED.play, DENIED.leads, operator="CANCEL", name="denied_then_cancelled")

WAYS: dict[str, Way] = {
    "agent_start.ReadDecision": DELEGATED,
    "agent_start.ReadDefinition": BOOKING,
    "agent_start.CreateAgent": BOOKING,
    "agent_start.ReadExisting": Way(
        "straight_booking", (_at("agent_start", "CreateAgent", "permanent"),), name="not_created"
    ),
    "agent_input.ReadAgent": ANSWER,
    "agent_input.WakeAgent": ANSWER,
    "agent_input.StoreInput": Way("input_while_it_works"),
    "agent_input.ReadInput": Way("ask_the_user", (_at("agent_input", "WakeAgent", "permanent"),), name="not_woken"),
    "agent_input.ReadChild": DELEGATED,
    "agent_input.ReadQuestion": CANCELLED,
    "agent_input.AnswerQuestion": CANCELLED,
    "agent_notify.ReadAgent": APPROVED,
    "agent_notify.NotifyApprover": APPROVED,
    "agent_notify.CancelChild": DELEGATED,
    "agent_publish.PublishNextAction": BOOKING,
    "agent_publish.PublishUpdate": BOOKING,
    "agent_publish.PublishError": OUTAGE,
    "agent_publish.KeepRecord": Way(
        "straight_booking", (_at("agent_publish", "PublishNextAction", "refused"),), name="not_published"
    ),
    "agent_turn.StartChild": DELEGATED,
    "agent_turn.ClaimTurn": BOOKING,
    "agent_turn.LoadTurn": BOOKING,
    "agent_turn.AskModel": BOOKING,
    "agent_turn.AskModelWithoutTools": Way("json_protocol"),
    "agent_turn.ReadReply": BOOKING,
    "agent_turn.CheckpointDecision": BOOKING,
    "agent_turn.CallReadTool": Way("look_up_then_book"),
    "agent_turn.ReserveEffect": BOOKING,
    "agent_turn.CallWriteTool": BOOKING,
    "agent_turn.CommitEffect": BOOKING,
    "agent_turn.CommitNote": Way(
        "straight_booking", (_at("agent_turn", "CommitEffect", "too_large"),), name="answer_too_large"
    ),
    "agent_turn.FailEffect": Way("no_seats"),
    "agent_turn.DoubtEffect": UNKNOWN,
    "agent_turn.ReadEffect": Way(
        "straight_booking", (_at("agent_turn", "ReserveEffect", "permanent"),), name="not_reserved"
    ),
    "agent_turn.CheckpointResults": BOOKING,
    "agent_turn.CloseTurn": BOOKING,
    "agent_turn.ReadClaim": Way("straight_booking", (_at("agent_turn", "ClaimTurn", "permanent"),), name="not_claimed"),
    "agent_turn.RecordFailure": OUTAGE,
    "agent_redeliver.DeliverAgain": Way(
        "straight_booking", (_at("agent_start", "ReadDefinition", "aborted"),), name="not_started"
    ),
    "agent_recovery.ReadAgent": OUTAGE,
    "agent_recovery.AskOwner": DIED,
    "agent_recovery.TakeOver": OUTAGE,
    "agent_recovery.LoadRecovery": OUTAGE,
    "agent_recovery.TellOperator": Way(
        OUTAGE.play, (*OUTAGE.leads, _at("agent_recovery", "LoadRecovery", "permanent")), name="not_loaded"
    ),
    "agent_recovery.NotifyUnsettled": Way(
        UNSETTLED.play,
        UNSETTLED.leads,
        cancelled_at=Place("agent_turn", "CallWriteTool"),
        name="unsettled_and_cancelled",
    ),
    "agent_recovery.ClaimEffect": CALLED_AGAIN,
    "agent_recovery.CallAgain": CALLED_AGAIN,
    "agent_recovery.LookUp": UNKNOWN,
    "agent_recovery.SettleCommitted": UNKNOWN,
    "agent_recovery.SettleFailed": UNDONE,
    "agent_recovery.LeaveUncertain": UNSETTLED,
    "agent_recovery.ReserveUndo": GIVEN_UP,
    "agent_recovery.CallUndo": GIVEN_UP,
    "agent_recovery.CommitUndo": GIVEN_UP,
    "agent_recovery.DoubtUndo": Way(
        "book_then_give_up",
        (_at("agent_recovery", "CallUndo", "timeout_before"),),
        operator="RETRY",
        name="undo_unknown_then_retried",
    ),
    "agent_recovery.SettleUndone": UNDO_DIED,
    "agent_recovery.SettleNotUndone": Way(
        "book_then_give_up", (_at("agent_recovery", "ReserveUndo", "aborted"),), name="undo_died_before_it_began"
    ),
    "agent_recovery.FailUndo": Way(
        "book_then_give_up", (_at("agent_recovery", "CallUndo", "flooded"),), name="undo_refused"
    ),
    "agent_recovery.NotifyOperator": Way(
        HAPPENED.play, HAPPENED.leads, operator="COMPENSATE", name="happened_then_undone"
    ),
    "agent_recovery.MarkWaiting": Way(HAPPENED.play, HAPPENED.leads, operator="RETRY", name="happened_then_retried"),
    "agent_recovery.AskOperator": Way(DENIED.play, DENIED.leads, operator="RETRY", name="denied_then_retried"),
    "agent_recovery.LoadRecoveryWithAnswer": Way(
        UNSETTLED.play, UNSETTLED.leads, operator="RETRY", name="unsettled_then_retried"
    ),
    "agent_recovery.RecordRecovery": OUTAGE,
    "agent_watch.LoadWatch": NOT_BEGUN,
    "agent_watch.AskOwner": UNHEARD,
    "agent_watch.SendToRecovery": UNHEARD,
    "agent_watch.AnnounceTurn": NOT_BEGUN,
    "agent_watch.AnnounceError": FAILED_UNHEARD,
    "agent_watch.RemindApprover": Way("never_approved"),
    "agent_watch.ExpireApproval": Way("never_approved"),
    "agent_watch.WakeParent": Way(
        DELEGATED.play, (Injection(Place("agent_start", "", 2), "lost"),), name="child_not_made"
    ),
    "agent_watch.AnnounceEnd": Way(DELEGATED.play, (Injection(Place("agent_input", ""), "lost"),), name="end_unheard"),
}
"""The way to each Task state."""
EVENTS: tuple[tuple[Place, Way], ...] = (
    (Place("agent_start", ""), BOOKING),
    (Place("agent_start", "", 2), DELEGATED),
    (Place("agent_start", "", 2), CROWDED),
    # The event that the agent waits for an approval.
    (Place("agent_notify", ""), UNTOLD),
    # The event that the agent has ended: only a parent's end comes to agent_notify.
    (Place("agent_notify", ""), OUTLIVED),
    (Place("agent_turn", ""), BOOKING),
    (Place("agent_turn", "", 2), ANSWER),
    (Place("agent_input", ""), ANSWER),
    (Place("agent_recovery", ""), OUTAGE),
    (Place("agent_publish", ""), BOOKING),
    (Place("agent_publish", "", 2), BOOKING),
)
"""Deliveries with faults: of events to the machines, and of the stream's records to agent_publish."""
SQUATTED = ("CheckpointDecision", "StartChild")
"""States of agent_turn: before the first, no decision names the children; before the second, no child was requested."""
OUTRUN = (ABORTED, COMPENSATED, CANCELLED)
"""Ways whose operator's answer ends the agent or leaves it to its user: no later run of agent_watch may move it."""
TWO_WRITES = Way("two_writes")
FIVE_WRITES = Way("five_writes")
"""Five calls at once, as many as CallTools makes: on AWS their transactions meet at STATE."""
AROUND_A_CALL = ("ReserveEffect", "CallWriteTool", "CommitEffect")
"""States of agent_turn during which the reply's other call may be running."""
NO_LEASE = {"ClaimTurn", "ReadClaim"}
"""States of agent_turn at which the turn has no lease that could be taken."""
PAIRS = 60
SEED = 1
REPRESENTATIVE_PAIRS = 6
_LONG_WAITS = {
    (f"agent_recovery.{state}", kind)
    for state in ("CommitUndo", "FailUndo", "DoubtUndo")
    for kind in ("contended", "flooded", "outage", "permanent", "forever", "too_large")
}
"""Faults after which an undo may have acted and stays RESERVED, by their state and kind."""
REPEATED = 5
"""How often each case is run to compare the guards."""


def all_cases(seed: int = SEED) -> list[Case]:
    """Return every case, always in the same order; the seed determines the pairs.

    Raise UnknownCase for a Task state that no way leads to.
    """
    cases = [*single_cases(_machines())]
    return [*cases, *_pairs(cases, seed)]


def representative_cases(seed: int = SEED) -> list[Case]:
    """Return some of all cases: each state, each event and each kind of fault is in at least one; some are pairs."""
    cases = [case for case in all_cases(seed) if not _waits_for_minutes(case)]
    random.Random(seed).shuffle(cases)
    chosen, seen = [case for case in cases if len(case.faults) > 1][:REPRESENTATIVE_PAIRS], set[str]()
    for case in cases:
        marks = {case.faults[0].kind, str(case.faults[0].place)}
        if len(case.faults) == 1 and not marks & seen:
            chosen.append(case)
            seen |= marks
    for case in cases:
        marks = {case.faults[0].kind, str(case.faults[0].place)}
        if len(case.faults) == 1 and not marks <= seen:
            chosen.append(case)
            seen |= marks
    return chosen


def _waits_for_minutes(case: Case) -> bool:
    """Return True if a recovery has to wait for minutes: until its own call must have ended."""
    return any((str(fault.place), fault.kind) in _LONG_WAITS for fault in case.faults)


def guard_cases() -> list[Case]:
    """Return the cases that repeat a call unless a guard prevents it.

    Their faults lie between the call's effect and its journal entry.
    """
    after: tuple[Kind, ...] = ("timeout_after", "worker_after", "aborted", "uncaught")
    unknown: tuple[Kind, ...] = ("outage", "permanent", "taken_over")
    return [
        *(Case(BOOKING, (_at("agent_turn", "CallWriteTool", kind),)) for kind in after),
        *(Case(BOOKING, (_at("agent_turn", "CheckpointResults", kind),)) for kind in unknown),
    ] * REPEATED


def case_of(case_id: str, seed: int = SEED) -> Case:
    """Return the case with this id. Raise UnknownCase if there is none."""
    for case in all_cases(seed):
        if case.id == case_id:
            return case
    raise UnknownCase(f"There is no case {case_id}; `turnstile chaos --list` shows all cases")


def single_cases(machines: Sequence[Machine]) -> Iterator[Case]:
    """Yield the cases with one fault. Raise UnknownCase for a Task state that no way leads to."""
    for machine in machines:
        for state in machine.tasks():
            name = f"{machine.name}.{state.name}"
            if name not in WAYS:
                raise UnknownCase(f"No way leads to {name}; add one to WAYS in {__name__}")
            for kind in kinds_at(machine, state):
                yield Case(WAYS[name], (Injection(Place(machine.name, state.name), kind),))
            if machine.name == "agent_turn" and state.name in AROUND_A_CALL:
                for kind in kinds_at(machine, state):
                    # `taken_over` takes the lease of a running turn. No machine does that, and only a tool that
                    # recognises a key survives it.
                    if kind != "taken_over":
                        yield Case(TWO_WRITES, (Injection(Place(machine.name, state.name), kind),))
                    if kind in ("conflict", "contended"):
                        yield Case(FIVE_WRITES, (Injection(Place(machine.name, state.name), kind),))
    known = {machine.name for machine in machines}
    for place, way in EVENTS:
        if place.machine in known:
            for kind in DELIVERIES:
                yield Case(way, (Injection(place, kind),))
    for name in SQUATTED:
        yield Case(DELEGATED, (_at("agent_turn", name, "squatted"),))
    if "agent_watch" in known:
        for way in OUTRUN:
            yield Case(way, (_at("agent_watch", "AskOwner", "outrun"),))


def kinds_at(machine: Machine, state: State) -> Iterator[Kind]:
    """Yield the kinds of fault that can happen at a Task state."""
    yield from (
        "throttled",
        "transient",
        "unmodelled",
        "flooded",
        "outage",
        "permanent",
        "forever",
        "timeout_before",
        "timeout_after",
    )
    if state.action in WRITES:
        yield from ("conflict", "contended")
    if _service(state) == "events":
        yield "refused"
    # The answer of a task that waits comes with its token, and no SDK reads it. tests/paths sends unreadable answers.
    if not state.waits_for_token:
        yield "malformed"
    yield from ("uncaught", "aborted")
    if any(TOO_LARGE in catcher["ErrorEquals"] for catcher in state.fields.get("Catch", [])):
        yield "too_large"
    if _service(state) == "lambda":
        yield from ("worker_before", "worker_after")
    if machine.name == "agent_turn" and state.name not in NO_LEASE:
        yield "taken_over"
    yield from KILLS


def _pairs(cases: Sequence[Case], seed: int) -> Iterator[Case]:
    """Yield cases with two faults in one life, both at places that the same way passes or may pass."""
    chooser = random.Random(seed)
    seen: set[str] = set()
    alone = [
        case for case in cases if not case.kills and case.faults[0].kind not in ("taken_over", "outrun", "squatted")
    ]
    while len(seen) < PAIRS:
        first, second = chooser.sample(alone, 2)
        # The way with more leads passes the places of both faults, unless a place is among its leads.
        way = max((first.way, second.way), key=lambda way: len(way.leads))
        places = {fault.place for fault in (*first.faults, *second.faults, *way.leads)}
        if second.way.play != first.way.play or len(places) < 2 + len(way.leads):
            continue
        case = Case(way, (first.faults[0], second.faults[0]))
        if case.id not in seen:
            seen.add(case.id)
            yield case


def fault_for(injection: Injection, agent_id: str, ledger: bool = True) -> Fault | Delivery:
    """Return the fault for the engine. `taken_over`, `outrun`, `squatted` and the kills only hold the execution.

    Without the ledger, CallReadTool makes the calls that write, so the fault moves there.
    """
    place, kind = injection.place, injection.kind
    if not ledger and place.state == "CallWriteTool":
        place = replace(place, state="CallReadTool")
    skip = place.visit - 1
    if not place.state:
        if kind not in ("twice", "lost", "late", "again"):
            raise ValueError(f"{kind} is no fault of an event's delivery; use twice, lost, late or again")
        return Delivery(agent_id=agent_id, machine=place.logical_id, how=kind, skip=skip)
    machine = next(machine for machine in _machines() if machine.name == place.machine)
    state = next(state for state in machine.tasks() if state.name == place.state)
    errors = SERVICES[_service(state)]
    base = Fault(agent_id=agent_id, machine=place.logical_id, state=place.state, skip=skip)
    changes: dict[Kind, dict[str, object]] = {
        "throttled": {"error": errors.throttled},
        "transient": {"error": errors.transient},
        "unmodelled": {"error": errors.unmodelled},
        "conflict": {**_conflict(state, "TransactionConflict"), "times": CONFLICTS},
        "contended": _contended(state),
        "refused": {**REFUSED, "times": _attempts(state, REFUSED["error"])},
        "flooded": {"error": errors.throttled, "times": _attempts(state, errors.throttled)},
        "outage": {"error": errors.transient, "times": _attempts(state, errors.transient)},
        "permanent": {"error": errors.permanent},
        "forever": {"error": errors.permanent, "times": FOREVER},
        "timeout_before": {"error": "States.Timeout"},
        "timeout_after": {"error": "States.Timeout", "when": "after"},
        "malformed": _malformed(state, errors),
        "too_large": {"error": TOO_LARGE, "when": "after" if _service(state) in ANSWERS else "before"},
        "uncaught": {"dies": "failed", "when": "left"},
        "aborted": {"dies": "stopped", "when": "left"},
        "worker_before": {"dies": "worker"},
        "worker_after": {"dies": "worker", "when": "after"},
        "taken_over": {"hold": True, "when": "entered"},
        "outrun": {"hold": True, "when": "entered"},
        "squatted": {"hold": True, "when": "entered"},
        "killed_before": {"hold": True, "when": "entered"},
        "killed_after": {"hold": True, "when": "left"},
    }
    return base.model_copy(update=changes[kind])


@cache
def _machines() -> list[Machine]:
    """Load the machines that the template deploys."""
    template = TEMPLATE.read_text("utf-8")
    return [machine for machine in load_machines(ASL) if f"asl/{machine.name}.asl.yaml" in template]


def _service(state: State) -> str:
    resource = str(state.fields["Resource"]).removeprefix("arn:aws:states:::")
    for service in SERVICES:
        if resource.startswith(service):
            return service
    raise UnknownCase(
        f"The errors of {resource}, the task of {state.path}, are not known; add them to SERVICES in {__name__}"
    )


def _attempts(state: State, error: str) -> int:
    """Return how many attempts a state makes when each meets this error."""
    for retrier in state.fields.get("Retry", []):
        if error in retrier["ErrorEquals"]:
            return int(retrier["MaxAttempts"]) + 1
    return 1


def _conflict(state: State, reason: str) -> dict[str, object]:
    """Return the error of a write that meets another one; of a transaction, with this reason for its last item."""
    if state.action != "transactWriteItems":
        return {"error": "DynamoDb.TransactionConflictException"}
    others = ["None"] * (len(state.fields["Parameters"]["TransactItems"]) - 1)
    return {**canceled(*others, reason)}


def _contended(state: State) -> dict[str, object]:
    """Return the fault for a write whose attempts are all cancelled, or `CONTENDED` of them if no Retry bounds them."""
    fault = _conflict(state, "ThrottlingError")
    attempts = _attempts(state, str(fault["error"]))
    return {**fault, "times": attempts if attempts > 1 else CONTENDED}


def _malformed(state: State, errors: Errors) -> dict[str, object]:
    """Return the fault for an answer that cannot be read.

    An SDK refuses such an answer. Our own code (a tool's caller, ReadReply) may receive it. Where the machine itself
    reads a path of it, AWS ends the execution with States.Runtime; the engine would read null, so the fault fails the
    execution there.
    """
    if errors.unreadable:
        return {"error": errors.unreadable, "when": "after"}
    paths = [state.fields.get("OutputPath", ""), *state.fields.get("ResultSelector", {}).values()]
    if state.fields.get("OutputPath") or any(str(path).startswith("$.Payload.") for path in paths):
        return {"dies": "failed", "when": "left"}
    answer = '{"StatusCode": 200, "Payload": "rubbish"}' if _service(state) == "lambda" else "{}"
    return {"answer": answer, "when": "after"}
