"""The check of the conversation that an agent's journal folds to, by Bedrock's rules."""

import functools
from collections.abc import Iterator

import botocore.session
from botocore.model import Shape

from turnstile_agents.conversation import fold, pending_message
from turnstile_cli.engines.casing import UnknownField, to_wire
from turnstile_cli.models.converse_rules import refusal
from turnstile_cli.verify.kinds import Found, Kind
from turnstile_cli.verify.stored import StoredAgent, why


def check_conversation(agent: StoredAgent) -> Iterator[Found]:
    """Check that Bedrock would accept the conversation that LoadTurn would send."""
    record = agent.record.steps[-1].record
    try:
        conversation = fold(agent.record.steps, agent.record.effects, agent.record.inputs)
        last = conversation.last
        if last and (last.calls or last.children):
            return  # the results come first; until then, LoadTurn sends nothing
        waiting = [
            each.fields["text"]
            for name, each in agent.inputs.items()
            if name not in conversation.folded and each.is_text
        ]
        if last and not waiting:
            waiting = ["…"]  # LoadTurn sends nothing before the user's next input
        for message in pending_message(conversation, waiting):
            conversation.add(message["Role"], message["Content"])
        tool = {"ToolSpec": {"Name": "any", "InputSchema": {"Json": {"type": "object"}}}}
        request = {"Messages": conversation.messages, "ToolConfig": {"Tools": [tool]}}
        refused = refusal(to_wire(request, _converse()))
    except (KeyError, TypeError, ValueError, UnknownField) as error:
        yield Kind.CONVERSATION_BROKEN, record, f"The journal up to here cannot be folded: {why(error)}"
        return
    if refused:
        yield Kind.CONVERSATION_BROKEN, record, f"Bedrock refuses the conversation up to here: {refused.rstrip('.')}"


@functools.cache
def _converse() -> Shape:
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    shape: Shape | None = model.operation_model("Converse").input_shape
    if shape is None:
        raise TypeError("This version of botocore has no input shape for Converse; install a newer one")
    return shape
