"""The situations in which agents are kept: how each comes about, what happens next, and how it ends.

A later version adds situations here, for whatever it stores that is new.
"""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.kept.files import Kept
from tests.kept.stage import Stage, kept_name
from tests.world import World
from turnstile_agents.record import Status, child_id
from turnstile_cli.engines.faults import Delivery
from turnstile_cli.stack.operator import decide

Replies = list[dict[str, Any]]
Act = dict[str, Any]
THROTTLED = "BedrockRuntime.ThrottlingException"
ALWAYS = 100
"""More often than a task is tried."""


@dataclass(frozen=True)
class Situation:
    """A point at which an agent stops."""

    name: str
    what: str
    play: Callable[[Stage], None]
    """Brings the agent there."""
    replies: Callable[[str, str], Replies]
    """Returns what the model replies, given the days of its flights."""
    then: Sequence[Act] = ()
    ends: str = "COMPLETED"
    effects: Sequence[str] = ()
    agent: str = "travel"
    children: Callable[[str, str], list[Replies]] = lambda _day, _next: []
    """Returns what the model replies to each child, in their order."""

    def script(self, version: int, day: dt.date) -> list[Any]:
        """Return the model's replies to the agent, and to each agent that it delegates to."""
        days = day.isoformat(), (day + dt.timedelta(days=1)).isoformat()
        told = kept_name(version, self.name)
        script: list[Any] = [
            {"prompt": f"Book a flight from New York to San Francisco. ({told})", "replies": self.replies(*days)}
        ]
        for place, replies in enumerate(self.children(*days)):
            prompt = f"Book flight number {place + 1} of {told} to New York."
            script.append({"prompt": prompt, "replies": replies})
            delegation = script[0]["replies"][0]["tools"][place]["input"]
            delegation |= {"agent": kept_name(version, "travel"), "prompt": prompt}
        return script

    def keep(self, world: World, version: int, day: dt.date) -> Kept:
        """Play the agent to this point, and return what is kept of it."""
        script = self.script(version, day)
        stage = Stage(world, kept_name(version, self.name), kept_name(version, self.agent), day, script)
        self.play(stage)
        return stage.kept(self.what, self.then, self.ends, self.effects)


# ---- What the model replies


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tools": [{"name": name, "input": arguments}]}


def book(day: str, start: str = "New York", end: str = "San Francisco", **more: Any) -> dict[str, Any]:
    return tool("book_flight", from_city=start, to_city=end, date=day, **more)


DONE = tool("complete", result="Your flight is booked.")
ASK = tool("ask_user", question="On which day do you want to fly?")
GIVE_UP = tool("give_up", reason="There is no hotel at the sea on that day.")
STORY = {"text": "Once upon a time there was a flight."}
BOOKED = "book_flight COMMITTED"
UNDONE = "book_flight COMPENSATED"
CANCELLED = "cancel_flight COMMITTED"


def books(day: str, _next: str) -> Replies:
    return [book(day), DONE]


def asks_then_books(day: str, _next: str) -> Replies:
    return [ASK, book(day), DONE]


def gives_up_then_books(day: str, following: str) -> Replies:
    return [book(day), GIVE_UP, book(following), DONE]


def tells_stories_then_books(day: str, _next: str) -> Replies:
    return [STORY, STORY, STORY, book(day), DONE]


def books_for_six(day: str, _next: str) -> Replies:
    return [book(day, passengers=6), DONE]


def delegates(_day: str, _next: str) -> Replies:
    flights = [tool("delegate", goal=f"A flight from {city} to New York.")["tools"][0] for city in ("Paris", "London")]
    return [{"tools": flights}, tool("complete", result="Both flights are booked.")]


def two_children(day: str, _next: str) -> list[Replies]:
    return [[book(day, start, "New York"), DONE] for start in ("Paris", "London")]


