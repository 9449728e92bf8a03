"""The parts of any reply: the blocks that may go back into a conversation, the tool uses, the usage."""

import re
from dataclasses import dataclass
from typing import Any

from turnstile_agents.border import clean, clean_text, nests_deeper
from turnstile_agents.conversation import Block
from turnstile_agents.definition import Prices
from turnstile_agents.record import Usage

_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True)
class ToolUse:
    """A call that the model asks for, as the model wrote it. `id` is empty in the JSON protocol."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True)
class Reply:
    """A Converse result, cleaned."""

    blocks: list[Block]
    uses: list[ToolUse]
    text: str
    stop_reason: str
    usage: Usage


def parse_reply(reply: Any, model_id: str, prices: Prices) -> Reply:
    """Clean a reply. Never raises: parts that are missing, malformed, or not accepted by Bedrock are left out."""
    body = reply if isinstance(reply, dict) else {}
    content = _get(body, "Output", "Message", "Content")
    blocks: list[Block] = []
    uses: dict[str, ToolUse] = {}
    for block in content if isinstance(content, list) else []:
        match block:
            case {"Text": str(text)} if text.strip():
                blocks.append({"Text": clean_text(text)})
            case {"ToolUse": {"ToolUseId": str(given), "Name": str(name), **rest}}:
                use_id = _NOT_IN_AN_ID.sub("_", given)[:64]
                if not use_id or use_id in uses:
                    continue
                arguments = rest.get("Input", {})
                uses[use_id] = ToolUse(use_id, name, arguments)
                # Bedrock accepts less than it returns: only an object as Input, no `Type`, and no other characters in
                # a name, which a model may invent. Arguments that nest too deep are refused, and not kept.
                sent = clean(arguments) if isinstance(arguments, dict) and not nests_deeper(arguments) else {}
                sent_name = _NOT_IN_A_NAME.sub("_", name)[:64] or "_"
                blocks.append({"ToolUse": {"ToolUseId": use_id, "Name": sent_name, "Input": sent}})
            case {"ReasoningContent": {"ReasoningText": {"Text": str(text), **rest}}}:
                # Redacted reasoning is bytes, which a state cannot carry: it is left out, like images.
                signature = rest.get("Signature")
                signed = {"Signature": signature} if isinstance(signature, str) else {}
                blocks.append({"ReasoningContent": {"ReasoningText": clean({"Text": text, **signed})}})
    # A message must not end with reasoning: the reply was cut off there.
    while blocks and "ReasoningContent" in blocks[-1]:
        blocks.pop()
    return Reply(
        blocks=blocks,
        uses=list(uses.values()),
        text="\n".join(block["Text"] for block in blocks if "Text" in block),
        stop_reason=str(body.get("StopReason", "")),
        usage=_usage(body.get("Usage"), model_id, prices),
    )


def _usage(counts: Any, model_id: str, prices: Prices) -> Usage:
    tokens_in, tokens_out = _count(counts, "InputTokens"), _count(counts, "OutputTokens")
    # US dollars per million tokens are millionths of a dollar per token.
    cost = round(tokens_in * prices.input + tokens_out * prices.output)
    return Usage(input_tokens=tokens_in, output_tokens=tokens_out, cost_micro_usd=cost, model_id=model_id)


def _count(counts: Any, name: str) -> int:
    value = _get(counts, name)
    return value if isinstance(value, int) and value >= 0 else 0


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
