"""Turns a reply into a decision. Pure: all of its data comes with the request."""

from dataclasses import replace

from pydantic import ValidationError

from turnstile_agents.border import DEPTH, clean, clean_text, nests_deeper
from turnstile_agents.built_in import BUILT_INS, AskUser, BuiltIn, Complete, GiveUp, UpdatePlan, spoken
from turnstile_agents.read_reply.actions import NotAnAction, use_in_text
from turnstile_agents.read_reply.calls import call_tools, choices, tool_names
from turnstile_agents.read_reply.decisions import decide, invalid, noted, wrong, wrong_arguments
from turnstile_agents.read_reply.delegation import delegate
from turnstile_agents.read_reply.reply import Reply, ToolUse, parse_reply
from turnstile_agents.record import Answer, Decision, PlanStep, Status, step_record
from turnstile_agents.turn import Reading, ReadReplyInput, Step, TurnAgent

_NO_ACTION = {
    "tools": "The reply holds no action. Call a tool; to finish, call `complete`.",
    "json": 'The reply holds no action. Answer with one JSON object {"action": …, "details": …}; to finish, answer '
    "COMPLETE.",
}
_STOPPED = {
    "max_tokens": "The reply was cut off because it was too long. Nothing was carried out. Answer in fewer words.",
    "content_filtered": "The reply was blocked by a content filter. Nothing was carried out. Try another way.",
    "guardrail_intervened": "The reply was blocked by a guardrail. Nothing was carried out. Try another way.",
    "malformed_model_output": "The reply was malformed. Nothing was carried out. Answer again.",
    "malformed_tool_use": "The tool use was malformed. Nothing was carried out. Call the tool again.",
    "model_context_window_exceeded": "The conversation no longer fits the model. Nothing was carried out. Finish now.",
}
_TOO_DEEP = f"The arguments nest more than {DEPTH} deep. Nothing was carried out. Call again with flatter arguments."
_NO_USER = "You work for another agent and cannot ask the user. Go on without, or say in {give_up} what you would need."
_DOUBTED = "Finish what is open, or bring the plan up to date; if it cannot be done, ask the user or give up."


def read_reply(asked: ReadReplyInput) -> Reading:
    """Check a reply against the definition's tools, and make the next entry of the journal from it."""
    agent = asked.agent
    reply = parse_reply(asked.reply, asked.model_id, agent.prices)
    decision, plan = _decide(asked, reply)
    step = agent.step + 1
    replans = int(decision.action == "REPLAN")
    messages = [*asked.pending.messages]
    if reply.blocks:
        messages.append({"Role": "assistant", "Content": reply.blocks})
    return Reading(
        agent=_advance(asked, step, decision, reply, plan, replans),
        decision=decision,
        step=Step(
            record=step_record(step),
            previous_step=agent.step,
            messages=messages,
            inputs=asked.pending.inputs,
            usage=reply.usage,
            plan=plan,
            replans=replans,
        ),
    )


def _decide(asked: ReadReplyInput, reply: Reply) -> tuple[Decision, list[PlanStep]]:
    """Return the decision, and the plan as it is after the decision."""
    uses, agent = reply.uses, asked.agent
    if stopped := _STOPPED.get(reply.stop_reason):
        return invalid(agent, stopped, [wrong(use, stopped) for use in uses]), agent.plan
    if not uses:
        try:
            found = use_in_text(reply.text, tool_names(asked), whole=agent.protocol == "tools")
        except NotAnAction as error:
            return invalid(agent, f"{error} {choices(asked)}", []), agent.plan
        if found is None:
            return invalid(agent, f"{_NO_ACTION[agent.protocol]} {choices(asked)}", []), agent.plan
        uses = [found]
    if any(nests_deeper(use.input) for use in uses):
        return invalid(agent, _TOO_DEEP, [wrong(use, _TOO_DEEP) for use in uses]), agent.plan
    uses = [replace(use, name=clean_text(use.name), input=clean(use.input)) for use in uses]
    names = {use.name for use in uses}
    if "delegate" in names and asked.delegates and names <= BUILT_INS.keys():
        return delegate(asked, uses, reply.usage), agent.plan
    if len(uses) == 1 and names <= BUILT_INS.keys():
        return _built_in(asked, uses[0])
    return call_tools(asked, uses), agent.plan


