"""Package template.yaml and asl/ for the embedded engine.

The files themselves are not changed: AWS gets them as they are. Only this list is adapted while loading:

1. As `sam package` does, a `CodeUri` folder becomes a zip in a bucket, a `DefinitionUri` file an object in it. The
   definition goes there as JSON with the same content, because MiniStack reads no YAML.
2. `$$.Execution.RedriveCount` becomes 0: MiniStack has no RedriveExecution and no such field.
3. Resources of the `UNKNOWN_TYPES` are left out, with the outputs that refer to them.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from samtranslator.yaml_helper import intrinsics_multi_constructor

from turnstile_cli.engines.errors import EngineError
from turnstile_cli.loader import SafeLoader

BUCKET = "turnstile-artifacts"
UNKNOWN_TYPES = (
    "AWS::CloudWatch::CompositeAlarm",  # MiniStack 1.5.33 refuses the whole stack for one unknown type
)
NO_REDRIVE = ("$$.Execution.RedriveCount", "0")
"""The redrive count in a definition, and its replacement on an engine without redrives."""


@dataclass(frozen=True)
class Package:
    """The package to deploy: the adapted template, and the objects that it expects in `BUCKET`."""

    template: dict[str, Any]
    objects: dict[str, bytes]

    @property
    def body(self) -> str:
        """The template's text for CreateStack."""
        return json.dumps(self.template, default=str)  # YAML reads `Version: 2012-10-17` as a date


class _CloudFormationLoader(SafeLoader):  # type: ignore[misc,valid-type]
    """YAML with CloudFormation's short tags: `!Ref X` becomes `{"Ref": "X"}`."""


_CloudFormationLoader.add_multi_constructor("!", intrinsics_multi_constructor)


def load_template(path: Path) -> dict[str, Any]:
    """Load the template from its file, unchanged.

    Raises:
        EngineError: the file is missing, or is no template.
    """
    template = _read_yaml(path, _CloudFormationLoader)
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise EngineError(f"{path} is no CloudFormation template: it has no Resources")
    return template


def package(path: Path) -> Package:
    """Adapt the template at `path` by the list above, and package the files that it names.

    Raises:
        EngineError: a file is missing or cannot be read; the message names the file and the place that names it.
    """
    template = load_template(path)
    objects: dict[str, bytes] = {}
    for place, properties in _functions(template):
        if isinstance(properties.get("CodeUri"), str):
            folder = path.parent / properties["CodeUri"]
            if not folder.is_dir():
                raise EngineError(f"{path}: {place}.CodeUri names the folder {folder}, which does not exist")
            key = f"{folder.name}.zip"
            objects[key] = objects.get(key) or zip_folder(folder)
            properties["CodeUri"] = {"Bucket": BUCKET, "Key": key}
    for name, resource in _resources(template, "AWS::Serverless::StateMachine"):
        uri = resource["Properties"].get("DefinitionUri")
        if isinstance(uri, str):
            definition = load_definition(path.parent / uri, wanted_by=f"{path}: Resources.{name}")
            key = f"{Path(uri).name.removesuffix('.yaml')}.json"
            objects[key] = json.dumps(definition).replace(*NO_REDRIVE).encode()
            resource["Properties"]["DefinitionUri"] = {"Bucket": BUCKET, "Key": key}
    return Package(without_unknown_types(template), objects)


def load_definition(path: Path, wanted_by: str) -> dict[str, Any]:
    """Load a state machine's definition from its YAML.

    Raises:
        EngineError: the file is missing, or is no definition.
    """
    if not path.is_file():
        raise EngineError(f"{wanted_by} names the definition {path}, which does not exist")
    definition = _read_yaml(path, SafeLoader)
    if not isinstance(definition, dict) or not isinstance(definition.get("States"), dict):
        raise EngineError(f"{path} is no state machine: it has no States")
    return definition


def without_unknown_types(template: dict[str, Any]) -> dict[str, Any]:
    """Remove the resources that MiniStack does not know, and the outputs that refer to them."""
    dropped = {name for kind in UNKNOWN_TYPES for name, _ in _resources(template, kind)}
    kept = {name: resource for name, resource in template["Resources"].items() if name not in dropped}
    outputs = {
        name: output for name, output in template.get("Outputs", {}).items() if not dropped & set(references(output))
    }
    return {**template, "Resources": kept, "Outputs": outputs}


def zip_folder(folder: Path) -> bytes:
    """Zip the folder's files: the same files give the same bytes, on every machine and at any time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def _read_yaml(path: Path, loader: type[yaml.SafeLoader]) -> Any:
    try:
        return yaml.load(path.read_text("utf-8"), loader)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise EngineError(f"{path} is no valid YAML: {error}") from error


def _functions(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each place in the template that may have a CodeUri, with its properties."""
    yield "Globals.Function", template.get("Globals", {}).get("Function", {})
    for name, resource in _resources(template, "AWS::Serverless::Function"):
        yield f"Resources.{name}", resource["Properties"]


def _resources(template: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource


def references(value: Any) -> Iterator[str]:
    """Yield the logical ids that a part of the template refers to."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "Ref":
                yield item
            elif key == "Fn::GetAtt":
                yield item[0] if isinstance(item, list) else item.split(".")[0]
            elif key == "Fn::Sub":
                text = item[0] if isinstance(item, list) else item
                yield from re.findall(r"\$\{([A-Za-z0-9]+)", text)
            yield from references(item)
