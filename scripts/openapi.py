"""Write docs/openapi.json: the HTTP API as its own routes describe it.

.venv/bin/python scripts/openapi.py
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler.openapi.models import APIKey, APIKeyIn, HTTPBearer
from pydantic.json_schema import models_json_schema

from turnstile_agents.api.handler import app
from turnstile_agents.view import AgentView, _Sparse

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "openapi.json"
REFERENCE = "#/components/schemas/"
NULL = {"type": "null"}

DESCRIPTION = (
    "Starts agents, speaks to them, decides for them and reads what they do. Every request is authorised: signed with "
    "AWS Signature Version 4, or with a bearer token where the stack has a JWT authoriser. 202 says that the request "
    "is on its way; the agent's record shows its result."
)


def document() -> dict[str, Any]:
    """Build the OpenAPI document."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    made: dict[str, Any] = json.loads(
        app.get_openapi_json_schema(
            title="Turnstile",
            version=project["version"],
            description=DESCRIPTION,
            security_schemes={
                "signature": APIKey(name="Authorization", in_=APIKeyIn.header, description="AWS Signature Version 4"),
                "token": HTTPBearer(bearerFormat="JWT", description="Where the stack has a JWT authoriser"),
            },
            security=[{"signature": []}, {"token": []}],
        )
    )
    made["components"]["securitySchemes"]["signature"]["x-amazon-apigateway-authtype"] = "awsSigv4"
    for operation in (operation for path in made["paths"].values() for operation in path.values()):
        _keep_what_is_answered(operation)
        for parameter in operation.get("parameters", []):
            parameter["schema"] = _without_null(parameter["schema"])
    schemas = made["components"]["schemas"]
    for unused in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(_view())
    return made


def _keep_what_is_answered(operation: dict[str, Any]) -> None:
    """Remove the answers that Powertools adds and this API does not give.

    Powertools describes a 422 where this API answers 400, and a 500 of another shape.
    """
    operation["responses"] = {
        status: response
        for status, response in sorted(operation["responses"].items())
        if _schema(response) != {"$ref": REFERENCE + "HTTPValidationError"}
    }
    broken = operation["responses"]["500"]
    broken["description"] = "Something is wrong here; the function's log tells what"
    _schema(broken)["$ref"] = REFERENCE + "Problem"


def _schema(response: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    return schema


def _view() -> dict[str, Any]:
    """Build the schemas of an agent. Its serializer leaves out empty fields, which pydantic cannot know."""
    template = REFERENCE + "{model}"
    _, made = models_json_schema([(AgentView, "validation")], ref_template=template)
    sparse = {model.__name__ for model in _Sparse.__subclasses__()}
    for name, schema in made["$defs"].items():
        if name in sparse:
            nullable = [field for field, value in schema["properties"].items() if NULL in value.get("anyOf", [])]
            schema["required"] = [field for field in schema["required"] if field not in nullable]
            schema["properties"] = {field: _without_null(value) for field, value in schema["properties"].items()}
    definitions: dict[str, Any] = made["$defs"]
    return definitions


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from a schema: a field without a value is left out, never null."""
    kept = [choice for choice in schema.get("anyOf", []) if choice != NULL]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return {**kept[0], **rest} if len(kept) == 1 else schema


def text() -> str:
    """Return the text of the document's file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text(), "utf-8")
