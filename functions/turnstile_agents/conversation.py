"""The conversation: folds the items of a record into the messages that the model reads.

Messages are Converse's, in Step Functions' casing: `{"Role": "user", "Content": [{"Text": "…"}]}`. Every tool use in
them is answered by exactly one tool result in the message that follows; Bedrock refuses anything else.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnstile_agents.border import RESULT_LIMIT, cut, read_json
from turnstile_agents.items import (
    Effect,
    InputItem,
    Ledger,
    ModelStep,
    RecoveryStep,
    StepItem,
    ToolsStep,
    UserStep,
)
from turnstile_agents.record import Answer, Call, CallResult, Decision, EffectStatus, Outcome

Message = dict[str, Any]
Block = dict[str, Any]

SYSTEM_NOTE = "Not from the user:"
"""The beginning of each text of the system. It has the user's role: the only other role is the assistant's."""
UNKNOWN = CallResult(outcome=Outcome.UNCERTAIN, error="EffectUncertain", message="The turn ended during it.")
NOT_CARRIED_OUT = CallResult(outcome=Outcome.UNAVAILABLE, error="NotCarriedOut", message="The turn ended before it.")

_NOT_AWAITED = "Not awaited: you are to plan again. If this agent has begun, you are told what comes of it later."
_OUTCOMES = {
    Outcome.REJECTED: "The call was refused and nothing happened",
    Outcome.UNAVAILABLE: "The tool could not be reached and nothing happened",
    Outcome.UNCERTAIN: "It is not known whether the call took effect. Do not repeat it",
}
_PROMPT_LIMIT = 96 * 1024
"""Bytes of a prompt that the model reads in full."""
_BEGINNING = 2000
"""Bytes that the model reads of a text that is too long; a text of up to this size is never shortened."""
_REASON_LIMIT = 4000
"""Bytes of an error's cause that the model reads."""


@dataclass(frozen=True)
class Failed:
    """A call that writes, and that failed."""

    name: str
    tools: frozenset[str]
    """Every tool that could have carried it out: the called tool and its alternatives."""
    arguments: str
    """JSON, the same text for the same arguments."""
    reason: str
    rejected: bool
    """Whether the tool refused the arguments. Otherwise the call could not be made, and is still to be made."""

    def cleared_by(self, call: Call) -> bool:
        """Return whether this call, once it has succeeded, clears the failed call.

        Other arguments clear only a refused call: after any other failure they are another write.
        """
        return bool(self.tools & _tools(call)) and (self.rejected or self.arguments == _arguments(call))


