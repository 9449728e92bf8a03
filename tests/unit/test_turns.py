"""LoadTurn and ReadReply over random conversations: what one foretells, the other finds in the journal."""

import json
import random
from typing import Any

import botocore.session
import pytest

from agent.conversation import Item
from agent.record import CallResult, Outcome
from agent.turn import Agent, Asked
from load_turn.load import load_turn
from read_reply.read import read_reply
from tests.unit.records import CLAIM, COMMITTED, answered, arrived, definition, state, use, user
from workflows.converse_rules import refusal
from workflows.engines.casing import to_wire

SHAPE = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
TEXTS = [
    "Hello.",
    "",
    '{"action": "TOOL_USE", "details": {"toolName": "look", "parameters": {"city": "Paris"}}}',
    '{"action": "TOOL_USE", "details": {"toolName": "nothing"}}',
    '{"action": "PLAN", "details": {"steps": [{"step": 1, "action": "Look"}]}}',
    '{"action": "ASK_USER", "details": {"question": "When?"}}',
    '{"action": "COMPLETE", "details": {"result": "Done."}}',
]
USES: list[tuple[str, list[dict[str, Any]]]] = [
    ("look", [{"city": "Paris"}, {"city": "Rome"}]),
    ("book", [{"city": "Paris"}]),
    ("nothing.here", [{}]),
    ("update_plan", [{"steps": [{"step": 1, "action": "Look"}]}, {"steps": [{"step": 1, "action": "Book"}]}]),
    ("ask_user", [{"question": "When?"}]),
    ("complete", [{"result": "Done."}]),
    ("give_up", [{"reason": "No."}]),
]
RESULTS = [
    COMMITTED,
    CallResult(outcome=Outcome.REJECTED, error="ToolRejected", message='{"errorMessage": "no"}'),
    CallResult(outcome=Outcome.UNAVAILABLE, error="States.Timeout", message=""),
]


def blocks(rng: random.Random, turn: int, protocol: str) -> list[dict[str, Any]]:
    """What a model might say."""
    found: list[dict[str, Any]] = []
    for number in range(rng.choice([0, 1, 1, 1, 2, 3])):
        if protocol == "json" or rng.random() < 0.25:
            found.append({"Text": rng.choice(TEXTS)})
        else:
            name, arguments = rng.choice(USES)
            found.append(use(f"u{turn}-{number}", name, **({} if rng.random() < 0.15 else rng.choice(arguments))))
    return found


@pytest.mark.parametrize("seed", range(150))
def test_a_random_conversation(seed: int) -> None:
    rng = random.Random(seed)
    protocol = rng.choice(["tools", "json"])
    found = definition(protocol)
    now = state()
    journal: list[Item] = [user()]
    inputs: list[Item] = []
    foretold: Agent | None = None
    for turn in range(rng.randint(1, 12)):
        if rng.random() < 0.3:
            inputs.append(arrived(f"e{turn}", f"Words {turn}.", time=f"2026-01-01T00:00:{turn:02d}Z"))
        loaded = load_turn(CLAIM, [now, *journal, *inputs], lambda _name, _version: found, today="2026-01-02")
        if foretold:
            # What is new in the inbox or the ledger, nobody could foretell.
            told = loaded.agent.model_copy(update={"inbox": foretold.inbox, "doubts": foretold.doubts})
            assert told == foretold
        if loaded.entry == "CARRY_OUT":
            assert loaded.decision
            step = loaded.agent.step + 1
            journal.append(answered(step, *(rng.choice(RESULTS) for _ in loaded.decision.calls)))
            foretold = loaded.agent.model_copy(update={"step": step})
            now = {**now, "step": str(step)}
            continue
        if loaded.entry == "CLOSE":
            inputs.append(arrived(f"x{turn}", "Go on.", time=f"2026-01-01T00:01:{turn:02d}Z"))
            foretold = loaded.agent
            continue
        request = loaded.dump()["request"]
        if protocol == "json":
            del request["ToolConfig"]
        assert SHAPE and refusal(to_wire(request, SHAPE)) is None
        stop = rng.choice(["tool_use"] * 5 + ["max_tokens", "end_turn", "content_filtered"])
        answer = {
            "Output": {"Message": {"Role": "assistant", "Content": blocks(rng, turn, protocol)}},
            "StopReason": stop,
            "Usage": {"InputTokens": rng.randrange(100), "OutputTokens": rng.randrange(10)},
        }
        reading = read_reply(
            Asked(agent=loaded.agent, tools=loaded.tools, pending=loaded.pending, reply=answer, model_id="m")
        )
        dumped = reading.dump()
        journal.append(
            {
                "record": dumped["step"]["record"],
                "who": "MODEL",
                "decision": json.dumps(dumped["decision"]),
                **{name: json.dumps(dumped["step"][name]) for name in ("messages", "inputs", "usage")},
            }
        )
        foretold = reading.agent
        used = reading.agent.used
        now = {
            **now,
            "step": str(reading.agent.step),
            "plan": json.dumps(dumped["step"]["plan"]),
            "modelCalls": str(used.steps),
            "inputTokens": str(used.tokens),
            "costMicroUsd": str(used.cost_micro_usd),
            "replans": str(used.replans),
        }
