"""Write a template for tests on AWS: template.yaml with a model that replies as the scenarios say.

    .venv/bin/python -m tests.live.stack FOLDER

No parameter of a deployed stack can send an SDK integration to another endpoint. So the machines of this stack differ
from asl/ in one way: where asl/ asks Bedrock, they call a Lambda with the same Parameters, and get the same result. A
test checks that there is no other difference.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from turnstile_cli.engines.template import load_template
from turnstile_cli.machines.definition import load_machine

ROOT = Path(__file__).parents[2]
CONVERSE = "arn:aws:states:::aws-sdk:bedrockruntime:converse"
MODEL = "ScriptedModel"
OUTPUT = f"{MODEL}Arn"
"""The substitution in the machines, and the stack's output that tells a test that it may use the stack."""
FUNCTION: dict[str, Any] = {
    "Type": "AWS::Serverless::Function",
    "Properties": {
        # Named as a tool: the machines may call every tool, so that no role changes.
        "FunctionName": {"Fn::Sub": "${AWS::StackName}-tool-scripted_model"},
        "Handler": "handler.handler",
        "CodeUri": "model",
        "Timeout": 30,
    },
}
PACKAGED = ("__init__.py", "files.py", "loader.py", "models", "engines/__init__.py", "engines/casing.py")
"""What the function needs of the command line's package."""


def write_stack(folder: Path) -> Path:
    """Write the template and the files that it refers to into a folder; return the template's path."""
    template = load_template(ROOT / "template.yaml")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    template["Globals"]["Function"]["CodeUri"] = str(ROOT / "functions")
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::StateMachine":
            _redirect(resource["Properties"], folder)
    template["Resources"][MODEL] = FUNCTION
    template["Outputs"][OUTPUT] = {"Value": {"Fn::GetAtt": [MODEL, "Arn"]}}
    _package_model(folder / "model")
    path = folder / "template.json"
    path.write_text(json.dumps(template, indent=2, default=str), "utf-8")
    return path


def _redirect(properties: dict[str, Any], folder: Path) -> None:
    machine = load_machine(ROOT / properties["DefinitionUri"])
    asking = [task for task in machine.tasks() if task.fields["Resource"] == CONVERSE]
    properties["DefinitionUri"] = str(ROOT / properties["DefinitionUri"])
    if asking:
        for task in asking:
            task.fields["Resource"] = f"${{{OUTPUT}}}"
        definition = folder / f"{machine.name}.asl.json"
        definition.write_text(json.dumps(machine.definition, indent=2), "utf-8")
        properties["DefinitionUri"] = str(definition)
        properties["DefinitionSubstitutions"] |= {OUTPUT: {"Fn::GetAtt": [MODEL, "Arn"]}}


def _package_model(folder: Path) -> None:
    package = folder / "turnstile_cli"
    for name in PACKAGED:
        source = ROOT / "workflows" / "turnstile_cli" / name
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, package / name)
    shutil.copytree(ROOT / "workflows" / "agents", package / "project" / "workflows" / "agents")
    shutil.copytree(ROOT / "functions" / "turnstile_agents", folder / "turnstile_agents")
    shutil.copy(Path(__file__).parent / "model" / "handler.py", folder / "handler.py")
    (folder / "requirements.txt").write_text("pydantic>=2.13,<3\npyyaml>=6.0.3,<7\n", "utf-8")


if __name__ == "__main__":
    print(write_stack(Path(sys.argv[1]).resolve()))
