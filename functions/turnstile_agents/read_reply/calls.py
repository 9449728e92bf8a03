"""Turns tool uses into the calls that the machine carries out, at once or after an approval."""

from typing import Any

from jsonschema import Draft202012Validator

from turnstile_agents.built_in import BUILT_INS, BuiltIn, offered_built_ins
from turnstile_agents.definition import TIMEOUT_MARGIN
from turnstile_agents.read_reply.decisions import decide, fingerprint, invalid, wrong
from turnstile_agents.read_reply.reply import ToolUse
from turnstile_agents.record import Answer, Call, Decision, Status, effect_record
from turnstile_agents.turn import ReadReplyInput, TurnTool

_SHOWN = 150
"""Characters that are kept of a complaint's beginning, and of its end: it may quote a whole argument."""


def tool_names(asked: ReadReplyInput) -> list[str]:
    """Return the names that the model may call: the tools of the definition, then the built-ins."""
    return [*_own_tools(asked), *_built_ins(asked)]


def choices(asked: ReadReplyInput) -> str:
    """Say what the model may do, in the words of its protocol."""
    if asked.agent.protocol == "tools":
        return f"Tools: {', '.join(tool_names(asked))}."
    actions = ["TOOL_USE", *(arguments.action for arguments in _built_ins(asked).values())]
    return f"Actions: {', '.join(actions)}. Tools: {', '.join(_own_tools(asked))}."


def _own_tools(asked: ReadReplyInput) -> list[str]:
    return [tool.name for tool in asked.tools if not tool.hidden]


def _built_ins(asked: ReadReplyInput) -> dict[str, type[BuiltIn]]:
    return offered_built_ins(asked.agent.depth, bool(asked.delegates and asked.agent.children_left))


def call_tools(asked: ReadReplyInput, uses: list[ToolUse]) -> Decision:
    """Make the decision about the calls of a reply. If one call needs an approval, all calls wait for it."""
    agent, tools = asked.agent, {tool.name: tool for tool in asked.tools}
    calls: list[Call] = []
    answers: list[Answer] = []
    for use in uses:
        if complaint := _complaint(asked, use, tools, len(calls)):
            answers.append(wrong(use, complaint))
            continue
        calls.append(_call(use, tools, len(calls), effect_record(agent.step + 1, len(calls))))
    if not calls:
        return invalid(agent, " ".join(answer.text for answer in answers), answers)
    common: dict[str, Any] = {
        "calls": calls,
        "answers": answers,
        "fingerprint": fingerprint([call.name, call.input] for call in calls),
    }
    if any(call.approval for call in calls):
        waits_for = str(agent.step + 1)
        return decide(agent, "ASK_APPROVAL", closes_as=Status.WAITING_FOR_APPROVAL, waits_for=waits_for, **common)
    return decide(agent, "TOOL_USE", status=Status.TOOL_EXECUTION_PENDING, **common)


def _brief(text: str) -> str:
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]} … {text[-_SHOWN:]}"


def _call(use: ToolUse, tools: dict[str, TurnTool], index: int, key: str, alternative: int = 0) -> Call:
    """Return the call of a tool, or of its alternative with this number; the later alternatives are nested in it."""
    asked = tools[use.name]
    tool = tools[asked.alternatives[alternative - 1]] if alternative else asked
    more = alternative < len(asked.alternatives)
    other = _call(use, tools, index, key, alternative + 1) if more else None
    return Call(
        index=index,
        tool_use_id=use.id,
        name=tool.name,
        function=tool.function,
        effect=tool.effect,
        input=use.input,
        key=f"{key}#ALT{alternative}" if alternative else key,
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
        alternative=other,
        # The approver cannot be asked between two attempts, so an approval covers the alternatives too.
        approval=_needs_approval(tool, use.input) or bool(other and other.approval),
    )


def _needs_approval(tool: TurnTool, arguments: Any) -> bool:
    if isinstance(tool.approval, str):
        return tool.approval == "always"
    return Draft202012Validator(tool.approval).is_valid(arguments)


def _complaint(asked: ReadReplyInput, use: ToolUse, tools: dict[str, TurnTool], calls: int) -> str:
    """Say what is wrong with a tool use; empty if it can be carried out."""
    if use.name in BUILT_INS:
        return "Call delegate without other tools." if use.name == "delegate" else f"Call {use.name} alone."
    if use.name not in tools or tools[use.name].hidden:
        return f"There is no tool {_brief(use.name)}. {choices(asked)}"
    limit = asked.agent.limits.calls_per_reply
    if calls >= limit:
        return f"At most {limit} calls go into one reply. Call this one again in the next."
    errors = Draft202012Validator(asked.schema_of(tools[use.name])).iter_errors(use.input)
    found = [f"{'.'.join(map(str, error.absolute_path)) or 'arguments'}: {_brief(error.message)}" for error in errors]
    return f"Wrong arguments for {use.name}: {'; '.join(sorted(found))}." if found else ""
