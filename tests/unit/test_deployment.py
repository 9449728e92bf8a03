"""What is checked before a deployment, the stack's name, and what is told after it."""

import re

import boto3
import pytest
from botocore.stub import Stubber

from scripts import deployment
from scripts.deployment import LIMITS, STACK, derived_names, problem
from tests.asl.support import ROOT
from turnstile_cli.engines.template import load_template

TEMPLATE = load_template(ROOT / "template.yaml")
LONGEST = min(name.room for name in derived_names(TEMPLATE))


def test_every_name_that_is_made_from_the_stacks_name_is_checked() -> None:
    """Check that no resource outside LIMITS has a name with the stack's name in it."""
    for name, resource in TEMPLATE["Resources"].items():
        for key, value in resource.get("Properties", {}).items():
            if key.endswith("Name") and STACK in str(value):
                assert LIMITS[resource["Type"]][0] == key, name


def test_a_name_that_fits_is_taken_and_a_longer_one_is_not() -> None:
    assert problem("t" * LONGEST, TEMPLATE) == ""
    told = problem("t" * (LONGEST + 1), TEMPLATE)
    assert f"has {LONGEST + 1} characters; it may have {LONGEST}, because AWS takes at most 64 for ttt" in told
    assert "-tool-book_flight_partner. Choose a shorter name" in told


def test_the_page_says_how_long_a_name_may_be() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert re.findall(r"name may have at most (\d+) characters", page) == [str(LONGEST)]


@pytest.mark.parametrize(("name", "status"), [("turnstile", 0), ("turnstile-scripted", 0), ("t" * 60, 1)])
def test_the_check_before(name: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert deployment.main(["before", name]) == status
    assert bool(capsys.readouterr().err) == bool(status)


def test_what_is_told_afterwards() -> None:
    nothing = TEMPLATE["Outputs"]["OperatorHears"]["Value"]["Fn::If"][2]
    with Stubber(boto3.client("cloudformation", region_name="us-east-1")) as stub:
        outputs = [{"OutputKey": "ApiId", "OutputValue": "1"}, {"OutputKey": "OperatorHears", "OutputValue": nothing}]
        stack = {"StackName": "t", "CreationTime": 0, "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}
        stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "t"})
        told = deployment.hears("t", stub.client)
    assert told.startswith("The operator of t hears nothing, unless you have subscribed to OperatorTopic yourself")
