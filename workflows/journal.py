"""The journal as a person reads it: one entry per step, with what was heard, said, decided and answered."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from agent.conversation import Item, reason
from agent.record import CallResult, Decision, Outcome

Role = Literal["user", "assistant", "tool_output"]


@dataclass(frozen=True)
class Entry:
    """One step of the journal."""

    step: int
    who: Literal["USER", "MODEL", "TOOLS"]
    at: str
    execution: str
    heard: tuple[str, ...] = ()
    """The user's words."""
    said: tuple[str, ...] = ()
    """The model's words beside its decision."""
    uses: tuple[dict[str, Any], ...] = ()
    """What the model asked for as it asked for it, `{toolName, parameters}`; in the JSON protocol nothing."""
    decision: Decision | None = None
    results: tuple[CallResult, ...] = ()
    usage: dict[str, int] | None = None
    """`inputTokens`, `outputTokens` and `costMicroUsd` of a MODEL step."""


def read_entry(item: Item) -> Entry:
    """Reads a STEP item.

    Raises ValueError (pydantic's among them) or KeyError if it is none.
    """
    step, at, execution = int(item["record"].removeprefix("STEP#")), item["at"], item["execution"]
    match item["who"]:
        case "USER":
            return Entry(step, "USER", at, execution, heard=(item["text"],))
        case "TOOLS":
            results = tuple(CallResult.model_validate(result) for result in json.loads(item["results"]))
            return Entry(step, "TOOLS", at, execution, results=results)
        case "MODEL":
            messages = json.loads(item["messages"])
            heard = [text for message in messages if message["Role"] == "user" for text in _words(message["Content"])]
            reply = [block for message in messages if message["Role"] == "assistant" for block in message["Content"]]
            uses = [block["ToolUse"] for block in reply if "ToolUse" in block]
            return Entry(
                step,
                "MODEL",
                at,
                execution,
                heard=tuple(heard),
                said=tuple(block["Text"] for block in reply if "Text" in block),
                uses=tuple({"toolName": use["Name"], "parameters": use["Input"]} for use in uses),
                decision=Decision.model_validate_json(item["decision"]),
                usage=json.loads(item["usage"]),
            )
        case who:
            raise ValueError(f"{item['record']} was written by {who!r}, which no journal knows")


def read_journal(items: Iterable[Item]) -> list[Entry]:
    """The entries among an agent's items, in order."""
    return sorted(
        (read_entry(item) for item in items if item["record"].startswith("STEP#")), key=lambda entry: entry.step
    )


def outcome_text(result: CallResult) -> str:
    """What came back from a call: its value as JSON, or what went wrong."""
    if result.outcome is Outcome.COMMITTED:
        return json.dumps(result.value, ensure_ascii=False)
    return f"{result.outcome}: {reason(result.message) or result.error}"


def _words(blocks: list[dict[str, Any]]) -> list[str]:
    """The user's words in a message: its text, or, where a question was open, the tool result that answers it."""
    texts = [block["Text"] for block in blocks if "Text" in block]
    answers = [part["Text"] for block in blocks for part in block.get("ToolResult", {}).get("Content", [])]
    return texts or answers
