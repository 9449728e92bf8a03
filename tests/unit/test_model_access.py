"""The default model: a global inference profile that a turn may ask in every Region, and that the docs explain."""

import re
from typing import Any

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from tests.asl.support import ROOT
from turnstile_cli.engines.template import load_template

TEMPLATE = load_template(ROOT / "template.yaml")
MODEL = TEMPLATE["Parameters"]["ModelId"]["Default"]
ACCOUNT = "123456789012"


def statement(region: str) -> dict[str, Any]:
    """Return the statement that lets a turn ask the model, in a stack of this Region."""
    [policy] = TEMPLATE["Resources"]["AgentTurnRole"]["Properties"]["Policies"]
    [found] = [each for each in policy["PolicyDocument"]["Statement"] if each["Action"] == "bedrock:InvokeModel"]
    values = {"AWS::Partition": "aws", "AWS::Region": region, "AWS::AccountId": ACCOUNT}
    arns = [re.sub(r"\$\{([^}]+)\}", lambda name: values[name[1]], each["Fn::Sub"]) for each in found["Resource"]]
    return {"Effect": found["Effect"], "Action": found["Action"], "Resource": arns}


@pytest.mark.parametrize("region", ["us-east-1", "ap-southeast-2"])
@pytest.mark.parametrize("model", [MODEL, "eu.anthropic.claude-sonnet-4-6"])
def test_a_turn_may_ask_an_inference_profile(model: str, region: str) -> None:
    """Check the ARNs that Bedrock checks: the profile, its model in a Region, and for a global one without a Region."""
    geography, _, base = model.partition(".")
    needed = [f"arn:aws:bedrock:{region}:{ACCOUNT}:inference-profile/{model}"]
    needed += [f"arn:aws:bedrock:{each}::foundation-model/{base}" for each in (region, "eu-west-1")]
    needed += [f"arn:aws:bedrock:::foundation-model/{base}"] if geography == "global" else []
    policy = parse_policy_document({"Version": "2012-10-17", "Statement": [statement(region)]})
    for arn in needed:
        context = EvalContext(
            principal_arn=f"arn:aws:iam::{ACCOUNT}:role/turnstile-AgentTurnRole-1",
            principal_type="AssumedRole",
            principal_account=ACCOUNT,
            action="bedrock:InvokeModel",
            resource_arn=arn,
            region=region,
            service_context={},
        )
        assert str(evaluate(context, [policy]).decision) == "Allow", arn


def test_the_page_names_the_default_model() -> None:
    assert MODEL.startswith("global.")
    section = (ROOT / "docs/operations.md").read_text("utf-8").split("\n## Access to the model\n")[1].split("\n## ")[0]
    assert section.count(MODEL) == len(re.findall(r"global\.[a-z]+\.", section)) == 2