@dataclass
class Conversation:
    """The journal, folded. `messages` alternate between user and assistant; the first is the user's."""

    messages: list[Message] = field(default_factory=list)
    last: Decision | None = None
    """The newest decision, if it is not answered yet: no results of its calls, no text of the user."""
    approval: str = ""
    """The approval that the newest calls with an approval waited for."""
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
    """The fingerprint of the newest calls."""
    failed: list[Failed] = field(default_factory=list)
    """Failed calls that write, since the user's last text, without the calls that a later call has cleared."""
    doubted: bool = False
    """Whether the newest decision claimed to be complete and was refused for that."""

    def add(self, role: str, blocks: Iterable[Block]) -> None:
        """Append to the conversation; neighbouring messages of one role become one."""
        content = list(blocks)
        if not content:
            return
        if self.messages and self.messages[-1]["Role"] == role:
            self.messages[-1]["Content"] += content
        else:
            self.messages.append({"Role": role, "Content": content})

    def followed_by(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with others after them; the conversation itself does not change."""
        longer = Conversation([{**message, "Content": [*message["Content"]]} for message in self.messages])
        for message in messages:
            longer.add(message["Role"], message["Content"])
        return longer.messages


def fold(
    steps: Iterable[StepItem], effects: Iterable[Effect] = (), inputs: Iterable[InputItem] = (), since: int = 0
) -> Conversation:
    """Fold the journal, in order of its steps, with the ledger and the inbox.

    A result that is uncertain in the journal, but settled in the ledger, is taken from the ledger. `since`: count only
    the decisions after this step. Raises ValueError if a decision or its results cannot be read.
    """
    conversation = Conversation()
    ledger = {effect.record: effect for effect in effects}
    words = {each.record for each in inputs if each.is_text}
    for step in steps:
        match step:
            case UserStep(text=text):
                conversation.add("user", [_words(shortened(text) if len(text.encode()) > _PROMPT_LIMIT else text)])
            case ModelStep():
                _fold_decision(conversation, step, words, since)
            case ToolsStep():
                _fold_results(conversation, step, ledger)
            case RecoveryStep():
                _fold_recovery(conversation, step, ledger)
    return conversation


def pending_message(
    conversation: Conversation, words: Sequence[str], answers: Sequence[Answer] = (), news: Sequence[str] = ()
) -> list[Message]:
    """Make the message that brings in the new inputs; [] if there are none.

    Args:
        conversation: the conversation so far.
        words: the user's texts; they answer the open question, if there is one.
        answers: the answers to open tool uses: calls that were refused, children that have reported.
        news: other texts for the model.
    """
    last, said = conversation.last, [_words(text) for text in words]
    blocks = [*said, *(_note(text) for text in news)]
    if last and answers:
        blocks = [*(_answer(answer) for answer in answers), *answer_blocks(last), *blocks]
    elif last and last.tool_use_id and last.action == "ASK_USER" and said:
        blocks = [_tool_result(last.tool_use_id, said), *blocks[len(said) :]]
    elif last and last.tool_use_id and blocks:
        blocks = [_tool_result(last.tool_use_id, [{"Text": "Not closed yet: something has come in."}]), *blocks]
    return [{"Role": "user", "Content": blocks}] if blocks else []


def shortened(text: str) -> str:
    """Replace a message that is too long by its length and its beginning; return a short message unchanged."""
    size = len(text.encode())
    if size <= _BEGINNING:
        return text
    return f"(A message of {size} bytes, too many to be read here. It begins: {cut(text, _BEGINNING)})"


def _words(text: str) -> Block:
    # Bedrock refuses blank text, and would refuse every later request of this conversation.
    if not text.strip():
        return {"Text": "(an empty message)"}
    # A user's text must not look like a text of the system.
    return {"Text": f"The user says: {text}" if text.lstrip().startswith(SYSTEM_NOTE) else text}


def _note(text: str) -> Block:
    return {"Text": f"{SYSTEM_NOTE} {text}"}


def _fold_decision(conversation: Conversation, step: ModelStep, words: set[str], since: int) -> None:
    decision = step.read_decision()
    for message in step.read_messages():
        conversation.add(message["Role"], message["Content"])
    inputs = set(step.inputs)
    conversation.folded |= inputs
    if inputs & words:
        conversation.failed.clear()
    conversation.doubted = decision.doubted
    conversation.decisions += step.step > since
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
    if decision.action == "ASK_APPROVAL":
        conversation.approval = decision.waits_for
    if not decision.calls and not decision.children:
        # The machine carries out nothing of this decision, so answer it now.
        conversation.add("user", answer_blocks(decision))
        if decision.answers or decision.action == "INVALID":
            conversation.last = None


def answer_blocks(decision: Decision) -> list[Block]:
    """Return the answers that the decision holds: to built-ins, to wrong calls, and to a reply without any action."""
    blocks = [_answer(answer) for answer in decision.answers]
    if decision.action == "INVALID" and not decision.answers:
        blocks.append(_note(decision.message))
    return blocks


def _fold_results(conversation: Conversation, step: ToolsStep, ledger: Ledger) -> None:
    decision = conversation.last
    if decision is None:
        raise ValueError(f"{step.record} holds results, but no calls come before it")
    pairs = [
        (call, _settled(call, result, ledger) if result.outcome is Outcome.UNCERTAIN else result)
        for call, result in zip(decision.calls, step.read_results(), strict=True)
    ]
    conversation.add("user", [*(_result(call, result) for call, result in pairs), *answer_blocks(decision)])
    _fold_outcomes(conversation, pairs)
    conversation.last = None


def _fold_outcomes(conversation: Conversation, pairs: Sequence[tuple[Call, CallResult]]) -> None:
    """Keep the calls that failed, and drop the earlier failures that these calls clear.

    A success clears only failures of earlier replies: the calls of one reply are separate requests.
    """
    conversation.uncertain = [call for call, result in pairs if result.outcome is Outcome.UNCERTAIN]
    made = [call for call, result in pairs if result.outcome is Outcome.COMMITTED]
    lost = [
        Failed(call.name, _tools(call), _arguments(call), _why(result), result.outcome is Outcome.REJECTED)
        for call, result in pairs
        if call.effect == "write" and result.outcome is not Outcome.COMMITTED
    ]
    # Of the failures of one call the newest counts.
    again = {(failed.name, failed.arguments) for failed in lost}
    kept = [
        failed
        for failed in conversation.failed
        if (failed.name, failed.arguments) not in again and not any(failed.cleared_by(call) for call in made)
    ]
    conversation.failed = [*kept, *lost]


def _tools(call: Call) -> frozenset[str]:
    return frozenset({call.name}) | (_tools(call.alternative) if call.alternative else frozenset())


def _arguments(call: Call) -> str:
    return json.dumps(call.input, ensure_ascii=False, sort_keys=True)


def _settled(call: Call, result: CallResult, ledger: Ledger) -> CallResult:
    # Without an entry there was no reservation, and so no call.
    return (known_result(call, ledger) or result) if call.key in ledger else NOT_CARRIED_OUT


def _fold_recovery(conversation: Conversation, step: RecoveryStep, ledger: Ledger) -> None:
    conversation.wrong_replies = conversation.repeats = 0
    if not step.text:
        return
    # The recovery has a text for the model, so answer the open calls first: from the ledger, or as not carried out.
    decision = conversation.last
    if decision:
        results = [(call, _settled(call, UNKNOWN, ledger)) for call in decision.calls]
        left = [Answer(tool_use_id=child.tool_use_id, text=_NOT_AWAITED) for child in decision.children]
        blocks = [
            *(_result(call, result) for call, result in results),
            *(_answer(answer) for answer in left),
            *answer_blocks(decision),
        ]
        if decision.tool_use_id:
            blocks.append(_tool_result(decision.tool_use_id, [{"Text": "Not closed."}]))
        conversation.add("user", blocks)
        _fold_outcomes(conversation, results)
    conversation.add("user", [_note(step.text)])
    conversation.last = None


def known_result(call: Call, ledger: Ledger) -> CallResult | None:
    """Return how a call or its alternatives ended by the ledger; None if the ledger does not know it, or not yet."""
    known = None
    tried: Call | None = call
    while tried and (entry := ledger.get(tried.key)):
        match entry.status:
            case EffectStatus.COMMITTED | EffectStatus.COMPENSATING | EffectStatus.COMPENSATED:
                return CallResult(outcome=Outcome.COMMITTED, value=read_json(entry.result))
            case EffectStatus.FAILED:
                refused = entry.error == "ToolRejected"
                outcome = Outcome.REJECTED if refused else Outcome.UNAVAILABLE
                known = CallResult(outcome=outcome, error=entry.error, message=entry.error_message)
            case EffectStatus.RESERVED | EffectStatus.UNCERTAIN:
                return None
        tried = tried.alternative
    return known


def _result(call: Call, result: CallResult) -> Block:
    if result.outcome is Outcome.COMMITTED:
        value = result.value if isinstance(result.value, dict) else {"value": result.value}
        written = json.dumps(value, ensure_ascii=False)
        fits = (size := len(written.encode())) <= RESULT_LIMIT
        if not fits:
            written = f"{size} bytes, too many to be read in full. Their beginning: {cut(written, RESULT_LIMIT // 2)}"
        if not call.tool_use_id:
            return {"Text": f"Result of {call.name}: {written}"}
        return _tool_result(call.tool_use_id, [{"Json": value} if fits else {"Text": written}])
    text = f"{_OUTCOMES[result.outcome]}: {_why(result)}"
    if not call.tool_use_id:
        return {"Text": f"{call.name}: {text}"}
    return _tool_result(call.tool_use_id, [{"Text": text}], error=True)


def _why(result: CallResult) -> str:
    return cut(reason(result.message), _REASON_LIMIT)


def reason(cause: str) -> str:
    """Return the message in an error's cause: a Lambda's cause is JSON with `errorMessage`, any other is plain text."""
    parsed = read_json(cause)
    return str(parsed["errorMessage"]) if isinstance(parsed, dict) and "errorMessage" in parsed else cause


def _answer(answer: Answer) -> Block:
    if not answer.tool_use_id:
        return {"Text": answer.text}
    return _tool_result(answer.tool_use_id, [{"Text": answer.text}], error=answer.error)


def _tool_result(tool_use_id: str, content: list[Block], error: bool = False) -> Block:
    return {"ToolResult": {"ToolUseId": tool_use_id, "Content": content, "Status": "error" if error else "success"}}
