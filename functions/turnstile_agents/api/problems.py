"""Refusals of requests, and their messages."""

from collections.abc import Iterable, Mapping
from typing import Any


class HttpRefusal(Exception):
    """A request is refused: with this status, this name and this message."""

    def __init__(self, status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.headers = dict(headers or {})


def invalid(message: str) -> HttpRefusal:
    """Make the refusal of a request that cannot be understood."""
    return HttpRefusal(400, "RequestInvalid", message)


def unknown_agent(agent_id: str) -> HttpRefusal:
    """Make the refusal of an id that no agent has, or not yet."""
    return HttpRefusal(
        404,
        "AgentUnknown",
        f"There is no agent {agent_id}. If it was requested just now, try again in 2 seconds. If it does not exist "
        "then, its request was refused: the executions of AgentStart tell why.",
    )


def complaints(errors: Iterable[Mapping[str, Any]]) -> str:
    """Say which errors pydantic found, each in one sentence: the field, and what is wrong with it."""
    return "; ".join(dict.fromkeys(_complaint(error) for error in errors))


def _complaint(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "json_invalid":
        return f"The body is no valid JSON: {context.get('error', 'it cannot be read')} at character {error['loc'][-1]}"
    # For a choice between shapes the path holds the shape's tag, which is not a field.
    path = [str(part) for part in error["loc"][1:] if not (isinstance(part, str) and part.isupper())]
    place = ".".join(path) or "The body"
    match kind:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f"{place} is no field of this request"
        case "string_pattern_mismatch" if context.get("pattern") == r"\S":
            return f"{place} must not be blank"
        case "union_tag_not_found":
            return "decision is missing"
        case "union_tag_invalid":
            return f"decision must be one of {context.get('expected_tags')}"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}"