def two_children_one_group(day: str, _next: str) -> list[Replies]:
    return [[book(day, "Paris", "New York"), DONE], [book(day, "London", "New York", passengers=6), DONE]]


def in_json(day: str, _next: str) -> Replies:
    call = {"toolName": "book_flight", "parameters": {"from_city": "New York", "to_city": "San Francisco", "date": day}}
    return [
        _json("ASK_USER", question="On which day do you want to fly?"),
        _json("TOOL_USE", **call),
        _json("COMPLETE", result="Your flight is booked."),
    ]


def _json(action: str, **details: Any) -> dict[str, Any]:
    return {"text": json.dumps({"action": action, "details": details})}


# ---- How an agent comes to a point


def until(*statuses: Status) -> Callable[[Stage], None]:
    """Return a play that lets the agent work until it has one of these statuses."""

    def play(stage: Stage) -> None:
        stage.start()
        stage.stands(*statuses)

    return play


def dies_before(state: str, machine: str = "AgentTurn") -> Callable[[Stage], None]:
    """Return a play in which the execution that works on the agent dies before a task of it, unnoticed."""

    def play(stage: Stage) -> None:
        with stage.dies(state, machine):
            stage.start()

    return play


def failed_and_unheard(stage: Stage) -> None:
    """Let a turn record its failure, and lose both events that say so: the announcement and the execution's end."""
    stage.lose("AgentRecovery", 0)
    stage.lose("AgentRecovery", 1)
    stage.start()
    stage.stands(Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED)


def cancelled(stage: Stage) -> None:
    with stage.world.faults.held(stage.id, "CheckpointResults") as until_held:
        stage.start()
        until_held()
        stage.world.stack.wait_for(stage.world.stack.cancel(stage.id, "We stay at home."))
    stage.stands(Status.CANCELLED)


def undone(stage: Stage) -> None:
    stage.start()
    stage.world.hears(stage.id, _input(stage, "Then take the day after."))
    stage.stands(Status.COMPLETED)


def throttled(stage: Stage) -> None:
    stage.fault("AskModel", THROTTLED, times=25)  # more than the attempts of two turns
    stage.start()
    stage.stands(Status.COMPLETED)


def operator_decided(stage: Stage) -> None:
    stage.fault("ReadReply", "AccessDenied")
    asked(stage)
    decide(stage.world.stack, stage.id, "RETRY", "The policy is repaired.")  # type: ignore[arg-type]
    stage.stands(Status.COMPLETED)


def asked(stage: Stage) -> None:
    """Start the agent, and wait until its operator is asked."""
    stage.start()
    stage.stands(Status.WAITING_FOR_OPERATOR)
    stage.world.wait(stage.id, lambda _: stage.world.item(stage.id, "OPERATOR") is not None)


def asked_about_an_error(stage: Stage) -> None:
    stage.fault("AskModel", "AccessDenied")
    asked(stage)


def asked_about_a_call(stage: Stage) -> None:
    stage.fault("CallWriteTool", "States.Timeout", when="after")
    stage.fault("LookUp", "AccessDenied", times=ALWAYS)
    asked(stage)


def never_begun(stage: Stage) -> None:
    stage.lose("AgentTurn")
    stage.start()


def input_unheard(stage: Stage) -> None:
    before = _asks(stage)
    stage.lose("AgentTurn")
    stage.world.stack.send_input(stage.id, "Tomorrow, please.")
    stage.world.hears(stage.id, before)


def approval_unheard(stage: Stage) -> None:
    stage.start()
    before = stage.stands(Status.WAITING_FOR_APPROVAL)
    stage.lose("AgentTurn")
    stage.world.stack.decide_approval(stage.id, before["waitsFor"], "APPROVE", "Six of us fly.")  # type: ignore[arg-type]
    stage.world.hears(stage.id, before)


