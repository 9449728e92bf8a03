"""Names the caller behind an event, and says whether that name can be relied on. Pure."""

from typing import Annotated

from pydantic import Field

from turnstile_agents.border import read_object
from turnstile_agents.conversation import Item
from turnstile_agents.events import API_SOURCE
from turnstile_agents.record import BY_LIMIT, Model


class Caller(Model):
    """A caller as an event named it."""

    by: Annotated[str, Field(description="An IAM principal's ARN, a token's subject, or what the event's sender says")]
    source: Annotated[str, Field(description="The Source of the event")]
    verified: Annotated[
        bool, Field(description="Whether the HTTP API named the caller. Any other name is the claim of a sender")
    ]

    @property
    def text(self) -> str:
        """The caller for people to read."""
        return f"by {self.by}" if self.verified else f"by {self.by} (claimed)"


def caller_of(item: Item) -> Caller | None:
    """Read the caller of an item that names one: STATE, or an operator's RECOVERY. None if no caller was named."""
    return _caller(item["by"], item["source"])


def caller_of_input(item: Item) -> Caller | None:
    """Read the caller of an INPUT item, which keeps the event's detail as it came. None if no caller was named."""
    by = read_object(item["detail"]).get("by", "")
    return _caller(by if isinstance(by, str) else "", item["source"])


def _caller(by: str, source: str) -> Caller | None:
    if not by:
        return None
    # A sender on the bus may write a longer name. It is cut where it is shown.
    shown = by if len(by) <= BY_LIMIT else f"{by[: BY_LIMIT - 1]}…"
    return Caller(by=shown, source=source, verified=source == API_SOURCE)
