"""LoadTurn and ReadReply over random conversations: ReadReply foretells the next turn, and LoadTurn finds the same."""

import json
import random
from typing import Any

import botocore.session
import pytest

from tests.unit.records import (
    BOOK,
    CLAIM,
    COMMITTED,
    HELPER,
    LOOK,
    answered,
    arrived,
    child_items,
    decided,
    decision,
    definition,
    entry,
    read_state,
    record,
    recovered,
    reported,
    ruled,
    said,
    state,
    use,
    user,
)
from turnstile_agents.items import Attributes, Record
from turnstile_agents.load_turn.load import load_turn
from turnstile_agents.read_reply.read import read_reply
from turnstile_agents.record import CallResult, Decision, Outcome, Verdict
from turnstile_agents.turn import ReadReplyInput, Turn, TurnAgent
from turnstile_cli.engines.casing import to_wire
from turnstile_cli.models.converse_rules import refusal

SEEDS = 125
"""The number of conversations in one test."""
SHAPE = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
TEXTS = [
    "Hello.",
    "",
    '{"action": "TOOL_USE", "details": {"toolName": "look", "parameters": {"city": "Paris"}}}',
    '{"action": "TOOL_USE", "details": {"toolName": "nothing"}}',
    '{"action": "PLAN", "details": {"steps": [{"step": 1, "action": "Look"}]}}',
    '{"action": "ASK_USER", "details": {"question": "When?"}}',
    '{"action": "DELEGATE", "details": {"agent": "helper", "goal": "It.", "prompt": "Do it."}}',
    '{"action": "COMPLETE", "details": {"result": "Done."}}',
]
USES: list[tuple[str, list[dict[str, Any]]]] = [
    ("look", [{"city": "Paris"}, {"city": "Rome"}]),
    ("book", [{"city": "Paris"}, {"city": "Rome"}]),  # Rome needs an approval
    ("nothing.here", [{}]),
    ("update_plan", [{"steps": [{"step": 1, "action": "Look"}]}, {"steps": [{"step": 1, "action": "Book"}]}]),
    ("ask_user", [{"question": "When?"}]),
    ("delegate", [{"agent": "helper", "goal": "It.", "prompt": "Do it."}, {"agent": "x", "goal": "y", "prompt": "z"}]),
    ("complete", [{"result": "Done."}]),
    ("give_up", [{"reason": "No."}]),
]
RESULTS = [
    COMMITTED,
    CallResult(outcome=Outcome.REJECTED, error="ToolRejected", message='{"errorMessage": "no"}'),
    CallResult(outcome=Outcome.UNAVAILABLE, error="States.Timeout", message=""),
]


ROME = {"properties": {"city": {"const": "Rome"}}, "required": ["city"]}
DONE = [user(), decided(2, decision("COMPLETE", message="It is done."), said({"Text": "x"}))]
OTHERS = {
    "COMPLETED": lambda child: child_items(child, *DONE),
    "FAILED": lambda child: child_items(child, user(), status="FAILED", error="GivenUp", errorMessage="No."),
    "CANCELLED": lambda child: child_items(child, user(), status="CANCELLED"),
}


def blocks(rng: random.Random, turn: int, protocol: str) -> list[dict[str, Any]]:
    """Return a random reply of a model."""
    found: list[dict[str, Any]] = []
    for number in range(rng.choice([0, 1, 1, 1, 2, 3])):
        if protocol == "json" or rng.random() < 0.2:
            found.append({"Text": rng.choice(TEXTS)})
        else:
            name, arguments = rng.choice(USES)
            found.append(use(f"u{turn}-{number}", name, **({} if rng.random() < 0.15 else rng.choice(arguments))))
    return found