def dies_over_an_approved_call(stage: Stage) -> None:
    with stage.dies("CommitEffect"):
        stage.start()
        before = stage.stands(Status.WAITING_FOR_APPROVAL)
        stage.world.stack.decide_approval(stage.id, before["waitsFor"], "APPROVE")  # type: ignore[arg-type]


def dies_with_an_input_unread(stage: Stage) -> None:
    with stage.dies("CheckpointDecision") as until_there:
        stage.start()
        until_there()
        stage.world.stack.wait_for(stage.world.stack.send_input(stage.id, "A window seat, please."))


def dies_with_a_cancellation(stage: Stage) -> None:
    with stage.dies("CheckpointResults") as until_there:
        stage.start()
        until_there()
        stage.world.stack.wait_for(stage.world.stack.cancel(stage.id, "We stay at home."))


def plans_again_unheard(stage: Stage) -> None:
    """Lose the event of the turn that is to make a new plan: the second event with a next action."""
    stage.lose("AgentTurn", 1)
    stage.start()
    stage.world.wait(stage.id, lambda state: state["nextAction"] == "REPLAN")


def tools_fail(stage: Stage) -> None:
    stage.fault("CheckpointResults", "States.Timeout", times=ALWAYS, when="before")
    failed_and_unheard(stage)


def call_uncertain(stage: Stage) -> None:
    """Lose the answer of a call, and both events of the failure that follows."""
    stage.fault("CallWriteTool", "States.Timeout", when="after")
    failed_and_unheard(stage)


def child_waits(stage: Stage) -> None:
    """Let one child end, and the other wait for an approval."""
    stage.start()
    stage.stands(Status.COMPLETED, agent=child_id(stage.id, 2, 0))
    stage.stands(Status.WAITING_FOR_APPROVAL, agent=child_id(stage.id, 2, 1))
    stage.world.wait(stage.id, lambda state: state["inbox"] == "1" and state["status"] == Status.WAITING_FOR_AGENT)


def children_ended_unheard(stage: Stage) -> None:
    """Let both children end, and lose the news of the second."""
    children = [child_id(stage.id, 2, place) for place in (0, 1)]
    stage.lost.append(stage.world.faults.put(Delivery(agent_id=children[1], machine="AgentInput", how="lost")))
    stage.start()
    for child in children:
        stage.stands(Status.COMPLETED, agent=child)
    stage.world.wait(stage.id, lambda state: state["inbox"] == "1" and state["status"] == Status.WAITING_FOR_AGENT)


def children_never_requested(stage: Stage) -> None:
    """Let the turn die after its decision to delegate, before it requests the children."""
    stage.lose("AgentRecovery")
    stage.fault("CheckpointDecision", when="left", dies="stopped")
    stage.start()


def _asks(stage: Stage) -> dict[str, str]:
    stage.start()
    return stage.stands(Status.WAITING_FOR_INPUT)


def _input(stage: Stage, text: str) -> dict[str, str]:
    before = stage.stands(Status.WAITING_FOR_INPUT)
    stage.world.stack.send_input(stage.id, text)
    return before


# ---- The situations

WATCH: Act = {"watch": True}
TELL: Act = {"tell": True}
RESUME: Act = {"resume": True}
INPUT: Act = {"input": "Then take the day after."}
APPROVE: Act = {"decision": "APPROVE"}
TWO_BOOKED = [BOOKED, BOOKED]

