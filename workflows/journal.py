"""The journal as a person reads it: one entry per step, with what was heard, said, decided and answered."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from agent.conversation import Item, reason
from agent.record import CallResult, Decision, Model, Outcome, RecoveryAction
from agent.turn import Usage

Role = Literal["user", "assistant", "tool_output"]


class Recovery(Model):
    """What a recovery decided."""

    action: RecoveryAction
    reason: Annotated[str, Field(description="The error's name")]
    note: Annotated[str, Field(description="The operator's words")]
    text: Annotated[str, Field(description="What the model was told")]
    question: Annotated[str, Field(description="What the user was asked")]


class Entry(Model):
    """One step of the journal."""

    step: int
    who: Literal["USER", "MODEL", "TOOLS", "RECOVERY"]
    at: str
    execution: Annotated[str, Field(description="The ARN of the execution that wrote it")]
    heard: Annotated[list[str], Field(description="The user's words")] = []
    said: Annotated[list[str], Field(description="The model's words beside its decision")] = []
    uses: Annotated[
        list[dict[str, Any]],
        Field(description="What the model asked for, as {toolName, parameters}; nothing in the JSON protocol"),
    ] = []
    decision: Decision | None = None
    results: list[CallResult] = []
    usage: Usage | None = None
    recovery: Recovery | None = None


def read_entry(item: Item) -> Entry:
    """Reads a STEP item.

    Raises ValueError, pydantic's among them, or KeyError if it is none.
    """
    step, at, execution = int(item["record"].removeprefix("STEP#")), item["at"], item["execution"]
    match item["who"]:
        case "USER":
            return Entry(step=step, who="USER", at=at, execution=execution, heard=[item["text"]])
        case "TOOLS":
            return Entry(step=step, who="TOOLS", at=at, execution=execution, results=json.loads(item["results"]))
        case "MODEL":
            messages = json.loads(item["messages"])
            words = [text for message in messages if message["Role"] == "user" for text in _words(message["Content"])]
            reply = [block for message in messages if message["Role"] == "assistant" for block in message["Content"]]
            uses = [block["ToolUse"] for block in reply if "ToolUse" in block]
            return Entry(
                step=step,
                who="MODEL",
                at=at,
                execution=execution,
                heard=words,
                said=[block["Text"] for block in reply if "Text" in block],
                uses=[{"toolName": use["Name"], "parameters": use["Input"]} for use in uses],
                decision=Decision.model_validate_json(item["decision"]),
                usage=Usage.model_validate_json(item["usage"]),
            )
        case "RECOVERY":
            recovery = Recovery.model_validate({name: item[name] for name in Recovery.model_fields})
            return Entry(step=step, who="RECOVERY", at=at, execution=execution, recovery=recovery)
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


def corrections(decision: Decision) -> list[str]:
    """What the model was told to do better."""
    wrong = [answer.text for answer in decision.answers if answer.error]
    return wrong or ([decision.message] if decision.action == "INVALID" else [])


def _words(blocks: list[dict[str, Any]]) -> list[str]:
    """The user's words in a message: its text, or, where a question was open, the tool result that answers it."""
    texts = [block["Text"] for block in blocks if "Text" in block]
    answers = [part["Text"] for block in blocks for part in block.get("ToolResult", {}).get("Content", [])]
    return texts or answers
