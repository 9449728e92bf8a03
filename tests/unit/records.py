"""Records for unit tests, made from the real models."""

import json
from collections.abc import Iterable
from typing import Any

from turnstile_agents import conversation
from turnstile_agents.conversation import Conversation
from turnstile_agents.definition import Definition, Delegate, Limits, ModelSettings, Tool
from turnstile_agents.events import SOURCE
from turnstile_agents.items import AgentState, Attributes, Record, item_of, record_of
from turnstile_agents.record import (
    Answer,
    Call,
    CallResult,
    Child,
    Decision,
    Outcome,
    Status,
    effect_record,
    step_record,
)
from turnstile_agents.turn import Claim, TurnAgent, Used

CLAIM = Claim(agent_id="a-1", owner="arn:execution#t", claimed_step=1)

LOOK = Tool(
    name="look",
    description="Looks something up.",
    input_schema={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    function="turnstile-tool-look",
    effect="read",
    timeout_seconds=10,
)
BOOK = LOOK.model_copy(update={"name": "book", "function": "turnstile-tool-book", "effect": "write"})


HELPER = Delegate(name="helper", description="Good at details.")


def definition(protocol: Any = "tools", delegates: tuple[Delegate, ...] = (), **limits: Any) -> Definition:
    return Definition(
        name="travel",
        version=1,
        instructions="You book flights.",
        model=ModelSettings(id="model-1", protocol=protocol),
        limits=Limits(**limits),
        tools=[LOOK, BOOK],
        delegates=list(delegates),
    )


def agent(**fields: Any) -> TurnAgent:
    used = {"steps": 0, "tokens": 0, "cost_micro_usd": 0, "replans": 0, "wrong_replies": 0, "repeats": 0}
    common: dict[str, Any] = {
        **CLAIM.model_dump(),
        "step": 1,
        "inbox": 0,
        "rounds": 0,
        "plan": [],
        "limits": Limits(),
        "prices": {"input": 3, "output": 15},
        "protocol": "tools",
        "doubts": [],
        "doubted": False,
        "fingerprint": "",
        "depth": 0,
        "children": [],
    }
    return TurnAgent(**{**common, **fields, "used": Used(**{**used, **fields.get("used", {})})})


AT = "2026-01-01T00:00:00.000Z"
USAGE = {"inputTokens": 10, "outputTokens": 2, "costMicroUsd": 5, "modelId": "model-1"}
"""The usage of each decision."""
SPENT = {"inputTokens": "100", "outputTokens": "20", "costMicroUsd": "50"}
"""The tokens and the cost of each child, as its report has them."""


def state(**fields: str) -> Attributes:
    """Return STATE with every attribute."""
    return {
        "agentId": "a-1",
        "record": "STATE",
        "schemaVersion": "2",
        "owner": CLAIM.owner,
        "status": "PLANNING",
        "goal": "Fly",
        "agent": "travel",
        "definitionVersion": "1",
        "plan": "[]",
        "step": "1",
        "nextAction": "NONE",
        "inbox": "0",
        "invocationCount": "1",
        "errorCount": "0",
        "modelCalls": "0",
        "toolCalls": "0",
        "inputTokens": "0",
        "outputTokens": "0",
        "costMicroUsd": "0",
        "replans": "0",
        "error": "",
        "errorMessage": "",
        "currentState": "",
        "waitsFor": "",
        "remindedOf": "",
        "children": "[]",
        "cancels": "0",
        "ends": "0",
        "parent": "",
        "depth": "0",
        "tokenLimit": "0",
        "costLimit": "0",
        "by": "",
        "source": SOURCE,
        "createdAt": AT,
        "createdBy": "r-1",
        "lastUpdated": AT,
        "lastUpdatedBy": "arn:execution",
        "lastPlanGeneratedAt": "",
        "lastToolExecutionAt": "",
        **fields,
    }


def entry(step: int, who: str, at: str = AT, **fields: str) -> Attributes:
    """Return an entry of the journal."""
    common = {"agentId": "a-1", "record": step_record(step), "who": who, "execution": "arn:execution", "at": at}
    return {**common, **fields}


def user(text: str = "Fly me to Paris.") -> Attributes:
    return entry(1, "USER", text=text)


def decided(step: int, decision: Decision, *messages: dict[str, Any], inputs: tuple[str, ...] = ()) -> Attributes:
    return entry(
        step,
        "MODEL",
        messages=json.dumps(messages),
        inputs=json.dumps(inputs),
        decision=decision.model_dump_json(by_alias=True),
        usage=json.dumps(USAGE),
    )


def answered(step: int, *results: CallResult) -> Attributes:
    values = [result.model_dump(mode="json", by_alias=True) for result in results]
    return entry(step, "TOOLS", results=json.dumps(values))


def said(*blocks: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    return {"Role": role, "Content": list(blocks)}


def use(use_id: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"ToolUse": {"ToolUseId": use_id, "Name": name, "Input": arguments}}


def arrived(event_id: str, text: str, time: str = "2026-01-01T00:00:00Z", received: str = "") -> Attributes:
    return came(event_id, "AgentInputReceived", time, received, agentId="a-1", text=text)


def came(event_id: str, kind: str, time: str = "2026-01-01T00:00:00Z", received: str = "", **detail: Any) -> Attributes:
    """Return an input of any kind; `detail` is the event's."""
    return {
        "agentId": "a-1",
        "record": f"INPUT#{event_id}",
        "type": kind,
        "detail": json.dumps(detail),
        "time": time,
        "receivedAt": received or time,
        "source": SOURCE,
        "execution": "arn:execution",
        "inputTokens": "0",
        "outputTokens": "0",
        "costMicroUsd": "0",
    }


def ruled(approval: str, verdict: str, event_id: str = "d1", **detail: Any) -> Attributes:
    """Return an approver's decision about calls that wait for approval."""
    return came(
        event_id, "AgentDecisionGiven", **{"agentId": "a-1", "approvalId": approval, "decision": verdict} | detail
    )


def reported(agent_id: str, status: str = "COMPLETED") -> Attributes:
    """Return a child's report to its parent."""
    told = came(agent_id, "AgentStateUpdated", agentId=agent_id, step=4, status=status, parent="a-1", children=0)
    return {**told, **SPENT}


def cancelling(note: str = "", event_id: str = "c1") -> Attributes:
    return came(event_id, "AgentCancelRequested", agentId="a-1", note=note)


def child(use_id: str, agent_id: str = "child-1", place: int = 0) -> Child:
    return Child(
        tool_use_id=use_id,
        agent_id=agent_id,
        agent="helper",
        goal="A detail.",
        prompt="See to it.",
        step="STEP#000002",
        place=place,
        depth=1,
        tokens=1000,
        cost_micro_usd=1000,
    )


def child_items(agent_id: str, *items: Attributes, **fields: str) -> list[Attributes]:
    """Return all items of a helper, to which a-1 has delegated."""
    about = {"agentId": agent_id, "agent": "helper", "goal": "A detail.", "parent": "a-1", "owner": "NONE"}
    return [*items, state(**{**about, "status": "COMPLETED", **fields})]


def record(items: Iterable[Attributes]) -> Record:
    """Read items into a record."""
    return record_of(map(item_of, items))


def read_state(**fields: str) -> AgentState:
    """Return STATE as its model."""
    item = item_of(state(**fields))
    assert isinstance(item, AgentState)
    return item


def fold(
    steps: Iterable[Attributes], effects: Iterable[Attributes] = (), inputs: Iterable[Attributes] = (), since: int = 0
) -> Conversation:
    """Fold items that are given as text."""
    read = record([*steps, *effects, *inputs])
    return conversation.fold(read.steps, read.effects, read.inputs, since)


def call(use_id: str, name: str = "look", step: int = 2, index: int = 0, **arguments: Any) -> Call:
    tool = {"look": LOOK, "book": BOOK}[name]
    return Call(
        index=index,
        tool_use_id=use_id,
        name=name,
        function=tool.function,
        effect=tool.effect,
        input=arguments or {"city": "Paris"},
        key=effect_record(step, index),
        timeout_seconds=15,
    )


def decision(action: Any, **fields: Any) -> Decision:
    common = {"status": Status.PLANNING, "closes_as": Status.PLANNING, "results_record": step_record(3)}
    return Decision(action=action, **{**common, **fields})


COMMITTED = CallResult(outcome=Outcome.COMMITTED, value={"found": True})
UNCERTAIN = CallResult(outcome=Outcome.UNCERTAIN, error="States.Timeout", message="")


def error_answer(use_id: str, text: str) -> Answer:
    return Answer(tool_use_id=use_id, text=text, error=True)


LEFT = {
    "RETRY": "PLANNING",
    "REPLAN": "PLANNING",
    "COMPENSATE": "WAITING_FOR_INPUT",
    "ABORT": "FAILED",
    "FAIL": "FAILED",
    "CANCEL": "CANCELLED",
}
"""The status after each decision of a recovery, if no input has come."""


def recovered(step: int, action: str = "RETRY", **fields: str) -> Attributes:
    """Return a recovery's entry; `text` is its message to the model."""
    common = {"action": action, "status": LEFT[action], "reason": "TurnDied"}
    empty = dict.fromkeys(("note", "by", "source", "text", "question"), "")
    return entry(step, "RECOVERY", **{"at": f"2026-01-01T00:{step:02d}:00.000Z", **common, **empty, **fields})


def effect(record: str, status: str, tool: str = "book", **fields: str) -> Attributes:
    """Return an entry of the ledger."""
    return {
        "agentId": "a-1",
        "record": record,
        "status": status,
        "tool": tool,
        "function": f"turnstile-tool-{tool}",
        "owner": "arn:turn#t",
        "input": '{"city": "Paris"}',
        "result": '{"id": "B-1"}' if status in ("COMMITTED", "COMPENSATING", "COMPENSATED") else "",
        "error": "",
        "errorMessage": "",
        "reservedAt": AT,
        "settledAt": "2026-01-01T00:00:30.000Z",
        **fields,
    }
