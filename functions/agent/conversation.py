"""The conversation as the fold of the journal: from the items of a record to the messages that the model reads.

Messages are Converse's, in Step Functions' casing: `{"Role": "user", "Content": [{"Text": "…"}]}`. Every tool use in
them is answered by exactly one tool result in the message that follows; Bedrock refuses anything else.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.record import Answer, Call, CallResult, Decision, Outcome

Item = Mapping[str, str]
"""An item of the table with its attributes as text, numbers too."""
Message = dict[str, Any]
Block = dict[str, Any]

_OUTCOMES = {
    Outcome.REJECTED: "The call was refused and nothing happened",
    Outcome.UNAVAILABLE: "The tool could not be reached and nothing happened",
    Outcome.UNCERTAIN: "It is not known whether the call took effect. Do not repeat it",
}


@dataclass
class Conversation:
    """What the journal says. `messages` alternate between user and assistant; the first is the user's."""

    messages: list[Message] = field(default_factory=list)
    last: Decision | None = None
    """The newest decision, if nothing has answered it yet: no results of its calls, no words of the user."""
    uncertain: list[Call] = field(default_factory=list)
    """Calls of the newest results whose outcome is unknown."""
    folded: set[str] = field(default_factory=set)
    """The `record` of each input that is in the conversation already."""
    decisions: int = 0
    wrong_replies: int = 0
    """Replies in a row, up to now, that could not be used."""
    repeats: int = 0
    """Times in a row, up to now, that the same calls were asked for."""
    fingerprint: str = ""
    """Of the newest calls."""

    def add(self, role: str, blocks: Iterable[Block]) -> None:
        """Appends to the conversation; neighbouring messages of one role become one."""
        content = list(blocks)
        if not content:
            return
        if self.messages and self.messages[-1]["Role"] == role:
            self.messages[-1]["Content"] += content
        else:
            self.messages.append({"Role": role, "Content": content})


def fold(steps: Iterable[Item], since: int = 0) -> Conversation:
    """Folds the journal, in order of its steps. `since`: count the decisions after this step only."""
    conversation = Conversation()
    for item in steps:
        match item["who"]:
            case "USER":
                conversation.add("user", [_words(item["text"])])
            case "MODEL":
                _fold_decision(conversation, item, since)
            case "TOOLS":
                _fold_results(conversation, item)
            case who:
                raise ValueError(f"{item['record']} was written by {who!r}, which no journal knows")
    return conversation


def pending_message(conversation: Conversation, texts: list[str]) -> list[Message]:
    """The message that brings these words of the user in; the answer to a question, if one is open."""
    if not texts:
        return []
    blocks: list[Block] = [_words(text) for text in texts]
    last = conversation.last
    if last and last.tool_use_id:
        if last.action == "ASK_USER":
            return [{"Role": "user", "Content": [_tool_result(last.tool_use_id, blocks)]}]
        note = [{"Text": "Not closed yet: the user has written again."}]
        return [{"Role": "user", "Content": [_tool_result(last.tool_use_id, note), *blocks]}]
    return [{"Role": "user", "Content": blocks}]


def _words(text: str) -> Block:
    # Bedrock refuses blank text, and with it the conversation for ever.
    return {"Text": text if text.strip() else "(an empty message)"}


def _fold_decision(conversation: Conversation, item: Item, since: int) -> None:
    decision = Decision.model_validate_json(item["decision"])
    for message in json.loads(item["messages"]):
        conversation.add(message["Role"], message["Content"])
    conversation.folded |= set(json.loads(item["inputs"]))
    conversation.decisions += int(item["record"].removeprefix("STEP#")) > since
    conversation.uncertain = []
    conversation.last = decision
    if decision.action == "INVALID":
        conversation.wrong_replies += 1
    else:
        conversation.wrong_replies = 0
    if decision.fingerprint:
        same = decision.fingerprint == conversation.fingerprint
        conversation.repeats = conversation.repeats + 1 if same else 1
        conversation.fingerprint = decision.fingerprint
    if not decision.calls:
        # Nothing will be carried out, so what there is to say to it can be said now.
        conversation.add("user", answer_blocks(decision))
        if decision.answers or decision.action == "INVALID":
            conversation.last = None


def answer_blocks(decision: Decision) -> list[Block]:
    """What the decision itself answers: built-ins, calls that were wrong, and a reply that was none."""
    blocks = [_answer(answer) for answer in decision.answers]
    if decision.action == "INVALID" and not decision.answers:
        blocks.append({"Text": decision.message})
    return blocks


def _fold_results(conversation: Conversation, item: Item) -> None:
    decision = conversation.last
    if decision is None:
        raise ValueError(f"{item['record']} holds results, but no calls come before it")
    results = [CallResult.model_validate(result) for result in json.loads(item["results"])]
    pairs = list(zip(decision.calls, results, strict=True))
    conversation.add("user", [*(_result(call, result) for call, result in pairs), *answer_blocks(decision)])
    conversation.uncertain = [call for call, result in pairs if result.outcome is Outcome.UNCERTAIN]
    conversation.last = None


def _result(call: Call, result: CallResult) -> Block:
    if result.outcome is Outcome.COMMITTED:
        value = result.value if isinstance(result.value, dict) else {"value": result.value}
        if not call.tool_use_id:
            return {"Text": f"Result of {call.name}: {json.dumps(value, ensure_ascii=False)}"}
        return _tool_result(call.tool_use_id, [{"Json": value}])
    text = f"{_OUTCOMES[result.outcome]}: {reason(result.message)}"
    if not call.tool_use_id:
        return {"Text": f"{call.name}: {text}"}
    return _tool_result(call.tool_use_id, [{"Text": text}], error=True)


def reason(cause: str) -> str:
    """The message in an error's cause: a Lambda's cause is JSON with `errorMessage`, another one is plain text."""
    try:
        parsed = json.loads(cause)
    except ValueError:
        return cause
    return str(parsed["errorMessage"]) if isinstance(parsed, dict) and "errorMessage" in parsed else cause


def _answer(answer: Answer) -> Block:
    if not answer.tool_use_id:
        return {"Text": answer.text}
    return _tool_result(answer.tool_use_id, [{"Text": answer.text}], error=answer.error)


def _tool_result(tool_use_id: str, content: list[Block], error: bool = False) -> Block:
    return {"ToolResult": {"ToolUseId": tool_use_id, "Content": content, "Status": "error" if error else "success"}}
