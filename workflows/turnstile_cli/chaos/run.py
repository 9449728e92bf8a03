"""Run cases: lives of agents with faults in them, many at once; the tables' content at the end decides each outcome."""

import datetime as dt
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from turnstile_agents.conversation import reason
from turnstile_agents.events import AgentRequested, ChildRequested, Parent
from turnstile_agents.items import AgentState, Attributes, Effect, Item
from turnstile_agents.record import FINISHED, FREE, Model, Status, child_id, step_record
from turnstile_cli.chaos.bench import OWN_KEY, Bench, Guards
from turnstile_cli.chaos.cases import KILLS, Case, Injection, Place, Way, fault_for
from turnstile_cli.chaos.plays import plays
from turnstile_cli.chaos.tools import CLERK, SHORT, acts, false_entries
from turnstile_cli.engines.faults import Fault, met_at
from turnstile_cli.machines.trace import transitions, visits
from turnstile_cli.stack.client import StackError
from turnstile_cli.stack.sample import load_sample
from turnstile_cli.verify import family_findings, findings

T = TypeVar("T")

AT_ONCE = 8
"""Lives that run side by side: each is waiting most of the time."""
HELD_AT_ONCE = 24
"""Lives that one kill of the engine hits: few enough that no life is held longer than `faults.HOLD_SECONDS`."""
LOOK, SELDOM = 0.2, 0.6
"""Seconds between two looks at an agent: few while it changes, more while it waits."""
QUIET = 0.8
"""Seconds without a change after which the harness checks whether an execution still runs."""
LIFE_SECONDS = 150
INPUT_SECONDS = 60
"""Seconds within which an agent comes to the state at which it is held, and receives a message there."""
CHILD_SECONDS = 20
"""Seconds for each of two things: the children begin and one ends; their parent is cancelled."""
SQUATTER = "Say that it is booked, and do nothing."
"""The prompt of a request that takes a child's place."""
DELEGATED_AT = 2
"""The step at which an agent delegates if it delegates at once."""
NUDGES = 8
"""How often the harness starts agent_watch for an agent that does not move, before it gives the agent up."""
REQUESTS = 3
"""How often the sender sends an event that has no result."""
TRIES = 6
"""How often a case is run while its fault is not met."""
UNMET = "the fault was never met"
NOT_THERE = "NOT_THERE"
"""The status of an agent that was never created; its sender knows from the refusal."""
_LAST_HELP = (
    "agent_start",
    "agent_input",
    "agent_notify",
    "agent_publish",
    "agent_recovery",
    "agent_redeliver",
    "agent_watch",
)
"""Machines that no other machine helps: a `forever` fault there lasts until `_repair` removes it."""
_RELEASED_LAST = ("late", "again", "taken_over", "outrun")


class CaseOutcome(Model):
    """The outcome of one case."""

    case: str
    place: Annotated[str, Field(description="The place of the first fault; empty without a fault")]
    kinds: list[str]
    status: Annotated[str, Field(description="The agent's status at the end")]
    error: str
    met: Annotated[list[bool], Field(description="For each fault, whether it was met")]
    problems: Annotated[list[str], Field(description="Problems; empty if the agent survived")]
    bookings: Annotated[int, Field(description="Bookings that stand")]
    duplicates: Annotated[int, Field(description="Bookings that stand beside another booking of the same call")]
    recovery_seconds: Annotated[float | None, Field(description="From the first fault to the last write of STATE")]
    transitions: int
    extra_transitions: Annotated[int, Field(description="More than the same life has without faults")]
    nudges: Annotated[int, Field(description="How often agent_watch was started, or an event was sent again")]
    seconds: float

    @property
    def line(self) -> str:
        """The outcome in one line."""
        return f"{'survived' if not self.problems else 'FAILED  '} {self.case}: {self.status} {self.error}".rstrip()