class Play:
    """One agent's record, written as the machines would write it, with random events."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.protocol: Any = rng.choice(["tools", "tools", "json"])
        # Only a run with few inputs shows how little a turn needs, so not all runs have many.
        self.chance = rng.choice([0.1, 0.3, 0.6])
        found = definition(self.protocol, (HELPER,), children=rng.choice([2, 4, 20]))
        book = BOOK.model_copy(update={"approval": ROME})
        self.definition = found.model_copy(update={"tools": [LOOK, book]})
        depth = rng.choice(["0", "0", "1", "3"])
        self.state = dict(state(depth=depth, parent="p-1" if depth != "0" else ""))
        self.journal: list[Attributes] = [user()]
        self.inputs: list[Attributes] = []
        self.children: dict[str, str] = {}
        """The end of each child that was begun; empty while it works."""
        self.foretold: TurnAgent | None = None
        self.seen: set[str] = set()
        """The kinds of turns that have come."""

    def read_record(self, child: str) -> Record:
        return record(self.read_child(child))

    def load(self) -> Turn:
        items = record([self.state, *self.journal, *self.inputs])
        parents = {"p-1": read_state(status="WAITING_FOR_AGENT")}
        turn = load_turn(CLAIM, items, lambda _, __: self.definition, self.read_record, parents.get, today="2026-01-02")
        if self.foretold:
            # New items of the inbox or the ledger cannot be foretold.
            update = {"inbox": self.foretold.inbox, "doubts": self.foretold.doubts}
            assert turn.agent.model_copy(update=update) == self.foretold
        self.seen.add(turn.entry)
        return turn

    def read_child(self, child: str) -> list[Attributes]:
        return OTHERS[self.children[child]](child)

    def come(self, item: Attributes) -> None:
        """Add an input from outside."""
        self.inputs.append({**item, "time": f"2026-01-01T00:{len(self.inputs):02d}:00Z"})

    def something_comes(self, number: int) -> None:
        if self.rng.random() < self.chance:
            self.come(arrived(f"e{number}", self.rng.choice([f"Words {number}.", "  "])))
        for child, status in self.children.items():
            if not status and self.rng.random() < 0.5:
                self.finish(child)

    def finish(self, child: str) -> None:
        self.children[child] = self.rng.choice(sorted(OTHERS))
        self.come(reported(child, self.children[child]))

    def write(self, item: Attributes) -> None:
        self.journal.append(item)
        self.state["step"] = str(int(item["record"].removeprefix("STEP#")))

    def recover(self, turn: Turn) -> None:
        """Let the turn die and a recovery write its entry."""
        self.seen.add("RECOVERY")
        self.write(recovered(turn.agent.step + 1, text=self.rng.choice(["", "Plan again."])))
        self.foretold = None

    def close(self, last: Decision, number: int) -> None:
        """Close the turn, and let the answer that it waits for come, sooner or later."""
        self.state["waitsFor"] = last.waits_for
        match last.action:
            case "ASK_APPROVAL" if self.rng.random() < 0.7:
                verdict = self.rng.choice(sorted(Verdict))
                self.seen.add(verdict)
                self.come(ruled(last.waits_for, verdict, f"d{number}", note=self.rng.choice(["", "So be it."])))
            case "DELEGATE":
                self.finish(next(child.agent_id for child in last.children if not self.children[child.agent_id]))
            case _:
                self.come(arrived(f"x{number}", "Go on."))

    def ask(self, turn: Turn, number: int) -> None:
        asks = turn.dump()["request"]
        if self.protocol == "json":
            del asks["ToolConfig"]
        assert SHAPE and refusal(to_wire(asks, SHAPE)) is None
        answer = {
            "Output": {"Message": {"Role": "assistant", "Content": blocks(self.rng, number, self.protocol)}},
            "StopReason": self.rng.choice(["tool_use"] * 8 + ["max_tokens", "end_turn", "content_filtered"]),
            "Usage": {"InputTokens": self.rng.randrange(100), "OutputTokens": self.rng.randrange(10)},
        }
        asked = ReadReplyInput(
            agent=turn.agent,
            tools=turn.tools,
            tool_config=turn.request.tool_config if turn.request else {},
            delegates=turn.delegates,
            pending=turn.pending,
            reply=answer,
            model_id="m",
        )
        reading = read_reply(asked)
        dumped = reading.dump()
        step, used = dumped["step"], reading.agent.used
        nested = {name: json.dumps(step[name]) for name in ("messages", "inputs", "usage")}
        self.write(entry(reading.agent.step, "MODEL", decision=json.dumps(dumped["decision"]), **nested))
        self.state |= {
            "plan": json.dumps(step["plan"]),
            "children": json.dumps(dumped["agent"]["children"]),
            "modelCalls": str(used.steps),
            "inputTokens": str(used.tokens),
            "costMicroUsd": str(used.cost_micro_usd),
            "replans": str(used.replans),
        }
        self.foretold = reading.agent
        assert len(reading.agent.children) <= self.definition.limits.children
        assert len({*reading.agent.children}) == len(reading.agent.children)


def play(seed: int) -> Play:
    """Return a random conversation, played to its end."""
    run = Play(seed)
    for number in range(run.rng.randint(1, 20)):
        run.something_comes(number)
        turn = run.load()
        last = turn.decision
        if run.rng.random() < 0.1:
            run.recover(turn)
        elif last is None:
            run.ask(turn, number)
        elif turn.entry == "CARRY_OUT":
            approvals = [item for item in run.inputs if json.loads(item["detail"]).get("approvalId") == last.waits_for]
            held = last.action == "ASK_APPROVAL"
            assert [json.loads(item["detail"])["decision"] for item in approvals] == (["APPROVE"] if held else [])
            run.write(answered(turn.agent.step + 1, *(run.rng.choice(RESULTS) for _ in last.calls)))
            run.foretold = turn.agent.model_copy(update={"step": turn.agent.step + 1})
        else:
            if turn.entry == "START_CHILDREN":
                for child in last.children:
                    run.children.setdefault(child.agent_id, "")
            run.close(last, number)
            run.foretold = turn.agent
    return run


@pytest.mark.parametrize("first", [0, SEEDS])
def test_random_conversations(first: int) -> None:
    """Check that every conversation holds, and that chance leaves no kind of turn out."""
    seen: set[str] = set()
    for seed in range(first, first + SEEDS):
        try:
            seen |= play(seed).seen
        except Exception as error:
            error.add_note(f"in the conversation of seed {seed}")
            raise
    assert seen >= {
        "ASK_MODEL",
        "ASK_MODEL_WITHOUT_TOOLS",
        "CARRY_OUT",
        "START_CHILDREN",
        "CLOSE",
        "RECOVERY",
        *Verdict,
    }
