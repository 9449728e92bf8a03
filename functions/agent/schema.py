"""JSON schemas for a model to read."""

from typing import Any

from pydantic import BaseModel


def schema_for_model(model: type[BaseModel]) -> dict[str, Any]:
    """Of a pydantic model, without titles: pydantic titles every field with its own name, which is noise."""
    schema: dict[str, Any] = _without_titles(model.model_json_schema())
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
