"""JSON schemas for a model to read."""

import copy
from functools import cache
from typing import Any

from pydantic import BaseModel


def schema_for_model(model: type[BaseModel]) -> dict[str, Any]:
    """Return a pydantic model's schema without titles: pydantic titles every field with its own name.

    Each call returns a copy that the caller may change.
    """
    return copy.deepcopy(_schema(model))


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema: dict[str, Any] = _without_titles(model.model_json_schema())
    return schema


def offered_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's schema as every model family takes it: only `type`, `properties`, `required`, no references.

    Amazon Nova's guide names these three for the top level. ReadReply still checks against the whole schema: `TurnTool`
    carries the rest of it.
    """
    definitions = schema.get("$defs", {})
    return {
        "type": "object",
        "properties": _resolved(schema.get("properties", {}), definitions),
        **({"required": schema["required"]} if "required" in schema else {}),
    }


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions:
            # Leave this definition out below, so that a definition that refers to itself ends.
            others = {other: part for other, part in definitions.items() if other != name}
            beside = {key: part for key, part in schema.items() if key != "$ref"}
            return {**_resolved(definitions[name], others), **_resolved(beside, definitions)}
        return {key: _resolved(part, definitions) for key, part in schema.items()}
    if isinstance(schema, list):
        return [_resolved(part, definitions) for part in schema]
    return schema


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        # A property that is called `title` is an object, not a string.
        return {
            name: _without_titles(part)
            for name, part in schema.items()
            if not (name == "title" and isinstance(part, str))
        }
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    return schema
