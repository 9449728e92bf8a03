"""The casing of Step Functions' SDK integrations: PascalCase in a machine, the API's own casing on the wire.

Both directions follow botocore's model of the operation, member by member. A document in the model (a tool's input, a
JSON schema) holds the user's own data and is not changed; neither are the keys of a map.
"""

import base64
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape


class UnknownField(Exception):
    """A field that the operation does not have, with its path; Step Functions refuses such a field too."""


def to_wire(value: Any, shape: Shape, path: str = "$") -> Any:
    """Convert the arguments of a task to the API's casing.

    Raises:
        UnknownField: a field is unknown, or not written in PascalCase.
    """
    if isinstance(shape, StructureShape) and isinstance(value, dict) and not shape.is_document_type:
        members = {_pascal(name): (name, member) for name, member in shape.members.items()}
        wire = {}
        for key, item in value.items():
            if key not in members:
                raise UnknownField(f"{path}.{key}")
            name, member = members[key]
            wire[name] = to_wire(item, member, f"{path}.{key}")
        return wire
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [to_wire(item, shape.member, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: to_wire(item, shape.value, f"{path}.{key}") for key, item in value.items()}
    return value


def from_wire(value: Any, shape: Shape) -> Any:
    """Convert an API's answer to a task's casing; a field that the operation's model does not have is left out."""
    if isinstance(shape, StructureShape) and isinstance(value, dict) and not shape.is_document_type:
        return {
            _pascal(name): from_wire(value[name], member) for name, member in shape.members.items() if name in value
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [from_wire(item, shape.member) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: from_wire(item, shape.value) for key, item in value.items()}
    if isinstance(value, bytes):
        # Bytes, such as an image or a provider's encrypted reasoning, become base64: JSON has no bytes.
        return base64.b64encode(value).decode()
    return value


def _pascal(name: str) -> str:
    return name[0].upper() + name[1:]