SITUATIONS = [
    # Finished: read only.
    Situation("completed", "COMPLETED in one turn.", until(Status.COMPLETED), books, effects=[BOOKED]),
    Situation(
        "failed",
        "FAILED: the model gave up, and nothing was to be undone.",
        until(Status.FAILED),
        lambda *_: [GIVE_UP],
        ends="FAILED",
    ),
    Situation("cancelled", "CANCELLED while it worked.", cancelled, books, ends="CANCELLED", effects=[BOOKED]),
    Situation(
        "compensated",
        "COMPLETED after a recovery undid its booking, and the user named another day.",
        undone,
        gives_up_then_books,
        effects=[UNDONE, CANCELLED, BOOKED],
    ),
    Situation("retried", "COMPLETED after two recoveries from throttling.", throttled, books, effects=[BOOKED]),
    Situation(
        "replanned", "COMPLETED with a new plan.", until(Status.COMPLETED), tells_stories_then_books, effects=[BOOKED]
    ),
    Situation("decided_by_operator", "COMPLETED after an operator's RETRY.", operator_decided, books, effects=[BOOKED]),
    Situation(
        "parent_completed",
        "COMPLETED, as both agents that it delegated to.",
        until(Status.COMPLETED),
        delegates,
        effects=TWO_BOOKED,
        agent="trip",
        children=two_children,
    ),
    # It waits for a person.
    Situation(
        "asks_user",
        "WAITING_FOR_INPUT after a question.",
        until(Status.WAITING_FOR_INPUT),
        asks_then_books,
        [INPUT],
        effects=[BOOKED],
    ),
    Situation(
        "asks_user_in_json",
        "WAITING_FOR_INPUT, by the JSON protocol.",
        until(Status.WAITING_FOR_INPUT),
        in_json,
        [INPUT],
        effects=[BOOKED],
        agent="json",
    ),
    Situation(
        "asks_user_after_undoing",
        "WAITING_FOR_INPUT after a recovery undid its booking.",
        until(Status.WAITING_FOR_INPUT),
        gives_up_then_books,
        [INPUT],
        effects=[UNDONE, CANCELLED, BOOKED],
    ),
    Situation(
        "asks_approver",
        "WAITING_FOR_APPROVAL of a booking for six.",
        until(Status.WAITING_FOR_APPROVAL),
        books_for_six,
        [APPROVE],
        effects=[BOOKED],
    ),
    Situation(
        "asks_operator",
        "WAITING_FOR_OPERATOR; the token of the question is dead, so a recovery asks again.",
        asked_about_an_error,
        books,
        [WATCH, {"operator": "RETRY"}],
        effects=[BOOKED],
    ),
    Situation(
        "asks_operator_about_a_call",
        "WAITING_FOR_OPERATOR about a call that only an operator can settle; a recovery asks again.",
        asked_about_a_call,
        books,
        [WATCH, {"operator": "RETRY", "happened": ["EFFECT#000002#0"]}],
        effects=[BOOKED],
        agent="ask",
    ),
    Situation(
        "looks_up_in_vain",
        "WAITING_FOR_OPERATOR about a call whose look-up failed; the next recovery can look it up.",
        asked_about_a_call,
        books,
        [WATCH],
        effects=[BOOKED],
    ),
    # It waits for other agents.
    Situation(
        "child_asks_approver",
        "WAITING_FOR_AGENT: one agent has reported, the other is WAITING_FOR_APPROVAL.",
        child_waits,
        delegates,
        [{"decision": "APPROVE", "child": 1}],
        effects=TWO_BOOKED,
        agent="trip",
        children=two_children_one_group,
    ),
    Situation(
        "child_ended_unheard",
        "WAITING_FOR_AGENT: both agents have ended, and the news of the second was lost.",
        children_ended_unheard,
        delegates,
        [WATCH],
        effects=TWO_BOOKED,
        agent="trip",
        children=two_children,
    ),
    Situation(
        "delegation_died",
        "The turn died after its decision to delegate, before it requested the agents.",
        children_never_requested,
        delegates,
        [WATCH],
        effects=TWO_BOOKED,
        agent="trip",
        children=two_children,
    ),
    # A turn is announced, and its event was lost.
    Situation(
        "never_begun", "INITIATED; the first turn's event was lost.", never_begun, books, [WATCH], effects=[BOOKED]
    ),
    Situation(
        "input_unheard",
        "PLANNING is announced for a new input, and the event was lost.",
        input_unheard,
        asks_then_books,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "approval_unheard",
        "PLANNING is announced for an approval, and the event was lost.",
        approval_unheard,
        books_for_six,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "new_plan_unheard",
        "REPLAN is announced by a recovery, and the event was lost.",
        plans_again_unheard,
        tells_stories_then_books,
        [WATCH],
        effects=[BOOKED],
    ),
    # A turn died with the lease.
    Situation(
        "died_asking_model",
        "The turn died before its first request.",
        dies_before("AskModel"),
        books,
        [RESUME],
        effects=[BOOKED],
    ),
    Situation(
        "died_deciding",
        "The turn died before its first decision was written, and an input had come.",
        dies_with_an_input_unread,
        books,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "died_before_call",
        "The turn died: the decision is written, its call is not begun.",
        dies_before("ReserveEffect"),
        books,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "died_reserved",
        "The turn died: the effect is RESERVED, and the call was not made. A look-up denies it.",
        dies_before("CallWriteTool"),
        books,
        [WATCH],
        effects=["book_flight FAILED", "book_flight_partner COMMITTED"],
    ),
    Situation(
        "died_acted",
        "The turn died: the effect is RESERVED, and the call acted. A look-up finds it.",
        dies_before("CommitEffect"),
        books,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "died_approved",
        "The turn died over an approved call: the effect is RESERVED, and the call acted. A look-up finds it.",
        dies_over_an_approved_call,
        books_for_six,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "died_committed",
        "The turn died: the effect is COMMITTED, the results are not written.",
        dies_before("CheckpointResults"),
        books,
        [WATCH],
        effects=[BOOKED],
    ),
    Situation(
        "died_told",
        "The turn died: the effect is COMMITTED, and the event of its death comes.",
        dies_before("CheckpointResults"),
        books,
        [{"died": True}],
        effects=[BOOKED],
    ),
    Situation(
        "died_cancelled",
        "The turn died, and a cancellation had come.",
        dies_with_a_cancellation,
        books,
        [WATCH],
        ends="CANCELLED",
        effects=[BOOKED],
    ),
    # A failure is recorded, and its recovery is still to come.
    Situation(
        "planning_failed",
        "PLANNING_FAILED; the announcement of the failure is on its way.",
        failed_and_unheard,
        tells_stories_then_books,
        [TELL],
        effects=[BOOKED],
    ),
    Situation(
        "planning_failed_unheard",
        "PLANNING_FAILED; both events of the failure were lost.",
        failed_and_unheard,
        lambda *_: [GIVE_UP],
        [WATCH],
        ends="FAILED",
    ),
    Situation(
        "tools_failed",
        "TOOL_EXECUTION_FAILED; the announcement of the failure is on its way.",
        tools_fail,
        books,
        [TELL],
        effects=[BOOKED],
    ),
    Situation(
        "call_uncertain",
        "TOOL_EXECUTION_FAILED over an UNCERTAIN effect, and both events were lost. The call is made again by its key.",
        call_uncertain,
        books,
        [WATCH],
        effects=[BOOKED],
        agent="by_key",
    ),
    # A recovery died with the lease.
    Situation(
        "died_undoing",
        "COMPENSATING: the recovery died before the call that undoes the booking.",
        dies_before("CallUndo", "AgentRecovery"),
        gives_up_then_books,
        [WATCH, INPUT],
        effects=[UNDONE, "cancel_flight FAILED", CANCELLED, BOOKED],
    ),
    Situation(
        "died_after_undoing",
        "COMPENSATING: the recovery died after the call that undid the booking.",
        dies_before("CommitUndo", "AgentRecovery"),
        gives_up_then_books,
        [WATCH, INPUT],
        effects=[UNDONE, CANCELLED, BOOKED],
    ),
    Situation(
        "died_recovering",
        "The recovery died before it wrote its decision.",
        dies_before("RecordRecovery", "AgentRecovery"),
        tells_stories_then_books,
        [WATCH],
        effects=[BOOKED],
    ),
]
