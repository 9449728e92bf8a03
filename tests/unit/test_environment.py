"""The environment of each function: its models read exactly the variables that the template sets."""

import pytest

from tools.inventory import BookingsEnvironment, FlightsEnvironment
from turnstile_agents.environment import (
    ApiEnvironment,
    Environment,
    RecoveryEnvironment,
    TableEnvironment,
    ToolEnvironment,
    WatchEnvironment,
)
from turnstile_cli.engines.template import load_template
from turnstile_cli.files import TEMPLATE

MODELS: dict[str, tuple[type[Environment], ...]] = {
    "LoadTurn": (TableEnvironment,),
    "ReadReply": (),
    "LoadRecovery": (RecoveryEnvironment,),
    "LoadWatch": (WatchEnvironment,),
    "Api": (ApiEnvironment,),
    "GetFlightInfo": (FlightsEnvironment,),
    "BookFlight": (BookingsEnvironment, ToolEnvironment),
    "BookFlightPartner": (BookingsEnvironment, ToolEnvironment),
    "CancelFlight": (BookingsEnvironment, ToolEnvironment),
    "FindBooking": (BookingsEnvironment,),
}


def variables() -> dict[str, set[str]]:
    """Return the variables that the template sets for each function, without Powertools' own."""
    resources = load_template(TEMPLATE)["Resources"]
    functions = {name: each for name, each in resources.items() if each["Type"] == "AWS::Serverless::Function"}
    return {
        name: {
            variable
            for variable in each["Properties"].get("Environment", {}).get("Variables", {})
            if not variable.startswith("POWERTOOLS_")
        }
        for name, each in functions.items()
    }


def test_each_function_reads_what_the_template_sets() -> None:
    read = {
        name: {str(f.alias) for model in models for f in model.model_fields.values()} for name, models in MODELS.items()
    }
    assert read == variables()


def test_no_level_of_the_logs_silences_the_metrics() -> None:
    """Check that only Powertools filters: with LogFormat JSON, Lambda drops lines without a level, such as metrics."""
    template = load_template(TEMPLATE)
    functions = [each for each in template["Resources"].values() if each["Type"] == "AWS::Serverless::Function"]
    every = template["Globals"]["Function"]
    assert every["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == {"Ref": "LogLevel"}
    for properties in (every, *(each["Properties"] for each in functions)):
        assert not {"LogFormat", "ApplicationLogLevel"} & properties.get("LoggingConfig", {}).keys()


def test_a_missing_variable_is_named_and_no_other_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show")
    monkeypatch.setenv("STALE_MINUTES", "many")
    with pytest.raises(ValueError, match="TABLE_NAME") as error:
        WatchEnvironment.read()
    assert "STALE_MINUTES" in str(error.value)
    assert "do-not-show" not in str(error.value) and "many" not in str(error.value)
