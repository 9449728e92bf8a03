"""The models of the items have the attributes that the machines write."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.asl.support import MACHINES
from turnstile_agents.items import (
    SCHEMA_VERSION,
    AgentState,
    Effect,
    InputItem,
    Item,
    ModelStep,
    Question,
    RecoveryStep,
    ToolsStep,
    UserStep,
)

MODELS: dict[str, type[Item]] = {
    "CreateAgent STATE": AgentState,
    "CreateAgent STEP#000001": UserStep,
    "CheckpointDecision $.step.record": ModelStep,
    "CheckpointResults $.decision.resultsRecord": ToolsStep,
    "RecordRecovery $.record": RecoveryStep,
    "ReserveEffect $.call.key": Effect,
    "ReserveUndo $.undo.undoKey": Effect,
    "WakeAgent $.input.key.record": InputItem,
    "StoreInput $.input.key.record": InputItem,
    "AskOperator OPERATOR": Question,
}
"""The model of the item that each Put writes, by the state and the item's `record`."""
NOT_READ = {"announce", "owner"}
"""Attributes that only the machines and the outbox read."""


def puts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the item of each Put in a state's parameters."""
    if isinstance(value, dict):
        if isinstance(value.get("Item"), dict):
            yield value["Item"]
        for part in value.values():
            yield from puts(part)
    elif isinstance(value, list):
        for part in value:
            yield from puts(part)


WRITTEN = {
    f"{state.name} {next(iter(item['record'].values()))}": item
    for machine in MACHINES.values()
    for state in machine.states()
    for item in puts(state.fields.get("Parameters", {}))
}


def test_every_put_has_a_model() -> None:
    assert WRITTEN.keys() == MODELS.keys()


@pytest.mark.parametrize("where", MODELS)
def test_a_put_writes_the_attributes_of_its_model(where: str) -> None:
    read = {field.alias for field in MODELS[where].model_fields.values()}
    assert WRITTEN[where].keys() - read <= NOT_READ
    assert read <= WRITTEN[where].keys()


def test_the_machine_writes_the_version_that_the_code_knows() -> None:
    assert WRITTEN["CreateAgent STATE"]["schemaVersion"] == {"N": str(SCHEMA_VERSION)}