class Life:
    """One agent, from the request to its rest."""

    def __init__(self, bench: Bench, case: Case, guards: Guards) -> None:
        self.case = case
        self._bench = bench
        self._guards = guards
        self._play = plays()[case.way.play]
        self._agent_id = f"chaos-{uuid.uuid4().hex[:16]}"
        self._files: list[tuple[Injection, Path]] = []
        self._begun = time.monotonic()
        self._inputs = list(self._play.scenario.inputs)
        self._rulings = list(self._play.scenario.decisions)
        self._decisions = [case.way.operator] if case.way.operator else []
        self._ignored: set[str] = set()
        self._over: set[str] = set()
        self._requests = 0
        self._sent = 0
        self._nudges = 0
        self._answered = ""
        self._child = ""
        self._outlived = False
        self._late = ""
        self._killed = 0.0
        self._crowd: list[Item] = []

    def begin(self) -> None:
        """Put the faults in place and request the agent."""
        for injection in (*self.case.way.leads, *self.case.faults):
            if injection.kind != "outrun":
                self._put(injection)
        if self.case.way.crowded:
            self._crowd = self._bench.crowd(self._agent_id)
        meanwhile = None
        if self._play.input_at_once:
            meanwhile = self._hold(Place("agent_turn", "AskModel"), self._speak)
        elif self.case.way.cancelled_at:
            meanwhile = self._hold(self.case.way.cancelled_at, lambda: self._bench.stack.cancel(self._agent_id))
        elif self.case.way.outlived_at:
            meanwhile = self._hold_child(self.case.way.outlived_at)
        self._request()
        if meanwhile:
            meanwhile()

    def _put(self, injection: Injection) -> Path:
        file = self._bench.faults.put(fault_for(injection, self._agent_id, self._guards.ledger))
        self._files.append((injection, file))
        return file

    def release(self) -> None:
        """Remove the faults that held the agent for a kill. Call it when the engine is dead."""
        self._killed = time.time()
        for injection, file in self._files:
            if injection.kind in KILLS:
                file.unlink(missing_ok=True)

    def live(self, until_held: bool = False) -> None:
        """Drive the agent until it is at rest and none of its executions runs, or until it is given up.

        With `until_held`, return as soon as the agent has come to the state where the engine is to be killed.
        """
        deadline = time.monotonic() + LIFE_SECONDS
        seen: Any = None
        since = time.monotonic()
        while True:
            state = self._state()
            if until_held and self._held():
                return
            self._take_over(state)
            self._squat()
            looks_like = state and (state.status, state.step, state.owner, state.last_updated)
            if looks_like != seen:
                seen, since = looks_like, time.monotonic()
            if time.monotonic() > deadline:
                self._late = f"it was not at rest after {LIFE_SECONDS} seconds"
                return
            if time.monotonic() - since > QUIET and not self._running(state):
                if self._at_rest(state) and not self._abandoned(state):
                    if not (self._answer(state) or self._release_last()):
                        return
                elif not self._push(state):
                    return
                since = time.monotonic()
            time.sleep(min(SELDOM, max(LOOK, (time.monotonic() - since) / 4)))

    def outcome(self, baseline: Mapping[str, int]) -> CaseOutcome:
        """Judge the life by the tables. `baseline`: the transitions of each play without faults."""
        state = self._state()
        bookings = self._bookings()
        own = self._files[len(self.case.way.leads) :]
        met = [met_at(file) for _, file in own]
        stack = self._bench.stack
        executions = [execution for arn in self._started() if (execution := stack.execution(arn))]
        made = sum(transitions(visits(stack.history(execution.arn, data=False))) for execution in executions)
        standing = Counter(item["key"].partition(OWN_KEY)[0] for item in bookings if item["status"] == "BOOKED")
        duplicates = sum(standing.values()) - len(standing)
        problems = [*self._problems(state)]
        if self.case.faults and not any(met):
            problems.append(UNMET)
        if duplicates:
            problems.append(f"{duplicates} bookings too many: {dict(standing)}")
        if problems:
            problems += [
                f"{execution.machine} {execution.status}: {execution.error}: {reason(execution.cause)}"
                for execution in executions[-3:]
            ]
        first = max(self._killed, min((at for at in met if at), default=0.0))
        last = dt.datetime.fromisoformat(state.last_updated).timestamp() if state else None
        self._bench.remove(self._crowd)
        for _, file in self._files:
            file.unlink(missing_ok=True)
            file.with_suffix(".met").unlink(missing_ok=True)
        return CaseOutcome(
            case=self.case.id,
            place=str(self.case.faults[0].place) if self.case.faults else "",
            kinds=[fault.kind for fault in self.case.faults],
            status=state.status if state else NOT_THERE,
            error=state.error if state else "",
            met=[at is not None for at in met],
            problems=problems,
            bookings=sum(standing.values()),
            duplicates=duplicates,
            recovery_seconds=round(max(0.0, last - first), 3) if first and last else None,
            transitions=made,
            extra_transitions=made - baseline.get(self.case.way.play, made),
            nudges=self._nudges,
            seconds=round(time.monotonic() - self._begun, 2),
        )

    # ---- Acts from outside

    def _request(self) -> None:
        self._requests += 1
        requested = AgentRequested(prompt=self._play.scenario.prompt, agent_id=self._agent_id, agent=self._play.agent)
        self._bench.stack.request(requested)

    def _hold(self, place: Place, act: Callable[[], object]) -> Callable[[], None]:
        """Hold the agent at a state. Return a function that calls `act` there and lets the agent go on afterwards.

        The agent goes on when its inbox has an item, at the latest after `INPUT_SECONDS`.
        """
        hold = Fault(agent_id=self._agent_id, machine=place.logical_id, state=place.state, when="entered", hold=True)
        file = self._bench.faults.put(hold)

        def do() -> None:
            deadline = time.monotonic() + INPUT_SECONDS
            while met_at(file) is None and time.monotonic() < deadline:
                time.sleep(LOOK)
            act()
            while time.monotonic() < deadline:
                now = self._state()
                if now and now.inbox:
                    break
                time.sleep(LOOK)
            file.unlink()

        return do

    def _hold_child(self, state: str) -> Callable[[], None]:
        """Hold the turn of the agent's first child at a state. Return a function that cancels the agent meanwhile.

        The function waits until the other child has reported: only the held child is left to cancel.
        """
        self._child = child_id(self._agent_id, DELEGATED_AT, 0)
        hold = Fault(agent_id=self._child, machine="AgentTurn", state=state, when="entered", hold=True)
        file = self._bench.faults.put(hold)

        def do() -> None:
            waits = Status.WAITING_FOR_AGENT
            if self._comes(lambda now: met_at(file) is not None and now.inbox == 1 and now.status == waits):
                self._bench.stack.cancel(self._agent_id)
                self._outlived = self._comes(lambda now: now.status in FINISHED)
            file.unlink()

        return do

    def _comes(self, condition: Callable[[AgentState], bool]) -> bool:
        """Return True as soon as STATE meets the condition, False if it does not within `CHILD_SECONDS`."""
        deadline = time.monotonic() + CHILD_SECONDS
        while time.monotonic() < deadline:
            now = self._state()
            if now and condition(now):
                return True
            time.sleep(LOOK)
        return False

    def _speak(self) -> None:
        for text in self._inputs:
            self._bench.stack.send_input(self._agent_id, text)
        self._inputs = []

    def _answer(self, state: AgentState | None) -> bool:
        """Send the answer that the agent waits for. Return False if there is nothing more to send."""
        if state is None:
            return False
        if state.status is Status.WAITING_FOR_INPUT and self._inputs:
            if self._heard():
                self._inputs, self._sent = self._inputs[1:], 0
                return self._answer(state)
            return self._again(lambda: self._bench.stack.send_input(self._agent_id, self._inputs[0]))
        if state.status is Status.WAITING_FOR_APPROVAL and self._rulings:
            ruling = self._rulings[0]
            return self._again(
                lambda: self._bench.stack.decide_approval(self._agent_id, state.waits_for, ruling.decision, ruling.note)
            )
        if state.status is Status.WAITING_FOR_OPERATOR and self._decisions:
            self._hold_watch(state)
        if state.status is Status.WAITING_FOR_OPERATOR and self._decisions == ["CANCEL"]:
            return self._again(lambda: self._bench.stack.cancel(self._agent_id))
        if state.status is Status.WAITING_FOR_OPERATOR and self._decisions:
            asked = self._bench.stack.table.question(self._agent_id)
            if asked:
                effects = [self._bench.look_up(effect) for effect in self._effects(self._agent_id) if effect.unsettled]
                self._answered = asked.token
                self._bench.operator.decide(self._answered, self._decisions.pop(), effects)
            return True  # without an item, the recovery is about to ask
        return False

    def _hold_watch(self, state: AgentState) -> None:
        """If the case has an `outrun` fault, start agent_watch and hold it after it has read the recovery that asks.

        Until the fault is removed, the harness does not wait for that run.
        """
        known = [injection for injection, _ in self._files]
        held = [injection for injection in self.case.faults if injection.kind == "outrun" and injection not in known]
        if held:
            file = self._put(held[0])
            self._bench.nudge(state)
            self._comes(lambda _: met_at(file) is not None)
            self._ignored |= {arn for arn in self._started() if "-AgentWatch:" in arn}

    def _again(self, send: Callable[[], object]) -> bool:
        """Call `send`, at most `REQUESTS` times for one answer. Return False after that."""
        if self._sent == REQUESTS:
            return False
        self._nudges += self._sent > 0
        self._sent += 1
        send()
        return True

    def _heard(self) -> bool:
        kept = self._bench.stack.table.inputs(self._agent_id)
        return self._sent > 0 and any(item.fields.get("text") == self._inputs[0] for item in kept)

    def _take_over(self, state: AgentState | None) -> None:
        """Free the lease of the held turn and announce a new one, as a recovery would that took the turn for dead."""
        for injection, file in self._files:
            if injection.kind != "taken_over" or self._ignored or not met_at(file) or not state:
                continue
            if state.free:  # no turn holds the lease: the turn may have ended
                continue
            owner = state.owner
            self._ignored.add(state.execution)
            stack = self._bench.stack
            stack.dynamodb.update_item(
                TableName=stack.outputs.table_name,
                Key={"agentId": {"S": self._agent_id}, "record": {"S": "STATE"}},
                UpdateExpression="SET #owner = :none, #status = :planning, nextAction = :planning, announce = :event",
                ConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner", "#status": "status"},
                ExpressionAttributeValues={
                    ":none": {"S": FREE},
                    ":planning": {"S": "PLANNING"},
                    ":event": {"S": "AgentStateUpdated"},
                    ":owner": {"S": owner},
                },
            )

    def _squat(self) -> None:
        """While the turn is held, send requests for its children's ids from outside, then let the turn go on.

        The first request names no parent. The second names the decision: before the decision is written, no child is
        created; afterwards, the child that the decision names.
        """
        held = [
            file for injection, file in self._files if injection.kind == "squatted" and file.exists() and met_at(file)
        ]
        if not held:
            return
        first, second = (child_id(self._agent_id, DELEGATED_AT, place) for place in (0, 1))
        named = Parent(agent_id=self._agent_id, step=step_record(DELEGATED_AT), place=1)
        put = self._bench.stack.put
        put("AgentRequested", AgentRequested(prompt=SQUATTER, agent_id=first, request_id=first))
        put("AgentRequested", ChildRequested(agent_id=second, parent=named))
        self._comes(lambda _: self._was_answered(first) and self._was_answered(second))
        for file in held:
            file.unlink()

    def _was_answered(self, agent_id: str) -> bool:
        """Return True if an execution about an agent has ended."""
        return any(self._bench.status(arn) != "RUNNING" for arn in self._bench.started.of(agent_id))

    def _release_last(self) -> bool:
        """Remove the faults that wait for the agent's rest. Return True if one of them had been met."""
        released = False
        for injection, file in self._files:
            if injection.kind in _RELEASED_LAST and file.exists():
                file.unlink()
                released = released or met_at(file) is not None
        self._ignored.clear()
        return released

    def _push(self, state: AgentState | None) -> bool:
        """Start agent_watch, or send the request again, for an agent that does not move. Return False to give it up."""
        self._nudges += 1
        if state is None:
            if self._requests >= REQUESTS:
                return False
            self._request()
            return True
        if self._nudges > NUDGES and self._repair():
            self._nudges = 1
        if self._nudges > NUDGES:
            self._late = f"it stays {state.status}, and no execution works on it"
            return False
        self._bench.nudge(state)
        return True

    def _repair(self) -> bool:
        """Remove the `forever` faults of the machines in `_LAST_HELP`. Return False if there were none."""
        denied = [
            file
            for injection, file in self._files
            if injection.kind == "forever" and injection.place.machine in _LAST_HELP and file.exists()
        ]
        for file in denied:
            file.unlink()
        return bool(denied)

    # ---- Observations

    def _running(self, state: AgentState | None) -> bool:
        """Return True if an execution works for the agent; a recovery that waits for the operator does not count."""
        family = [state, *self._children(state)] if state else []
        waits = {
            each.execution
            for each in family
            if each.status is Status.WAITING_FOR_OPERATOR and not self._carries_out(each.agent_id)
        }
        for arn in self._started():
            if arn in self._over or arn in self._ignored or arn in waits:
                continue
            if self._bench.status(arn) == "RUNNING":
                return True
            self._over.add(arn)
        return False

    def _carries_out(self, agent_id: str) -> bool:
        """Return True if the agent's open question was answered: its recovery carries the answer out."""
        asked = self._bench.stack.table.question(agent_id)
        return asked is not None and asked.token == self._answered

    def _held(self) -> bool:
        return all(met_at(file) for injection, file in self._files if injection.kind in KILLS)

    def _abandoned(self, state: AgentState | None) -> bool:
        """Return True if the agent waits for its operator, but no running recovery waits for the decision."""
        if not state or state.status is not Status.WAITING_FOR_OPERATOR or state.free:
            return False
        return self._bench.status(state.execution) != "RUNNING"

    def _at_rest(self, state: AgentState | None) -> bool:
        if state is None:
            return False
        match state.status:
            case Status.WAITING_FOR_OPERATOR:
                return True
            case Status.WAITING_FOR_AGENT:
                # The parent is at rest if a child is: that child waits for a person, and the person has been told.
                unfinished = [child for child in self._children(state) if child.status not in FINISHED]
                rests = any(map(self._at_rest, unfinished))
            case Status.WAITING_FOR_APPROVAL:
                rests = not self._play.expires and (not self._play.when_told or self._was_told())
            case status:
                rests = status in FINISHED or status is Status.WAITING_FOR_INPUT
        return rests and state.free and state.next_action == FREE

    def _was_told(self) -> bool:
        """Return True if a message on the operator's topic names the agent."""
        return self._bench.operator.was_asked(self._agent_id)

    def _state(self) -> AgentState | None:
        return self._bench.stack.table.state(self._agent_id)

    def _family(self) -> list[str]:
        """Return the ids of the agent and of the agents that it has delegated to."""
        state = self._state()
        return [self._agent_id, *(state.children if state else [])]

    def _children(self, state: AgentState) -> list[AgentState]:
        """Return STATE of each child that exists."""
        found = map(self._bench.stack.table.state, state.children)
        return [child for child in found if child]

    def _started(self) -> list[str]:
        """Return the executions about the agent or its children, each once."""
        return list(dict.fromkeys(arn for agent_id in self._family() for arn in self._bench.started.of(agent_id)))

    def _effects(self, agent_id: str) -> list[Effect]:
        return self._bench.stack.table.effects(agent_id)

    def _bookings(self) -> list[Attributes]:
        made_by = load_sample().made_by
        return [item for agent_id in self._family() for item in made_by(self._bench.stack, agent_id)]

    def _problems(self, state: AgentState | None) -> Iterable[str]:
        if self._late:
            yield self._late
        if state is None:
            refused = self._bench.stack.refusals(self._agent_id)
            if not refused:
                yield "there is no agent, and no execution says why"
            return
        if self._play.when_told and not self._was_told():
            yield "no message about its approval was sent"
        if self._child and not self._outlived:
            yield f"it did not end before {self._child} did"
        family = [state, *self._children(state)]
        for each in family:
            if self._outlived and each.agent_id == self._child and each.status is not Status.CANCELLED:
                yield f"{self._child} is {each.status}: it went on although its parent had ended"
            agent_id, status = each.agent_id, each.status
            if status is Status.FAILED and not each.error:
                yield f"{agent_id} is FAILED, but its `error` is empty"
            asks = status in (Status.WAITING_FOR_OPERATOR, Status.WAITING_FOR_APPROVAL)
            if asks and not self._bench.operator.was_asked(agent_id):
                yield f"{agent_id} is {status}, but no message about it was sent"
        if not (self._guards.ledger and self._guards.tool):
            return
        effects: list[Effect] = []
        table = self._bench.stack.table
        for each in family:
            items, owner = table.attributes(each.agent_id), each.execution
            over = {} if each.free or (now := self._bench.status(owner)) == "RUNNING" else {owner: now}
            effects += self._effects(each.agent_id)
            for finding in (
                *findings(items, over),
                *family_findings(items, table.item_attributes, dt.datetime.now(dt.UTC)),
            ):
                yield f"{finding.kind} at {finding.record} of {finding.agent_id}: {finding.text}"
        for agent_id in self._family():
            own = [effect for effect in effects if effect.agent_id == agent_id]
            for found in load_sample().inconsistencies(self._bench.stack, own, agent_id):
                yield f"{found.kind} at {found.record}: {found.text}"
        if self._play.agent == CLERK["name"]:
            # For `SHORT` seconds, a call that the ledger has settled may still act.
            time.sleep(SHORT)
            yield from false_entries(effects, acts(self._bench.engine.client, self._agent_id))


