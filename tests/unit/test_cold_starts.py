"""The figures of scripts/cold_starts.py: every function is found, and what must be small stays small."""

from scripts.cold_starts import AWS, functions, probe
from turnstile_cli.engines.template import load_template
from turnstile_cli.files import TEMPLATE

FOUND = functions(load_template(TEMPLATE))


def test_every_function_of_the_template_is_measured() -> None:
    assert FOUND["LoadTurn"].module == "turnstile_agents.load_turn.handler"
    assert FOUND["LoadWatch"].variables["STALE_MINUTES"] == "15"
    assert {"ReadReply", "LoadRecovery", "BookFlight", "Api"} < FOUND.keys()


def test_a_function_without_any_aws_call_does_not_import_boto3() -> None:
    reply = FOUND["ReadReply"]
    assert not probe(f"import {reply.module}", AWS | reply.variables).boto3
