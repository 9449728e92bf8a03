"""Names the caller behind an event, and says whether that name can be relied on. Pure."""

from typing import Annotated

from pydantic import Field

from turnstile_agents.events import API_SOURCE
from turnstile_agents.items import InputItem
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


def caller_of_input(item: InputItem) -> Caller | None:
    """Read the caller of an input, which keeps the event's detail as it came. None if no caller was named."""
    by = item.fields.get("by", "")
    return caller_of(by if isinstance(by, str) else "", item.source)


def caller_of(by: str, source: str) -> Caller | None:
    """Name the caller that STATE or a recovery holds as `by` and `source`. None if no caller was named."""
    if not by:
        return None
    # A sender on the bus may write a longer name. It is cut where it is shown.
    shown = by if len(by) <= BY_LIMIT else f"{by[: BY_LIMIT - 1]}…"
    return Caller(by=shown, source=source, verified=source == API_SOURCE)
