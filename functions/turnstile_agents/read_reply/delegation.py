"""Turns tool uses of `delegate` into the agents that are started."""

from pydantic import ValidationError

from turnstile_agents.built_in import Delegation
from turnstile_agents.read_reply.decisions import decide, fingerprint, invalid, wrong, wrong_arguments
from turnstile_agents.read_reply.reply import ToolUse
from turnstile_agents.record import Answer, Child, Decision, Status, Usage, child_id, step_record
from turnstile_agents.turn import ReadReplyInput


def delegate(asked: ReadReplyInput, uses: list[ToolUse], usage: Usage) -> Decision:
    """Make the decision that starts the children of a reply; `usage` is its cost. Other built-ins in it are refused."""
    agent = asked.agent
    parts: list[tuple[ToolUse, Delegation]] = []
    answers: list[Answer] = []
    for use in uses:
        part = _part(asked, use, len(parts))
        if isinstance(part, str):
            answers.append(wrong(use, part))
        else:
            parts.append((use, part))
    if not parts:
        return invalid(agent, " ".join(answer.text for answer in answers), answers)
    # Divide the tokens and the cost that are left. The agent keeps a share for itself, to work with the results.
    shares = len(parts) + 1
    tokens = agent.limits.tokens - agent.used.tokens - usage.input_tokens - usage.output_tokens
    cost = agent.limits.cost_micro_usd - agent.used.cost_micro_usd - usage.cost_micro_usd
    return decide(
        agent,
        "DELEGATE",
        closes_as=Status.WAITING_FOR_AGENT,
        waits_for=str(agent.step + 1),
        children=[
            Child(
                tool_use_id=use.id,
                agent_id=child_id(agent.agent_id, agent.step + 1, index),
                agent=part.agent,
                goal=part.goal,
                prompt=part.prompt,
                step=step_record(agent.step + 1),
                place=index,
                depth=agent.depth + 1,
                # With nothing left, the limits end this turn before a child is started.
                tokens=max(1, tokens // shares),
                cost_micro_usd=max(1, cost // shares),
            )
            for index, (use, part) in enumerate(parts)
        ],
        answers=answers,
        reflection=" ".join(part.reflection for _, part in parts if part.reflection),
        fingerprint=fingerprint([part.agent, part.goal, part.prompt] for _, part in parts),
    )


def _part(asked: ReadReplyInput, use: ToolUse, parts: int) -> Delegation | str:
    """Return the delegation, or the text that tells the model why it is refused."""
    agent, limits = asked.agent, asked.agent.limits
    if use.name != "delegate":
        return f"Call {use.name} alone."
    if agent.depth >= limits.depth:
        return f"You cannot delegate: you are {agent.depth} agents deep, and at most {limits.depth} may delegate."
    if parts >= agent.children_left:
        return f"You may delegate to at most {limits.children} agents in all. Do it yourself, or go on without it."
    if parts >= limits.calls_per_reply:
        return f"At most {limits.calls_per_reply} calls go into one reply. Call this one again later."
    try:
        part = Delegation.model_validate(use.input)
    except ValidationError as error:
        return wrong_arguments(use, error)
    if part.agent not in asked.delegates:
        return f"There is no agent {part.agent[:100]} to delegate to. Agents: {', '.join(asked.delegates)}."
    return part
