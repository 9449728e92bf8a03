"""What the Lambdas share: the record, decisions, events, errors and the tool decorator.

A tool imports what it needs from here: `from turnstile_agents import ToolRejected, tool`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnstile_agents.decorator import ToolCall, tool
    from turnstile_agents.errors import ToolOutcomeUnknown, ToolRejected, ToolUnavailable

__all__ = ["ToolCall", "ToolOutcomeUnknown", "ToolRejected", "ToolUnavailable", "tool"]


def __getattr__(name: str) -> Any:
    """Import a name when it is used: the functions that are no tools start without the decorator."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "decorator" if name in ("ToolCall", "tool") else "errors"
    return getattr(import_module(f"{__name__}.{module}"), name)