def _built_in(asked: ReadReplyInput, use: ToolUse) -> tuple[Decision, list[PlanStep]]:
    agent = asked.agent
    if use.name == "delegate":
        return _refused(agent, use, f"There is no agent to delegate to. {choices(asked)}")
    if use.name == "ask_user" and agent.depth:
        return _refused(agent, use, _NO_USER.format(give_up=spoken("give_up", agent.protocol)))
    try:
        arguments: BuiltIn = BUILT_INS[use.name].model_validate(use.input)
    except ValidationError as error:
        return _refused(agent, use, wrong_arguments(use, error))
    common = {"tool_use_id": use.id, "reflection": arguments.reflection}
    match arguments:
        case UpdatePlan(steps=steps):
            replaced = bool(agent.plan) and [entry.action for entry in steps] != [entry.action for entry in agent.plan]
            kept = [Answer(tool_use_id=use.id, text="The plan is kept.")]
            return decide(agent, "REPLAN" if replaced else "PLAN", answers=kept, **common), steps
        case AskUser(question=question):
            return decide(agent, "ASK_USER", message=question, closes_as=Status.WAITING_FOR_INPUT, **common), agent.plan
        case Complete(result=result) if agent.doubts and agent.doubted:
            return decide(
                agent, "MISALIGNED", message=" ".join(agent.doubts), answers=[noted(use)], **common
            ), agent.plan
        case Complete() if agent.doubts:
            message = f"Before you finish: {' '.join(agent.doubts)} {_DOUBTED}"
            return decide(agent, "INVALID", message=message, answers=[wrong(use, message)], doubted=True), agent.plan
        case Complete(result=result):
            return decide(agent, "COMPLETE", message=result, closes_as=Status.COMPLETED, **common), agent.plan
        case GiveUp(reason=reason):
            return decide(agent, "GIVE_UP", message=reason, answers=[noted(use)], **common), agent.plan
    raise TypeError(f"{use.name} is offered to the model, but _built_in does not read it")


def _refused(agent: TurnAgent, use: ToolUse, message: str) -> tuple[Decision, list[PlanStep]]:
    return invalid(agent, message, [wrong(use, message)]), agent.plan


def _advance(
    asked: ReadReplyInput, step: int, decision: Decision, reply: Reply, plan: list[PlanStep], replans: int
) -> TurnAgent:
    """Return the agent as it is once the decision is checkpointed. Folding the journal again gives the same."""
    agent = asked.agent
    used = agent.used
    if decision.fingerprint:
        repeats = used.repeats + 1 if decision.fingerprint == agent.fingerprint else 1
    else:
        repeats = used.repeats
    return agent.model_copy(
        update={
            "step": step,
            "rounds": agent.rounds + 1,
            # This decision has not seen the inputs that were left out: a turn that closes on it is loaded once more.
            "inbox": agent.inbox - asked.pending.left,
            "plan": plan,
            "children": [*agent.children, *(child.agent_id for child in decision.children)],
            "fingerprint": decision.fingerprint or agent.fingerprint,
            "doubted": decision.doubted,
            "used": used.model_copy(
                update={
                    "steps": used.steps + 1,
                    "tokens": used.tokens + reply.usage.input_tokens + reply.usage.output_tokens,
                    "cost_micro_usd": used.cost_micro_usd + reply.usage.cost_micro_usd,
                    "replans": used.replans + replans,
                    "wrong_replies": used.wrong_replies + 1 if decision.action == "INVALID" else 0,
                    "repeats": repeats,
                }
            ),
        }
    )