def run(
    bench: Bench,
    cases: Sequence[Case],
    guards: Guards,
    on_outcome: Callable[[CaseOutcome], None] = lambda _: None,
) -> list[CaseOutcome]:
    """Run cases, many at once: first the cases that kill the engine, then the others.

    Return the outcomes in the order of the cases; `on_outcome` gets each as it comes. Raise StackError if a play goes
    wrong without any fault.
    """
    baseline: dict[str, int] = {}
    plain = [Life(bench, Case(Way(name), ()), guards) for name in sorted({case.way.play for case in cases})]
    for outcome in _at_once(lambda life: _live(life, {}), plain):
        if outcome.problems:
            raise StackError(f"Without any fault, {outcome.case} goes wrong: {'; '.join(outcome.problems)}")
        baseline[outcome.case.rstrip("/")] = outcome.transitions
    lives = [Life(bench, case, guards) for case in cases]
    quiet = [life for life in lives if not life.case.kills]
    killed = [life for life in lives if life.case.kills]
    outcomes: dict[Life, CaseOutcome] = {}

    def live(life: Life) -> None:
        outcomes[life] = _live(life, baseline)
        for _ in range(TRIES - 1):
            # The run of agent_watch for another agent may have helped this agent before it met its fault.
            if UNMET in outcomes[life].problems:
                outcomes[life] = _live(Life(bench, life.case, guards), baseline)
        on_outcome(outcomes[life])

    def live_on(life: Life) -> None:
        life.live()
        outcomes[life] = life.outcome(baseline)
        on_outcome(outcomes[life])

    # The cases with a kill come first: the data that an engine saves and loads again grows with every life.
    for start in range(0, len(killed), HELD_AT_ONCE):
        held = killed[start : start + HELD_AT_ONCE]
        _at_once(_hold, held)
        bench.restart()
        for life in held:
            life.release()
        _at_once(live_on, held)
    _at_once(live, quiet)
    return [outcomes[life] for life in lives]


def _live(life: Life, baseline: Mapping[str, int]) -> CaseOutcome:
    life.begin()
    life.live()
    return life.outcome(baseline)


def _hold(life: Life) -> None:
    life.begin()
    life.live(until_held=True)


def _at_once(act: Callable[[Life], T], lives: Sequence[Life]) -> list[T]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, lives))
