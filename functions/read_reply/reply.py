"""What is in a reply, whatever came: the blocks that may go back into a conversation, the tool uses, the usage."""

import json
from dataclasses import dataclass
from typing import Any

from agent.conversation import Block
from agent.definition import Prices
from agent.turn import Usage


@dataclass(frozen=True)
class ToolUse:
    """What the model wants called. `id` is empty in the JSON protocol."""

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


def parse_reply(reply: Any, prices: Prices) -> Reply:
    """Never raises: what is not there or makes no sense is left out."""
    body = reply if isinstance(reply, dict) else {}
    content = _get(body, "Output", "Message", "Content")
    blocks: list[Block] = []
    uses: dict[str, ToolUse] = {}
    for block in content if isinstance(content, list) else []:
        match block:
            case {"Text": str(text)} if text.strip():
                blocks.append({"Text": text})
            case {"ToolUse": {"ToolUseId": str(use_id), "Name": str(name), **rest}} if use_id not in uses:
                arguments = rest.get("Input", {})
                uses[use_id] = ToolUse(use_id, name, arguments)
                # Only an object may go back as Input, and `Type` may not.
                sent = arguments if isinstance(arguments, dict) else {}
                blocks.append({"ToolUse": {"ToolUseId": use_id, "Name": name, "Input": sent}})
            case {"ReasoningContent": dict()}:
                blocks.append(block)
    return Reply(
        blocks=blocks,
        uses=list(uses.values()),
        text="\n".join(block["Text"] for block in blocks if "Text" in block),
        stop_reason=str(body.get("StopReason", "")),
        usage=_usage(body.get("Usage"), prices),
    )


def find_action(text: str) -> dict[str, Any] | None:
    """The first JSON object with an `action` in a text, fenced or surrounded by prose; None if there is none."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except ValueError:
            found = None
        if isinstance(found, dict) and "action" in found:
            return found
        start = text.find("{", start + 1)
    return None


def _usage(counts: Any, prices: Prices) -> Usage:
    tokens_in, tokens_out = _count(counts, "InputTokens"), _count(counts, "OutputTokens")
    # US dollars per million tokens are millionths of a dollar per token.
    cost = round(tokens_in * prices.input + tokens_out * prices.output)
    return Usage(input_tokens=tokens_in, output_tokens=tokens_out, cost_micro_usd=cost)


def _count(counts: Any, name: str) -> int:
    value = _get(counts, name)
    return value if isinstance(value, int) and value >= 0 else 0


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
