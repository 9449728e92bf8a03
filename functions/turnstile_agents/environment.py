"""The environment variables of the functions, a model for each function that reads some."""

import os
from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveInt


class Environment(BaseModel):
    """The variables that a function reads: `table_name` is TABLE_NAME."""

    # The message of an error must not show the other variables: the function's credentials are among them.
    model_config = ConfigDict(alias_generator=str.upper, frozen=True, hide_input_in_errors=True)

    @classmethod
    def read(cls) -> Self:
        """Read the variables. Raises ValueError with the names of the missing and the wrong variables."""
        return cls.model_validate(dict(os.environ))


class TableEnvironment(Environment):
    """The variables of LoadTurn."""

    table_name: str


class RecoveryEnvironment(TableEnvironment):
    """The variables of LoadRecovery."""

    operator_reminder_seconds: PositiveInt
    operator_reminders: int


class WatchEnvironment(TableEnvironment):
    """The variables of LoadWatch."""

    stale_minutes: int
    approval_minutes: int
    watch_minutes: PositiveInt


class ApiEnvironment(TableEnvironment):
    """The variables of Api."""

    bus_name: str
    default_agent: str


class ToolEnvironment(Environment):
    """The variables of every tool that writes."""

    idempotency_table: str
