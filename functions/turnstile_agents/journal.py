"""The journal for people: one entry per step, with inputs, the model's texts, decisions and results."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from turnstile_agents.caller import Caller, caller_of, caller_of_input
from turnstile_agents.conversation import SYSTEM_NOTE, reason
from turnstile_agents.items import InputItem, ModelStep, Record, RecoveryStep, StepItem, ToolsStep, UserStep
from turnstile_agents.record import CallResult, Decision, Model, Outcome, RecoveryAction, Status, Usage, Verdict

Role = Literal["user", "assistant", "tool_output"]


class Words(Model):
    """A text that a user sent to the agent."""

    text: str
    caller: Annotated[Caller | None, Field(description="The caller, if the event named one")] = None


class Ruling(Model):
    """The decision about calls that waited for approval."""

    decision: Verdict
    note: str
    caller: Annotated[Caller | None, Field(description="The caller, if the event named one")] = None

    @property
    def text(self) -> str:
        """The decision and its note in one line."""
        return f"{self.decision}: {self.note}" if self.note else str(self.decision)


class Recovery(Model):
    """The decision of a recovery."""

    action: RecoveryAction
    status: Annotated[Status, Field(description="The status that it left the agent in")]
    reason: Annotated[str, Field(description="The error's name")]
    note: Annotated[str, Field(description="The note of the operator, or of the request to cancel")]
    by: Annotated[str, Field(description="The operator, or the caller that cancelled; empty if neither decided")]
    source: Annotated[str, Field(description="The Source of the answer or of the request; empty if neither came")]
    text: Annotated[str, Field(description="The text for the model")]
    question: Annotated[str, Field(description="The question to the user")]


class Entry(Model):
    """One step of the journal."""

    step: int
    who: Literal["USER", "MODEL", "TOOLS", "RECOVERY"]
    at: str
    execution: Annotated[str, Field(description="The ARN of the execution that wrote it")]
    heard: Annotated[list[Words], Field(description="The user's texts")] = []
    ruling: Annotated[Ruling | None, Field(description="The decision about the calls before")] = None
    reported: Annotated[list[str], Field(description="The reports of the agents that it delegated to")] = []
    said: Annotated[list[str], Field(description="The model's texts beside its decision")] = []
    uses: Annotated[
        list[dict[str, Any]],
        Field(description="The calls of the model, as {toolName, parameters}; empty in the JSON protocol"),
    ] = []
    decision: Decision | None = None
    results: list[CallResult] = []
    usage: Usage | None = None
    recovery: Recovery | None = None


def read_entry(step: StepItem, record: Record) -> Entry:
    """Read a step. `record` gives the texts and callers of its inputs; an input that `record` lacks is left out.

    Raises ValueError if a decision, its results or its messages cannot be read.
    """
    common: dict[str, Any] = {"step": step.step, "who": step.who, "at": step.at, "execution": step.execution}
    match step:
        case UserStep(text=text):
            caller = caller_of(record.state.by, record.state.source) if record.state else None
            return Entry(**common, heard=[Words(text=text, caller=caller)])
        case ToolsStep():
            return Entry(**common, results=step.read_results())
        case ModelStep():
            return Entry(**common, **_of_model(step, [each for each in record.inputs if each.record in step.inputs]))
        case RecoveryStep():
            known = step.model_dump(include=set(Recovery.model_fields))
            return Entry(**common, recovery=Recovery.model_validate(known))


def _of_model(step: ModelStep, inputs: list[InputItem]) -> dict[str, Any]:
    """Return the fields of an entry that a decision and its inputs give."""
    messages = step.read_messages()
    inputs = sorted(inputs, key=lambda each: step.inputs.index(each.record))
    heard = [Words(text=each.fields["text"], caller=caller_of_input(each)) for each in inputs if each.is_text]
    words = [each.text for each in heard]
    told = [text for message in messages if message["Role"] == "user" for text in _texts(message["Content"])]
    reported = any(each.type == "AgentStateUpdated" for each in inputs)
    reply = [block for message in messages if message["Role"] == "assistant" for block in message["Content"]]
    uses = [block["ToolUse"] for block in reply if "ToolUse" in block]
    return {
        "heard": heard,
        "reported": [text.removeprefix(f"{SYSTEM_NOTE} ") for text in told if text not in words] if reported else [],
        "said": [block["Text"] for block in reply if "Text" in block],
        "uses": [{"toolName": use["Name"], "parameters": use["Input"]} for use in uses],
        "decision": step.read_decision(),
        "usage": step.read_usage(),
    }


def read_journal(record: Record) -> list[Entry]:
    """Read the entries of a record, in order. STATE and the inputs give the user's texts and callers."""
    entries = (read_entry(step, record) for step in record.steps)
    return list(_with_rulings(sorted(entries, key=lambda entry: entry.step), _rulings(record.inputs)))


def _rulings(inbox: Iterable[InputItem]) -> dict[str, Ruling]:
    """Return the decisions by approval; the first decision about an approval counts."""
    rulings: dict[str, Ruling] = {}
    for item in sorted(inbox, key=lambda item: item.order):
        if item.type == "AgentDecisionGiven":
            detail = item.fields
            ruling = Ruling(decision=detail["decision"], note=detail.get("note", ""), caller=caller_of_input(item))
            rulings.setdefault(detail["approvalId"], ruling)
    return rulings


def _with_rulings(entries: Iterable[Entry], rulings: Mapping[str, Ruling]) -> Iterator[Entry]:
    """Yield the entries, each ruling with the entry that follows from it: results, or the model's reply to a refusal.

    The entry that takes the input in comes after the results, which is too late for a reader.
    """
    asked = ""
    for entry in entries:
        if entry.recovery is None:
            yield entry.model_copy(update={"ruling": rulings.get(asked)})
            asked = entry.decision.waits_for if entry.decision and entry.decision.action == "ASK_APPROVAL" else ""
        else:
            yield entry


def outcome_text(result: CallResult) -> str:
    """Return the result of a call as text: its value as JSON, or its error."""
    if result.outcome is Outcome.COMMITTED:
        return json.dumps(result.value, ensure_ascii=False)
    return f"{result.outcome}: {reason(result.message) or result.error}"


def corrections(decision: Decision) -> list[str]:
    """Return the texts that told the model what was wrong with its reply."""
    wrong = [answer.text for answer in decision.answers if answer.error]
    return wrong or ([decision.message] if decision.action == "INVALID" else [])


def _texts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the texts of a message, tool results included."""
    for block in blocks:
        for part in block.get("ToolResult", {}).get("Content", [block]):
            if "Text" in part:
                yield part["Text"]
            elif "Json" in part:
                yield json.dumps(part["Json"], ensure_ascii=False)
