"""The explored scenarios: agents with their tools, and the possible acts of their model, users and operators."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.protocol.machines import TIME, Failed
from tests.protocol.text import text
from tests.protocol.world import AGENT
from turnstile_agents.definition import Compensation, Definition, Limits, ModelSettings, Tool

Reply = tuple[str, str | Failed]
"""A reply of Bedrock: its description, and Converse's answer as text, or an error."""
Model = Callable[[list[dict[str, Any]]], list[Reply]]
"""A function from the messages to the model's possible replies."""
BOOK, UNDO, FIND = "book", "undo", "find"
"""The tools: a booking, its compensation, and its look-up."""
_ARGUMENTS = {
    "type": "object",
    "properties": {"seat": {"type": "integer"}, "effect": {"type": "string"}},
    "additionalProperties": False,
}


def event(kind: str, name: str, source: str = "com.agent.workflow", **detail: Any) -> str:
    """Return an event with its own id, as text."""
    return text({"id": name, "source": source, "detail-type": kind, "time": TIME, "detail": detail})


def use(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the block of a tool use."""
    return {"ToolUse": {"Name": name, "Input": arguments}}


def reply(said: str, *blocks: dict[str, Any]) -> Reply:
    """Return a reply of these blocks."""
    content = [
        {"ToolUse": {**block["ToolUse"], "ToolUseId": f"{block['ToolUse']['Name']}-{place}"}}
        for place, block in enumerate(blocks)
    ]
    body = {"Output": {"Message": {"Role": "assistant", "Content": content}}, "StopReason": "tool_use", "Usage": {}}
    return said, text(body)


COMPLETE = reply("completes", use("complete", result="done"))
GIVE_UP = reply("gives up", use("give_up", reason="no way"))
ASK = reply("asks the user", use("ask_user", question="which?"))
ACT = reply("acts", use(BOOK))
ACT_TWICE = reply("acts twice at once", use(BOOK, seat=1), use(BOOK, seat=2))
REFUSES = "refuses the request", Failed("BedrockRuntime.ValidationException", "no")


def results(messages: list[dict[str, Any]]) -> list[bool]:
    """Return whether each tool call so far was answered with a success."""
    blocks = [block["ToolResult"] for message in messages for block in message["Content"] if "ToolResult" in block]
    return [block["Status"] == "success" for block in blocks if block["ToolUseId"].startswith(BOOK)]


def act_then(*then: Reply, first: Reply = ACT) -> Model:
    """Act once, then reply with one of `then`; give up if a call failed."""

    def model(messages: list[dict[str, Any]]) -> list[Reply]:
        done = results(messages)
        if not done:
            return [first]
        return list(then) if all(done) else [GIVE_UP]

    return model


def tool(on_unknown: Literal["ask", "retry", "reconcile"], undone: bool = False, approval: bool = False) -> list[Tool]:
    """Return an agent's tools: `on_unknown` handles an unknown outcome, `undone` adds a compensation."""
    common: dict[str, Any] = {"description": "A tool.", "input_schema": _ARGUMENTS, "timeout_seconds": 1}
    act = Tool(
        name=BOOK,
        function=BOOK,
        effect="write",
        on_unknown=on_unknown,
        reconcile=FIND if on_unknown == "reconcile" else None,
        compensation=Compensation(tool=UNDO, arguments={"effect": "effect"}) if undone else None,
        approval="always" if approval else "never",
        **common,
    )
    undo = Tool(name=UNDO, function=UNDO, effect="write", hidden=True, on_unknown="retry", **common)
    find = Tool(name=FIND, function=FIND, effect="read", hidden=True, **common)
    return [act, undo, find]


SILENCE = "SILENCE"


@dataclass(frozen=True)
class Scenario:
    """One agent, and the events that may happen around it."""

    name: str
    tools: list[Tool]
    model: Model
    operator: tuple[str, ...] = ("ABORT",)
    """The operator's possible decisions; SILENCE means that no answer comes in time."""
    inputs: tuple[str, ...] = ()
    """Events that are sent once the agent exists."""
    faults: int = 1
    watches: int = 0
    """The number of times that the watch may run at any moment. At rest it always runs."""
    answers: int = 1
    """The number of decisions of the operator."""
    limits: dict[str, int] = field(default_factory=dict)
    knows_keys: bool = False
    """Whether the tool that acts recognises a repeated key."""

    @property
    def definition(self) -> Definition:
        limits = Limits(**{"recoveries": 1, **self.limits})
        model = ModelSettings(id="model")
        return Definition(name="worker", version=1, instructions="Work.", model=model, limits=limits, tools=self.tools)

    def deeper(self) -> "Scenario":
        """Return the same scenario with one fault more."""
        return replace(self, faults=self.faults + 1)


REQUEST = event("AgentRequested", "request", agentId=AGENT, agent="worker", prompt="work", requestId="request")
WORDS = event("AgentInputReceived", "words", agentId=AGENT, text="hello", inputId="words")
CANCEL = event("AgentCancelRequested", "cancel", agentId=AGENT, inputId="cancel-1")
APPROVE, REFUSE = (
    event("AgentDecisionGiven", name, agentId=AGENT, approvalId="2", decision=name, inputId=name)
    for name in ("APPROVE", "REFUSE")
)


def _asks(messages: list[dict[str, Any]]) -> list[Reply]:
    """Ask the user, and complete once the user has answered."""
    return [COMPLETE] if "hello" in text(messages) else [ASK]


SCENARIOS = [
    Scenario(
        "the operator decides",
        tool("ask"),
        lambda _: [REFUSES],
        operator=("RETRY", "REPLAN", "COMPENSATE", "ABORT", SILENCE),
        faults=0,
        watches=1,
    ),
    Scenario("the watch looks", tool("ask"), lambda _: [GIVE_UP], faults=0, watches=2),
    Scenario("a call that the operator settles", tool("ask"), act_then(COMPLETE), operator=("RETRY", "ABORT")),
    Scenario("a call that is made again", tool("retry"), act_then(COMPLETE), knows_keys=True),
    Scenario("a call that is looked up", tool("reconcile"), act_then(COMPLETE)),
    Scenario("two calls at once", tool("reconcile"), act_then(COMPLETE, first=ACT_TWICE)),
    Scenario(
        "an effect that is undone",
        tool("reconcile", undone=True),
        act_then(GIVE_UP),
        operator=("RETRY", "COMPENSATE", "ABORT"),
    ),
    Scenario("a turn for every decision", tool("reconcile"), act_then(COMPLETE), limits={"steps_per_turn": 1}),
    Scenario("a question to the user", tool("ask"), _asks, inputs=(WORDS,)),
    Scenario("an approval", tool("reconcile", approval=True), act_then(COMPLETE), inputs=(APPROVE,)),
    Scenario("two decisions", tool("reconcile", approval=True), act_then(COMPLETE), inputs=(APPROVE, REFUSE), faults=0),
    Scenario("a cancellation", tool("reconcile"), act_then(COMPLETE), inputs=(CANCEL,)),
    Scenario(
        "a cancellation while the operator is asked",
        tool("ask"),
        lambda _: [REFUSES],
        inputs=(CANCEL,),
        faults=0,
        watches=1,
    ),
]
