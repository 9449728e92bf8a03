"""Reads the record for the Lambdas."""

from functools import cache

from turnstile_agents.definition import Definition
from turnstile_agents.dynamodb import reading_client
from turnstile_agents.environment import TableEnvironment
from turnstile_agents.errors import InvalidRecord
from turnstile_agents.table import AgentTable


@cache
def table() -> AgentTable:
    """Return the table that the function's environment names."""
    return AgentTable(reading_client(), TableEnvironment.read().table_name)


@cache
def read_definition(name: str, version: int) -> Definition:
    """Read one version of a definition, once, because it never changes. Raises InvalidRecord if it does not exist."""
    definition = table().definition(name, version)
    if definition is None:
        raise InvalidRecord(f"Version {version} of the definition {name} is no longer in the table.")
    return definition
