"""Read the actions that a model writes as text: the JSON protocol, and texts that nearly follow it."""

import json
import re
from collections.abc import Collection
from typing import Any

from turnstile_agents.border import STORED_DEPTH, nests_deeper
from turnstile_agents.built_in import BUILT_INS
from turnstile_agents.read_reply.reply import ToolUse


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_NAMES: dict[str, str] = {arguments.action: name for name, arguments in BUILT_INS.items()}
"""The built-ins by their action: PLAN is `update_plan`."""
_SHOWN = 100
"""Characters of an unknown action that a correction repeats."""


class NotAnAction(Exception):
    """A text holds JSON that was meant as an action and is not one; the message is for the model."""


def use_in_text(text: str, callable_names: Collection[str], whole: bool) -> ToolUse | None:
    """Return the action in a text as a tool use without an id; None if the text holds no action.

    Two shapes are read, fenced or surrounded by prose: `{"action": …, "details": …}`, where the action may also be the
    name of a tool or of a built-in, and `{"name": …, "arguments": …}`.

    Args:
        text: the model's words.
        callable_names: the tools and built-ins that the model may call.
        whole: whether the text must hold the action alone; an action inside other text may be a quotation.

    Raises:
        NotAnAction: the text holds several actions, an unknown action, a TOOL_USE without a tool, or JSON that nests
            too deep.
    """
    found = _objects(text.strip(), whole)
    if not found:
        return None
    if len(found) > 1:
        raise NotAnAction(f"The reply holds {len(found)} actions. Nothing was carried out. Answer with one action.")
    match found[0]:
        case {"action": "TOOL_USE", "details": {"toolName": str(name), **rest}}:
            return ToolUse("", name, rest.get("parameters", {}))
        case {"action": "TOOL_USE", "details": {"name": str(name), "arguments": arguments}}:
            return ToolUse("", name, arguments)
        case {"action": "TOOL_USE"}:
            raise NotAnAction('TOOL_USE needs "details": {"toolName": NAME, "parameters": ARGUMENTS}.')
        case {"action": str(action), **rest} if action in _NAMES or action in callable_names:
            return ToolUse("", _NAMES.get(action, action), rest.get("details", {}))
        case {"action": action}:
            raise NotAnAction(f"There is no action {repr(action)[:_SHOWN]}.")
        case {"name": str(name), "arguments": arguments}:
            return ToolUse("", name, arguments)
    return None


def _objects(text: str, whole: bool) -> list[dict[str, Any]]:
    """Return the JSON objects in a text that are meant as actions, without objects inside another object."""
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1].strip()
    found: list[dict[str, Any]] = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = None, start + 1
        if nests_deeper(value, STORED_DEPTH):
            raise NotAnAction(f"The reply nests more than {STORED_DEPTH} deep. Nothing was carried out.")
        if isinstance(value, dict) and ("action" in value or value.keys() >= {"name", "arguments"}):
            if whole and (start, end) != (0, len(text)):
                return []
            found.append(value)
        # Go on after the value that was read, not inside it: an argument may look like an action.
        start = text.find("{", end)
    return found
