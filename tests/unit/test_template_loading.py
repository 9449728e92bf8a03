"""The embedded engine's changes to a template: the listed adaptations, and no others."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.template import (
    BUCKET,
    UNKNOWN_TYPES,
    load_template,
    package,
    without_unknown_types,
    zip_folder,
)

MACHINE = """
StartAt: Only
States:
  Only: { Type: Pass, Parameters: { table: "${Table}", "a.$": "$.a" }, ResultPath: null, End: true }  # a comment
"""
TEMPLATE = """
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: { CodeUri: functions/, Tracing: Active }
Resources:
  Tool: { Type: AWS::Serverless::Function, Properties: { Handler: tool.handler.handler } }
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: asl/machine.asl.yaml
      DefinitionSubstitutions: { Table: !Ref Table, Arn: !GetAtt Tool.Arn, Name: !Sub "${AWS::StackName}-x" }
      Policies: [{ Version: 2012-10-17, Statement: [] }]
Outputs:
  Arn: { Value: !If [Never, !Ref Machine, !GetAtt Machine.Arn] }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the path of a template, with all files that it refers to."""
    for name, text in {
        "template.yaml": TEMPLATE,
        "asl/machine.asl.yaml": MACHINE,
        "functions/tool/handler.py": "handler = print\n",
        "functions/tool/__pycache__/handler.pyc": "no",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path / "template.yaml"


def test_nothing_changes_but_where_the_files_are(project: Path) -> None:
    adapted, original = package(project).template, load_template(project)
    assert adapted["Globals"]["Function"].pop("CodeUri") == {"Bucket": BUCKET, "Key": "functions.zip"}
    machine = adapted["Resources"]["Machine"]["Properties"]
    assert machine.pop("DefinitionUri") == {"Bucket": BUCKET, "Key": "machine.asl.json"}
    del original["Globals"]["Function"]["CodeUri"], original["Resources"]["Machine"]["Properties"]["DefinitionUri"]
    assert adapted == original


def test_a_definition_keeps_its_content(project: Path) -> None:
    assert json.loads(package(project).objects["machine.asl.json"]) == yaml.safe_load(MACHINE)


def test_the_redrive_count_is_filled_in(project: Path) -> None:
    state = {"Type": "Pass", "Parameters": {"a.$": "States.Array($$.Execution.RedriveCount)"}, "End": True}
    text = yaml.safe_dump({"StartAt": "Only", "States": {"Only": state}})
    (project.parent / "asl" / "machine.asl.yaml").write_text(text, "utf-8")
    definition = json.loads(package(project).objects["machine.asl.json"])
    assert definition["States"]["Only"]["Parameters"] == {"a.$": "States.Array(0)"}


def test_the_code_is_zipped_as_it_stands(project: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(package(project).objects["functions.zip"])) as archive:
        assert archive.namelist() == ["tool/handler.py"]
        assert archive.read("tool/handler.py") == b"handler = print\n"


def test_the_same_code_gives_the_same_zip(project: Path) -> None:
    folder = project.parent / "functions"
    before = zip_folder(folder)
    os.utime(folder / "tool" / "handler.py", (1, 1))
    (folder / "tool" / "handler.py").chmod(0o600)
    assert zip_folder(folder) == before


def test_short_tags_and_dates_become_json(project: Path) -> None:
    body = json.loads(package(project).body)
    assert body["Resources"]["Machine"]["Properties"]["DefinitionSubstitutions"] == {
        "Table": {"Ref": "Table"},
        "Arn": {"Fn::GetAtt": ["Tool", "Arn"]},
        "Name": {"Fn::Sub": "${AWS::StackName}-x"},
    }
    assert body["Resources"]["Machine"]["Properties"]["Policies"][0]["Version"] == "2012-10-17"
    assert body["Outputs"]["Arn"]["Value"]["Fn::If"] == [
        "Never",
        {"Ref": "Machine"},
        {"Fn::GetAtt": ["Machine", "Arn"]},
    ]


@pytest.mark.parametrize("kind", UNKNOWN_TYPES)
@pytest.mark.parametrize(
    "value",
    [
        {"Ref": "Odd"},
        {"Fn::GetAtt": ["Odd", "Arn"]},
        {"Fn::GetAtt": "Odd.Arn"},
        {"Fn::Sub": "x-${Odd.Arn}"},
        {"Fn::Sub": ["${a}", {"a": {"Ref": "Odd"}}]},
        {"Fn::Join": ["", ["x", {"Ref": "Odd"}]]},
    ],
)
def test_an_unknown_type_goes_with_the_outputs_that_need_it(kind: str, value: Any) -> None:
    kept = {"Type": "AWS::SQS::Queue"}
    template = {
        "Resources": {"Odd": {"Type": kind}, "Kept": kept},
        "Outputs": {"Odd": {"Value": value}, "Kept": {"Value": {"Fn::Sub": "${Kept}-Odd"}}},
    }
    adapted = without_unknown_types(template)
    assert adapted["Resources"] == {"Kept": kept}
    assert set(adapted["Outputs"]) == {"Kept"}


def test_a_missing_definition_is_named(project: Path) -> None:
    missing = project.parent / "asl" / "machine.asl.yaml"
    missing.unlink()
    with pytest.raises(EngineError) as error:
        package(project)
    assert str(error.value) == f"{project}: Resources.Machine names the definition {missing}, which does not exist"


def test_missing_code_is_named(project: Path) -> None:
    project.write_text(TEMPLATE.replace("CodeUri: functions/", "CodeUri: lambdas/"), "utf-8")
    with pytest.raises(EngineError, match=r"Globals.Function.CodeUri names the folder .*lambdas, which does not exist"):
        package(project)


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"template.yaml cannot be read: No such file or directory"):
        package(tmp_path / "template.yaml")


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("template.yaml", "Resources: [", "template.yaml is no valid YAML"),
        ("template.yaml", "Resource: {}", "template.yaml is no CloudFormation template: it has no Resources"),
        ("asl/machine.asl.yaml", "StartAt: X", "machine.asl.yaml is no state machine: it has no States"),
    ],
)
def test_a_file_of_another_kind_is_named(project: Path, file: str, text: str, problem: str) -> None:
    (project.parent / file).write_text(text, "utf-8")
    with pytest.raises(EngineError, match=problem):
        package(project)
